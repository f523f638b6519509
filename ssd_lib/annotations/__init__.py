"""Annotations without torch: one form (COCO), its checks and its repair."""
