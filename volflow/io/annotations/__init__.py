"""Annotations in Neuroglancer's precomputed format."""
