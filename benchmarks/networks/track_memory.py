"""Memory of a worker in parts of the stage `track`: the prediction of `plan` against the peak.

    python -m benchmarks.networks.track_memory [CASE ...]      affinity network

Image and affinities are those of the FIB-25 slab, mirrored in sections (VOLFLOW_DATA). The network
is the light one with random weights, written into a checkpoint. Points are on a grid, in the third
section from the end of the first part: arrays are as large as in any part, and the time is short.
Each part is run in a child process of its own, as on a worker, and the peak is that of the run's
markers. The second part has two sections; it begins with a state and reads the sections before it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.data import AFFINITY, RESOLUTION, labels, mirror_affinity, mirror_labels
from volflow.api import open_volume, write_volume
from volflow.checkpoints.header import Normalisation
from volflow.checkpoints.section_header import SectionHeader
from volflow.config.pipeline import from_dict
from volflow.core.geometry import Box
from volflow.engine.job import Plan
from volflow.engine.plan.plan import plan
from volflow.engine.targets import prepare
from volflow.engine.worker.child_process import Child
from volflow.models.iicats.network import IICats
from volflow.models.section_checkpoint import save_section_checkpoint

ALL = 0  # number of points: all objects are followed


class Case(NamedTuple):
    """Parts of one size."""

    follower: str
    """`affinity`, `same` or `network`."""
    side: int
    """Of a section, voxels."""
    part: int
    """Sections of the first part."""
    points: int = ALL
    back: bool = False
    """Whether a second step follows the points back, and has the labels of the first as input; its
    last part is the large one."""


CASES = {
    "affinity": [
        Case("affinity", 256, 4),
        Case("affinity", 256, 64, 30),
        Case("affinity", 512, 4),
        Case("affinity", 512, 32, 30),
        Case("affinity", 512, 32, 30, back=True),
        Case("affinity", 1024, 4),
        Case("affinity", 1024, 16, 30),
    ],
    "network": [
        Case("network", 256, 4),
        Case("network", 256, 64, 10),
        Case("network", 512, 4, 30),
        Case("network", 512, 32, 10),
        Case("network", 1024, 4, 30),
        Case("network", 1024, 16, 10),
    ],
}


def volumes(folder: Path, side: int, depth: int) -> dict[str, dict[str, str]]:
    """The declared volumes `em` and `affinity`, written if missing."""
    bounds = Box((0, 0, 0), (depth, side, side))
    sources = {"em": (labels("raw"), mirror_labels), "affinity": (AFFINITY, mirror_affinity)}
    declared = {}
    for name, (address, mirror) in sources.items():
        path = f"zarr://{folder}/{name}-{depth}-{side}.zarr"
        declared[name] = {"path": path}
        if not (folder / f"{name}-{depth}-{side}.zarr").exists():
            source = open_volume(address, resolution=RESOLUTION)
            array = mirror(source.read(source.bounds), bounds)
            write_volume(path, array, resolution=RESOLUTION)
    return declared


def network(folder: Path) -> str:
    """The path of a checkpoint of the light network with random weights."""
    path = folder / "light.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        header = SectionHeader(
            network="iicats",
            arguments={},
            voxel_size_nm=RESOLUTION,
            normalisation=Normalisation(kind="fixed", low=64, high=192),
        )
        save_section_checkpoint(path, IICats().state_dict(), header)
    return str(path)


def planned(folder: Path, case: Case, run: Path) -> Plan:
    """The plan of the step, or of both steps; the last one is measured."""
    options: dict[str, Any] = {"part": case.part, "follower": case.follower}
    if case.follower == "network":
        options["follower"] = network(folder)
    if case.points != ALL:
        across = int(np.ceil(np.sqrt(case.points)))
        places = np.linspace(10, case.side - 10, across).astype(int).tolist()
        options["points"] = [[case.part - 3, y, x] for y in places for x in places][: case.points]
    depth = case.part + 2
    steps: list[dict[str, Any]] = [{"use": "track", "with": options}]
    if case.back:
        out = {"tracks": "back", "beyond": "beyond_back", "cells": "cells_back"}
        options = {**options, "reverse": True}
        back = {"use": "track", "name": "back", "in": {"other_way": "tracks"}, "out": out}
        steps.append({**back, "with": options})
    document = {
        "run": str(run),
        "block": [case.part, case.side, case.side],
        "volumes": volumes(folder, case.side, depth),
        "steps": steps,
    }
    return plan(from_dict(document))


def peaks(plan: Plan) -> dict[str, int]:
    """The peak of the process in each phase of the last step, bytes."""
    actual = {}
    for step in plan.steps:
        prepare(plan.pipeline.run, step)
    for job in (job for step in plan.steps for job in step.jobs):
        child = Child(plan.search_path)
        try:
            outcome = child.run(job, 0, len(job.phase.grid))
        finally:
            child.close()
        assert not outcome.failures, outcome.failures
        actual[job.step, job.phase.name] = outcome.peak
    last = plan.steps[-1].name
    return {phase: peak for (step, phase), peak in actual.items() if step == last}


def main() -> None:
    chosen = [case for name in sys.argv[1:] or CASES for case in CASES[name]]
    heads = "follower", "section", "part", "objects", "phase", "predicted (MiB)", "peak (MiB)"
    print(f"| {' | '.join(heads)} | predicted / peak |")
    print("|---" * (len(heads) + 1) + "|")
    with tempfile.TemporaryDirectory(prefix="volflow-") as place:
        folder = Path(place)
        for number, case in enumerate(chosen):
            planned_case = planned(folder, case, folder / f"run-{number}")
            for phase, peak in peaks(planned_case).items():
                predicted = planned_case.steps[-1].memory[phase]
                count = "all" if case.points == ALL else case.points
                sizes = f"{predicted / 2**20:.0f} | {peak / 2**20:.0f} | {predicted / peak:.2f}"
                name = f"{case.follower}, `other_way`" if case.back else case.follower
                row = f"{name} | {case.side}² | {case.part} | {count} | {phase} | {sizes}"
                print(f"| {row} |", flush=True)


if __name__ == "__main__":
    main()
