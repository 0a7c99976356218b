"""The kinds of phases by their stored names, and the two entry points of a worker."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from volflow.core.stage import Phase
from volflow.engine.job import Job
from volflow.engine.phases.chain import ChainPart
from volflow.engine.phases.group import Gather, GroupRows, Rows
from volflow.engine.phases.inputs import read_inputs
from volflow.engine.phases.kind import BlockInputs, PhaseKind
from volflow.engine.phases.map import Map
from volflow.engine.phases.reduce import Finish, Join, Leaf, Split

KINDS: dict[str, PhaseKind] = {
    "map": Map(),
    "leaf": Leaf(),
    "join": Join(),
    "split": Split(),
    "finish": Finish(),
    "rows": Rows(),
    "gather": Gather(),
    "group": GroupRows(),
    "chain": ChainPart(),
}


def kind_of(phase: Phase) -> PhaseKind:
    """The kind of a phase."""
    return KINDS[phase.kind]


def run_block(
    job: Job, number: int, prefetched: Callable[[int], BlockInputs] | None = None
) -> dict[str, int]:
    """Run one block of a job and write its outputs.

    Parameters
    ----------
    job : Job
    number : int
        Row-major number of the block in the phase's grid.
    prefetched : callable, optional
        Returns the inputs of a block of a map; default: read now.

    Returns
    -------
    dict
        Costs; see `PhaseKind.run`.
    """
    block = job.phase.grid[number]
    if prefetched is None:
        return KINDS[job.phase.kind].run(job, block, partial(read_inputs, job, block))
    return KINDS[job.phase.kind].run(job, block, partial(prefetched, number))


def read_block(job: Job, number: int) -> BlockInputs:
    """The inputs of a block of a map; may be called in advance, from another thread."""
    return read_inputs(job, job.phase.grid[number])
