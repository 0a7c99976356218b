"""Skeleton files: SWC and precomputed, and their placement in a volume."""

from volflow.io.skeletons.sets import SkeletonSet, write_skeletons

__all__ = ["SkeletonSet", "write_skeletons"]
