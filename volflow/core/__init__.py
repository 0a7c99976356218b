"""Geometry and declarations: no reading, no writing, no Dask."""
