"""Export the trained detector: files for other runtimes, each compared with PyTorch before it is written."""
