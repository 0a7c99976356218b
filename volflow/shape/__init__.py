"""Shapes of segments: skeletons."""
