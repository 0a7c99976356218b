"""Meshes in Neuroglancer's precomputed formats."""

from volflow.io.meshes.sets import MeshSet
from volflow.io.meshes.surfaces import Surface, level_surface

__all__ = ["MeshSet", "Surface", "level_surface"]
