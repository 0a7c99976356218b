"""The version of volflow."""

__version__ = "0.1.0"
