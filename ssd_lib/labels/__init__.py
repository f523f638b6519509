"""Suspected errors of the labels: what a trained detector contradicts, ranked, drawn, and as files for annotation tools."""
