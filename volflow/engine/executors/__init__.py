"""Executors: this process, Dask workers on this machine or a remote scheduler, Slurm jobs."""
