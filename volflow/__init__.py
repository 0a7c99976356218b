"""volflow: from electron microscopy volumes to neurons, block by block.

The names in `__all__` are the public interface: they stay, while the modules under `volflow` may
move. Each is imported when it is first used, so that `import volflow` is fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from volflow.lazy_names import lazy_names
from volflow.version import __version__

if TYPE_CHECKING:
    from volflow import metrics
    from volflow.api import open_volume, plan, run, write_volume
    from volflow.core.geometry import Block, BlockGrid, Box, Triple, Zyx, zyx
    from volflow.core.skeleton import Skeleton
    from volflow.core.stage import (
        Chain,
        Columns,
        Group,
        Grouping,
        InUnits,
        Layer,
        OfRun,
        Onward,
        Phase,
        PreviousRound,
        Record,
        Reduction,
        Stage,
        Up,
    )
    from volflow.engine.job import Plan
    from volflow.engine.monitor.observer import RunObserver
    from volflow.engine.result import Failure, RunResult, StepResult
    from volflow.errors import (
        BlockError,
        ClusterError,
        PlanError,
        RunHeld,
        StorageError,
        StorageFull,
        VolflowError,
    )
    from volflow.io.volume import Volume

__all__ = [
    "Block",
    "BlockError",
    "BlockGrid",
    "Box",
    "Chain",
    "ClusterError",
    "Columns",
    "Failure",
    "Group",
    "Grouping",
    "InUnits",
    "Layer",
    "OfRun",
    "Onward",
    "Phase",
    "Plan",
    "PlanError",
    "PreviousRound",
    "Record",
    "Reduction",
    "RunHeld",
    "RunObserver",
    "RunResult",
    "Skeleton",
    "Stage",
    "StepResult",
    "StorageError",
    "StorageFull",
    "Triple",
    "Up",
    "VolflowError",
    "Volume",
    "Zyx",
    "__version__",
    "metrics",
    "open_volume",
    "plan",
    "run",
    "write_volume",
    "zyx",
]

_MODULES = {
    "volflow.api": "open_volume plan run write_volume",
    "volflow.core.geometry": "Block BlockGrid Box Triple Zyx zyx",
    "volflow.core.skeleton": "Skeleton",
    "volflow.core.stage": "Chain Columns Group Grouping InUnits Layer OfRun Onward Phase "
    "PreviousRound Record Reduction Stage Up",
    "volflow.engine.job": "Plan",
    "volflow.engine.monitor.observer": "RunObserver",
    "volflow.engine.result": "Failure RunResult StepResult",
    "volflow.errors": "BlockError ClusterError PlanError RunHeld StorageError StorageFull "
    "VolflowError",
    "volflow.io.volume": "Volume",
    "volflow.metrics": "metrics",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}

if not TYPE_CHECKING:  # a type checker would accept any name
    __getattr__, __dir__ = lazy_names(__name__, _HOME)
