"""From files to batches: augmentation, data set, stateless order."""
