"""Checkpoints: the files from which a run continues, and their folders."""
