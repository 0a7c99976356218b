"""Thin adapters from a block's arrays to an algorithm."""
