"""The stages: one file each, a thin adapter from a block's arrays to an algorithm."""
