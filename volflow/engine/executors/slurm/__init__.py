"""Workers in Slurm jobs: checks, job scripts, pools of workers, replacement of ended jobs."""
