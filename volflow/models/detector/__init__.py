"""Detector of objects in single sections, with an embedding of each: boxes to link into tracks."""
