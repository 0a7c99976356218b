"""Plans and runs steps over blocks; the only place that knows Dask."""
