"""Memory of a run according to its markers: peaks of workers, and edges passed up.

    python -m benchmarks.engine.memory maps     the same steps on a volume and on one 8 times larger
    python -m benchmarks.engine.memory reductions [SIDE [ROUNDS ...]]      edges and peaks by level

The baseline affinities of FIB-25, mirrored to a larger volume (benchmarks/data.py), in blocks of
64³.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import volflow
from benchmarks.data import mirrored
from volflow.engine.api import make_plan
from volflow.engine.worker.block_range import job_path
from volflow.io.run.ledger import Ledger

BLOCK = 64
Rows = dict[str, dict[str, float]]


def overrides(run: Path, affinity: str, **parameters: Any) -> list[str]:
    """Overrides of the bundled pipeline."""
    return [
        f"run={run}",
        f"volumes.affinity.path={affinity}",
        f"block=[{BLOCK},{BLOCK},{BLOCK}]",
        *(f"steps.agglomerate.{name}={value}" for name, value in parameters.items()),
    ]


def costs(options: list[str]) -> dict[str, Rows]:
    """Largest peak, nodes, predicted peak and data passed up, by step and phase."""
    plan = make_plan("segment", overrides=options)
    by_step: dict[str, Rows] = defaultdict(dict)
    for step in plan.steps:
        for job in step.jobs:
            bodies = Ledger(plan.pipeline.run).costs(job_path(job))
            row = {"nodes": float(len(job.phase.grid)), "predicted": step.memory[job.phase.name]}
            row["side"] = max(job.phase.grid.shape)
            for body in bodies:
                row["peak"] = max(row.get("peak", 0), body["peak"])
                row["seconds"] = row.get("seconds", 0) + body["seconds"]
                for name in ("passed.a", "passed_bytes"):
                    most = body.get(f"max.{name}", 0)
                    row[f"max.{name}"] = max(row.get(f"max.{name}", 0), most)
                    row[name] = row.get(name, 0) + body.get(name, 0)
            by_step[step.name][job.phase.name] = row
    return by_step


def maps() -> None:
    """Print the peak of a worker process on a volume and on one of eight times as many voxels."""
    print("| step | peak at 256³ (MiB) | peak at 512³ (MiB) | ratio |\n|---|---|---|---|")
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        for side in (256, 512):
            run = Path(folder) / str(side)
            options = overrides(run, mirrored(Path(folder), (side, side, side)))
            assert volflow.run("segment", overrides=options, cluster="local", workers=1).ok
            measured.append(costs(options))
    for step in ("fragments", "relabel", "pyramid"):
        small, large = (max(row["peak"] for row in one[step].values()) for one in measured)
        ratio = large / small
        print(f"| {step} | {small / 2**20:.0f} | {large / 2**20:.0f} | {ratio:.2f} |")


def reductions(side: int = 640, *joining: int) -> None:
    """Print the edges passed up by the largest node of each level, and the peak of a worker.

    Parameters
    ----------
    side : int
        Voxels along each side. In 640³ the middle node of 256³ has neighbours on all sides.
    *joining : int
        Numbers of joining rounds. Default: 0, 1 and 2.
    """
    titles = ["joining rounds", "phase", "side", "nodes", "edges passed up, most", "all"]
    titles += ["MiB passed, most", "peak MiB", "predicted MiB"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        affinity = mirrored(Path(folder), (side, side, side))
        for rounds in joining or (0, 1, 2):
            run = Path(folder) / f"run{rounds}"
            options = overrides(run, affinity, join_rounds=rounds)
            until = "agglomerate"
            result = volflow.run(
                "segment", overrides=options, cluster="local", workers=1, until=until
            )
            assert result.ok
            for name, row in costs(options)["agglomerate"].items():
                print(
                    f"| {rounds} | {name} | {row['side']:.0f} | {row['nodes']:.0f} "
                    f"| {row['max.passed.a']:.0f} | {row['passed.a']:.0f} "
                    f"| {row['max.passed_bytes'] / 2**20:.2f} | {row['peak'] / 2**20:.0f} "
                    f"| {row['predicted'] / 2**20:.0f} |"
                )
            print(f"# rounds {rounds}: agglomerate took {result.steps[1].seconds:.0f} s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["maps"]:
        maps()
    elif sys.argv[1:2] == ["reductions"]:
        reductions(*map(int, sys.argv[2:]))
    else:
        sys.exit(__doc__)
