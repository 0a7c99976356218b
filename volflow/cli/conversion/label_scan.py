"""The labels of a volume and their consecutive ids, from a run of the `renumber` stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from volflow.cli.conversion.request import AUTO, BLOCK, Request
from volflow.errors import PlanError

if TYPE_CHECKING:
    from volflow.engine.job import Plan

STEP = {"use": "renumber", "in": {"labels": "volume"}}
ROWS = 1 << 20  # of the table, written at a time


class LabelScan(NamedTuple):
    """The labels of a volume, ascending, 0 excluded; the n-th has the id n."""

    labels: np.ndarray

    @property
    def largest(self) -> int:
        """The largest label, 0 if there are none."""
        return int(self.labels.max(initial=0))

    def ids_of(self, labels: np.ndarray) -> np.ndarray:
        """The consecutive ids of the labels in an array; 0 stays 0."""
        from volflow.segment.relabel import relabel

        ids = np.arange(1, len(self.labels) + 1, dtype=np.uint64)
        return relabel(labels.astype(np.uint64, copy=False), self.labels, ids)


def document(request: Request, run: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """A pipeline of some steps that read the source, as `volume`."""
    spec = request.volume.spec
    volume: dict[str, Any] = {"path": spec.path, "level": spec.level}
    if spec.resolution is not None:
        volume["resolution"] = list(spec.resolution)
    return {
        "run": run,
        "volumes": {"volume": volume},
        "block": [side * max(1, BLOCK // side) for side in request.chunk],
        "steps": steps,
    }


def scan_labels(request: Request, run: str) -> LabelScan:
    """List the labels of the source in a run.

    Raises
    ------
    PlanError
        If the source has no labels.
    """
    from volflow.cli.terminal.execution import run_with_progress
    from volflow.engine.api import make_plan

    require_labels(request)
    pipeline = document(request, run, [STEP])
    if request.resolution is None:
        pipeline["resolution"] = [1, 1, 1]  # labels do not depend on it
    plan = make_plan(pipeline, profile=request.profile, bounds=request.bounds)
    run_with_progress(plan, request.profile, temporary=request.out is None)
    return LabelScan(_root_record(plan)["label"])


def require_labels(request: Request) -> None:
    """Raise if the source holds other numbers than labels.

    Raises
    ------
    PlanError
    """
    volume = request.volume
    option = "--renumber" if request.renumber else f"--dtype {AUTO}"
    if volume.dtype.kind != "u" or volume.channels:
        channels = f", {volume.channels} channels" if volume.channels else ""
        raise PlanError(
            f"{option}: expected labels (unsigned integers without channels); "
            f"got {volume.dtype}{channels}"
        )


def _root_record(plan: Plan) -> dict[str, np.ndarray]:
    """The record that the root of the step passed up: all labels."""
    from volflow.engine.phases.reduce import root_records

    return root_records(plan.step("renumber").jobs)[0]


def narrowest_dtype(request: Request, scan: LabelScan) -> str:
    """The smallest unsigned type that holds the ids or labels.

    For precomputed labels at least 32 bits: shorter ones cannot be stored as
    compressed_segmentation, and would take more space.
    """
    largest = len(scan.labels) if request.renumber else scan.largest
    packed = request.destination.format_name == "precomputed" and request.kind == "segmentation"
    for bits in (8, 16, 32):
        if largest < 1 << bits and not (packed and bits < 32):
            return f"uint{bits}"
    return "uint64"


def write_ids_table(request: Request, scan: LabelScan) -> None:
    """Write the table of old and new ids, CSV with columns `old` and `new`, next to the copy."""
    from volflow.io.store import Store
    from volflow.io.tables.columns import csv_of

    folder, _, name = request.ids_table.rpartition("/")
    parts = []
    for start in range(0, max(1, len(scan.labels)), ROWS):
        old = scan.labels[start : start + ROWS]
        new = np.arange(start + 1, start + 1 + len(old), dtype=np.uint64)
        text = csv_of({"old": old, "new": new})
        parts.append(text if start == 0 else text.partition("\n")[2])
    Store(folder or "/").write(name, "".join(parts).encode())
