"""Slurm: job scripts, pools of workers, replacement of lost jobs."""
