"""A small run of every kind of pass, at any address, and what has to come of it."""

from __future__ import annotations

import numpy as np

from tests.engine.runs import BOUNDS as WHOLE
from tests.engine.runs import expected_index, planned, toy
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.engine.driver import execute
from volflow.engine.job import Plan
from volflow.engine.result import RunResult
from volflow.engine.worker.block_range import job_path
from volflow.errors import StorageError
from volflow.io.run.ledger import Ledger
from volflow.io.store import Store
from volflow.io.volume import Volume

BOUNDS = Box((2, 3, 4), (18, 19, 23))  # 12 blocks
VOLUMES = {
    "index": {"path": "zarr3://{run}/index", "encoding": "blosc"},
    "double": {"path": "precomputed://{run}/double", "shard": [16, 16, 16], "chunk": [8, 8, 8]},
}
SHARDS = {"path": "zarr3://{run}/blur", "shard": [16, 16, 16], "chunk": [8, 8, 8]}
TELLS_OF_THE_RUN = ("ledger/", "outline.json", "pipeline.yaml", "volflow.", "events", "logs")
"""Keys, or parts of them, with times, or the address of the run, in what they hold."""


def small_run(run: str, shards: bool = False, **index: object) -> Plan:
    """Maps, a reduction and its records; zarr 3 (with `shards` sharded, too) and precomputed."""
    volumes = {
        name: {**spec, "path": str(spec["path"]).format(run=run)}
        for name, spec in {**VOLUMES, **({"blur": SHARDS} if shards else {})}.items()
    }
    steps = (
        toy("Index", **{"with": index}),
        toy("Double", block=[16, 16, 16]),
        toy("Blur", **({"block": [16, 16, 16]} if shards else {})),
        toy("Total"),
    )
    return planned(run, *steps, volumes=volumes, bounds=str(BOUNDS))


def objects(run: str) -> dict[str, bytes | None]:
    """Objects of a run that are equal, byte by byte, in any other run of the same pipeline."""
    store = Store(run)
    keys = [key for key in store.list() if not any(part in key for part in TELLS_OF_THE_RUN)]
    return {_without_digest(key): store.read(key) for key in keys}


def _without_digest(key: str) -> str:
    """A record's key, whose third part is a digest that the address of the run is in."""
    parts = key.split("/")
    return "/".join(parts[:2] + parts[3:]) if parts[0] == "records" else key


def wrongly_marked(plan: Plan) -> list[str]:
    """Blocks of the first step that are marked as done and hold anything but what they should."""
    job = plan.steps[0].jobs[0]
    spec = VolumeSpec(path=VOLUMES["index"]["path"].format(run=plan.pipeline.run))  # type: ignore[attr-defined]
    ledger, wrong = Ledger(job.run), []
    marked = [n for start, stop in ledger.done(job_path(job)) for n in range(start, stop)]
    volume = Volume.open(spec, own=True) if marked else None
    for number in marked:
        box = job.phase.grid[number].write
        assert volume is not None
        try:
            same = np.array_equal(volume.read(box), expected_index()[box.within(WHOLE)])
        except StorageError:
            same = False
        if not same:
            wrong.append(str(box))
    return wrong


def run_to_the_end(plan: Plan, attempts: int = 30) -> tuple[RunResult, list[str]]:
    """Run, and run again after failures; the last result, and the messages on the way."""
    reported: list[str] = []
    for _ in range(attempts):
        try:
            result = execute(plan)
        except StorageError as error:
            reported.append(str(error))
            continue
        reported += [failure.error for failure in result.failures]
        if result.ok:
            return result, reported
    raise AssertionError(f"{attempts} runs were not enough: {reported}")
