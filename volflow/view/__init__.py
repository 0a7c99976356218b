"""Seeing a run: its layers over HTTP, in Neuroglancer, as a picture and as a page."""
