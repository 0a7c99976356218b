"""Neuroglancer: layers, scene, viewer state and screenshots."""
