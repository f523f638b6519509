"""Data, servers and trained projects for the tests. Test files import from here, not from each other."""
