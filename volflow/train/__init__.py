"""Training: volumes with truth in, a checkpoint out."""
