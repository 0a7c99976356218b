"""Skeleton files: SWC and precomputed, and their placement in a volume."""
