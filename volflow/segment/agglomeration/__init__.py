"""Greedy agglomeration of fragments, exact for any blocks."""
