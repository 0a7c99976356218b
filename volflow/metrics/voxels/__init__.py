"""Voxel metrics: contingency tables, VI, ARAND."""
