"""Declarations of the work on a block: typed parameters, inputs, outputs and pure functions.

Stage       a map: each block alone
Reduction   up a pyramid of grids, and down again on request
Grouping    rows of all blocks, brought together by key
Phase       one pass of a step over one grid of blocks; the engine runs nothing else
"""

from volflow.core.stage.grouping import Group, Grouping
from volflow.core.stage.layer import Columns, HaloRegion, Layer, Record
from volflow.core.stage.phase import Phase
from volflow.core.stage.reduction import PreviousRound, Reduction, Up, pyramid
from volflow.core.stage.registry import find_stage, installed_stages, registered_name
from volflow.core.stage.stage import Stage

__all__ = [
    "Columns",
    "Group",
    "Grouping",
    "HaloRegion",
    "Layer",
    "Phase",
    "PreviousRound",
    "Record",
    "Reduction",
    "Stage",
    "Up",
    "find_stage",
    "installed_stages",
    "pyramid",
    "registered_name",
]
