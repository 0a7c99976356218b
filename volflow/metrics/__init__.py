"""Scores of segmentations, on numpy arrays."""
