"""Checks of images and annotations, and the report on them."""
