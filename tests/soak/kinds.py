"""The kinds of harm with their shares of a soak, and the choice that a seed makes."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tests.soak import one_driver, two_drivers
from tests.soak.case import Case

Weights = Mapping[str, float]

ANY = {"none": 9, "tcp": 1.5, "local": 0.6, "none s3": 0.6, "tcp s3": 0.15, "slurm": 0.3}
ON_WORKERS = {"tcp": 6, "local": 1.5, "tcp s3": 0.3, "slurm": 0.4}
ON_THE_POOL = {"tcp": 6, "tcp s3": 0.5}
STALE = {"tcp": 4, "local": 1, "tcp s3": 0.4}
PIPELINES = {"toys": 3, "horizon": 2, "mask": 1, "objects": 1.5, "synapses": 1.5, "scores": 1.5}


class Kind(NamedTuple):
    """A kind of harm: what is done, how often of a hundred, and where."""

    run: Callable[[Case], None]
    share: float
    executors: Weights
    pipelines: Weights = PIPELINES


KINDS = {
    "kill-child": Kind(one_driver.kill_child, 4, ON_WORKERS),
    "kill-worker": Kind(one_driver.kill_worker, 4, ON_WORKERS),
    "kill-driver": Kind(one_driver.kill_driver, 15, ANY),
    "kill-scheduler": Kind(one_driver.kill_scheduler, 3, ON_THE_POOL),
    "pause-child": Kind(one_driver.pause_child, 3, ON_WORKERS),
    "pause-worker": Kind(one_driver.pause_worker, 3, ON_WORKERS),
    "pause-driver": Kind(one_driver.pause_driver, 8, ANY),
    "interrupt": Kind(one_driver.interrupt, 10, ANY),
    "parameters": Kind(one_driver.parameters, 13, ANY),
    "blocks": Kind(one_driver.blocks, 10, ANY),
    "takeover": Kind(two_drivers.takeover, 13, ANY),
    "stale-tasks": Kind(two_drivers.stale_tasks, 3, STALE),
    "two-starts": Kind(two_drivers.two_starts, 9, ANY),
    "two-runs": Kind(two_drivers.two_runs, 6, ANY, {"shared": 1}),
}


class Choice(NamedTuple):
    """The choices of a seed."""

    kind: str
    executor: str
    store: str
    pipeline: str


def chosen(seed: int, kind: str = "", executor: str = "", pipeline: str = "") -> Choice:
    """The kind, executor, store and pipeline of a seed; those that are given stay."""
    draw = random.Random(seed)
    drawn = kind or _drawn(draw, {name: each.share for name, each in KINDS.items()})
    where = _drawn(draw, KINDS[drawn].executors)
    name = _drawn(draw, KINDS[drawn].pipelines)
    place = (executor or where).split()
    return Choice(drawn, place[0], "".join(place[1:]) or "disk", pipeline or name)


def _drawn(draw: random.Random, weights: Weights) -> str:
    return draw.choices(list(weights), list(weights.values()))[0]
