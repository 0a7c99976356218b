"""Segmentation on numpy arrays."""
