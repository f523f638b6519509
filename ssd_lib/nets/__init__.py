"""The nets, one table row each."""
