"""Synthetic neuropil: touching, branching neurites with an exact truth, block by block."""

from volflow.synth.bodies import least_side
from volflow.synth.neuropil import Neuropil, Rendered, Scene, Synapses
from volflow.synth.sections import Sections
from volflow.synth.skeletons import Skeletons

__all__ = ["Neuropil", "Rendered", "Scene", "Sections", "Skeletons", "Synapses", "least_side"]
