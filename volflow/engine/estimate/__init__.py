"""Estimates of a run's time, storage and memory from a few real blocks."""
