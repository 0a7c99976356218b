"""Checkpoints and networks as described by their headers, without torch."""
