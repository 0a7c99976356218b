"""Declarations of the work on a block: typed parameters, inputs, outputs and pure functions.

Stage       a map: each block alone
Reduction   up a pyramid of grids, and down again on request
Grouping    rows of all blocks, brought together by key
Chain       sections in order, each part with the state of the one before
Phase       one pass of a step over one grid of blocks; the engine runs nothing else
SIZE ...    marks of parameters in voxels that also take units such as µm³
"""

from volflow.core.stage.chain import Chain, Onward
from volflow.core.stage.chain_grid import ChainGrid
from volflow.core.stage.grouping import Group, Grouping, ObjectById
from volflow.core.stage.layer import (
    Columns,
    ForeignLayer,
    HaloRegion,
    Layer,
    ObjectsById,
    Record,
    Table,
)
from volflow.core.stage.phase import Phase
from volflow.core.stage.reduction import PreviousRound, Reduction, Up, pyramid
from volflow.core.stage.registry import find_stage, installed_stages, registered_name
from volflow.core.stage.stage import Stage
from volflow.core.stage.units import AREA, LENGTH, SIDES, SIZE, SUM, InUnits, OfRun, Resolved, Units

__all__ = [
    "AREA",
    "LENGTH",
    "SIDES",
    "SIZE",
    "SUM",
    "Chain",
    "ChainGrid",
    "Columns",
    "ForeignLayer",
    "Group",
    "Grouping",
    "HaloRegion",
    "InUnits",
    "Layer",
    "ObjectById",
    "ObjectsById",
    "OfRun",
    "Onward",
    "Phase",
    "PreviousRound",
    "Record",
    "Reduction",
    "Resolved",
    "Stage",
    "Table",
    "Units",
    "Up",
    "find_stage",
    "installed_stages",
    "pyramid",
    "registered_name",
]
