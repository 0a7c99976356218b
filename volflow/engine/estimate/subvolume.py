"""The blocks of a part of a large volume, run on their own as a trial does.

The result of a block may depend on the bounds around it: tiles of a network are anchored to them,
and a cluster at a face that borders on other blocks is not settled. So blocks of a part are
numbered within the part and carry the bounds of the whole.

    |--------------------------------------|   whole
              [ 0 ][ 1 ][ 2 ]                  part: written by the trial
          hhhh[ 0 ]hhhh                        halo of a block: read from the inputs in the whole,
                                               mirrored for volumes that the trial itself wrote
"""

from __future__ import annotations

from dataclasses import replace

from volflow.core.geometry import Box
from volflow.engine.job import Job
from volflow.engine.phases.registry import kind_of


def job_in(job: Job, like: Job, whole: Box) -> Job:
    """A job over a part, with the bounds of the whole; `like` is the same phase of the whole run.

    Nodes are those of the whole except for the root, which has to settle what its children pass:
    its bounds are the part, as those of the run's root are the whole.
    """
    phase, below = job.phase, job.phase.below
    settles = phase.root and kind_of(phase).root_settles
    around = phase.grid.bounds if settles else whole
    grid = replace(phase.grid, halo=like.phase.grid.halo, whole=around)
    children = below and replace(below, whole=whole)
    sources = {name: source.mirrored(whole) for name, source in job.sources.items()}
    return replace(job, phase=replace(phase, grid=grid, below=children), sources=sources)
