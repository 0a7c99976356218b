"""Synthetic neuropil: touching, branching neurites with an exact truth, block by block."""

from volflow.synth.neuropil import Neuropil, Rendered

__all__ = ["Neuropil", "Rendered"]
