"""volflow: from electron microscopy volumes to neurons, block by block."""

__version__ = "0.1.0"
