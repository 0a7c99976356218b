"""Validation of a network during training."""
