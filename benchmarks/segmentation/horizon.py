"""Effect of a horizon on quality and memory, compared with the exact result.

    python -m benchmarks.segmentation.horizon             scores and memory (a Markdown table)
    python -m benchmarks.segmentation.horizon surfaces    data passed up in the last round, by level

The first is the whole FIB-25 slab in blocks of 32³, scored against its truth by the bundled
pipeline. The baseline's network was trained on sections 0-150, so compare rows with each other, not
with other networks. The second is its affinities mirrored to 320 x 256 x 256 voxels in blocks of
64³.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import volflow
from benchmarks.data import AFFINITY, RESOLUTION, labels, mirrored
from volflow.core.geometry import Block, Triple
from volflow.engine.api import make_plan
from volflow.engine.job import Job
from volflow.engine.worker.block_range import job_path
from volflow.io.run.ledger import Ledger
from volflow.io.run.records import Records

SIDES = (None, 128, 64, 32)
SURFACES = ((64, 2000), (128, 2000), (64, 0), (128, 0))  # horizon and min_size
LARGE: Triple = (320, 256, 256)


def most_passed(options: list[str]) -> int:
    """Largest number of bytes that a node of the agglomeration passed up."""
    plan = make_plan("segment_and_score", overrides=options)
    ledger = Ledger(plan.pipeline.run)
    bodies = [c for job in plan.step("agglomerate").jobs for c in ledger.costs(job_path(job))]
    return int(max(body.get("max.passed_bytes", 0) for body in bodies))


def qualities() -> None:
    """Print scores and the most data passed up, for each horizon."""
    print("| horizon | VI split | VI merge | VI | ARAND | most passed up, MiB |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        for side in SIDES:
            options = [
                f"run={run}",
                f"volumes.affinity.path={AFFINITY}",
                f"volumes.affinity.resolution={list(RESOLUTION)}",
                f"volumes.truth.path={labels('neuron_ids')}",
                f"volumes.truth.resolution={list(RESOLUTION)}",
                "block=[32,32,32]",
                f"steps.agglomerate.horizon={side or 'null'}",
            ]
            result = volflow.run("segment_and_score", overrides=options, cluster="local")
            assert result.ok
            scores = result.results["score"]
            numbers = [scores[name] for name in ("vi_split", "vi_merge", "vi", "arand")]
            row = " | ".join(f"{number:.3f}" for number in numbers)
            print(f"| {side or 'exact'} | {row} | {most_passed(options) / 2**20:.2f} |", flush=True)


def open_voxels(block: Block) -> int:
    """Voxels of the faces of a block that are not on the bounds of the volume."""
    voxels = 0
    for axis in range(3):
        low, high = block.bounds.start[axis], block.bounds.stop[axis]
        inner = (block.write.start[axis] > low) + (block.write.stop[axis] < high)
        voxels += inner * block.write.size // block.write.shape[axis]
    return voxels


def passed_up(job: Job) -> Iterator[tuple[int, int, int]]:
    """Bytes, rows and open voxels of each node of a phase that has neighbours."""
    phase = job.phase
    name = f"records/{job.step}/{job.digest}/{phase.round_name}.up.{phase.level}"
    for block in phase.grid:
        if open_voxels(block):
            record = Records(job.run, name).read(block.index)
            rows = max(len(record.get(column, ())) for column in ("key", "id", "piece"))
            yield sum(column.nbytes for column in record.values()), rows, open_voxels(block)


def surfaces() -> None:
    """Print the data that nodes pass up in the last round, by level, for several horizons."""
    print("| horizon | `min_size` | node | nodes | rows | MB, most | bytes a voxel, mean | most |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        affinity = mirrored(Path(folder), LARGE)
        for side, min_size in SURFACES:
            options = [
                f"run={folder}/run",
                f"volumes.affinity.path={affinity}",
                f"volumes.affinity.resolution={list(RESOLUTION)}",
                "block=[64,64,64]",
                f"steps.agglomerate.horizon={side}",
                f"steps.agglomerate.min_size={min_size}",
            ]
            assert volflow.run("segment", overrides=options, until="agglomerate").ok
            plan = make_plan("segment", overrides=options)
            jobs = plan.step("agglomerate").jobs
            last = jobs[-1].phase.previous
            for job in jobs:
                if job.phase.round_name != last or not is_up(job):
                    continue
                nodes = list(passed_up(job))
                if nodes:
                    shape = "x".join(map(str, job.phase.grid.shape))
                    most, rows = max(n for n, _, _ in nodes), sum(n for _, n, _ in nodes)
                    mean = sum(n for n, _, _ in nodes) / sum(n for _, _, n in nodes)
                    share = max(n / voxels for n, _, voxels in nodes)
                    cells = f"{len(nodes)} | {rows:,} | {most / 1e6:.3f} | {mean:.3f} | {share:.3f}"
                    print(f"| {side} | {min_size} | {shape} | {cells} |", flush=True)


def is_up(job: Job) -> bool:
    """Whether nodes of a phase pass data up."""
    return job.phase.kind in ("leaf", "join")


if __name__ == "__main__":
    surfaces() if sys.argv[1:] == ["surfaces"] else qualities()
