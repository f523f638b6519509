"""Measurements, each run as `python -m benchmarks.NAME` from the root of the project; docs/ holds their tables."""
