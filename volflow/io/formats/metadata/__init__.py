"""Metadata of volumes: axes, units, voxel size and position, by one reader."""
