"""Measurements, each run as `python -m benchmarks.NAME` from the root of the project; their tables stand in docs/."""
