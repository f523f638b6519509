"""Training data: dataset, augmentation, class balance, pixel cache, and batches in a reproducible order."""
