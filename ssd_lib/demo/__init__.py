"""Which file of a folder is what, for each format; nothing is read but what names images, splits and classes."""
