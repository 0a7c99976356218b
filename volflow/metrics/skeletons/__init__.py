"""Skeleton metrics: ERL, bERL, nERL and errors along skeletons."""
