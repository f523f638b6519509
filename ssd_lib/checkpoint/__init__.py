"""What a run needs to continue, and the folders that hold it."""
