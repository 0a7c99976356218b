"""Conversion into a chunked volume: steps `renumber`, `convert` and `pyramid` of a run.

On a local disk the copy is written under a hidden name and renamed when it is complete, so an
interrupted conversion leaves no volume that looks whole. With `--out`, which can be resumed, and
on object stores, which cannot rename, it is written in place.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from volflow.cli.conversion.label_scan import (
    STEP,
    document,
    narrowest_dtype,
    require_labels,
    scan_labels,
    write_ids_table,
)
from volflow.cli.conversion.request import AUTO, Request, require_free
from volflow.core.geometry import zyx
from volflow.errors import PlanError

if TYPE_CHECKING:
    from volflow.core.geometry import Triple
    from volflow.io.address import Address

SMALL = 64  # voxels per side below which a volume needs no coarser scale
MOST_LEVELS = 20


def convert_to_volume(request: Request) -> None:
    """Convert into precomputed, zarr or n5; exits with the code of the run if it fails."""
    from volflow.cli.terminal.run_folder import holds_run
    from volflow.io.creation import delete_volume
    from volflow.io.export.staging import Staged

    if request.scans_labels:
        require_labels(request)
    resumed = request.out is not None and holds_run(request.out)
    if not resumed:
        require_free(request)
    path = request.destination.local
    if path is None or request.out is not None:
        if request.volume.address.endswith(f"://{request.destination.location}"):
            raise PlanError("DST: it is SRC; expected another path")
        _run(request, request.destination)
        return
    staged = Staged(path)
    try:
        _run(request, replace(request.destination, location=str(staged.path)))
    except SystemExit:
        staged.release()
        click.echo(
            f"{path} was not written; its finished blocks are in {staged.path}: move that to "
            f"{path} once volflow retry has finished",
            err=True,
        )
        raise
    except BaseException:
        staged.discard()
        raise
    if request.overwrite:
        delete_volume(request.destination)
    staged.publish()


def _run(request: Request, destination: Address) -> None:
    """Scan the labels if they are needed, then write the copy to an address."""
    from volflow.cli.terminal.execution import run_with_progress
    from volflow.cli.terminal.run_folder import run_folder
    from volflow.engine.api import make_plan

    profile, temporary = request.profile, request.out is None
    with run_folder(request.out) as folder:
        dtype = request.dtype
        if request.scans_labels:
            widest = request.volume.dtype.name if dtype == AUTO else dtype
            make_plan(
                _document(request, destination, folder, widest),
                profile=profile,
                bounds=request.bounds,
            )
            scan = scan_labels(request, folder)
            dtype = narrowest_dtype(request, scan) if dtype == AUTO else dtype
            if request.renumber:
                write_ids_table(request, scan)
        pipeline = _document(request, destination, folder, dtype)
        plan = make_plan(pipeline, profile=profile, bounds=request.bounds)
        run_with_progress(plan, profile, temporary=temporary)


def _document(request: Request, destination: Address, run: str, dtype: str) -> dict[str, Any]:
    """The pipeline that writes the copy."""
    steps: list[dict[str, Any]] = [STEP] if request.renumber else []
    channels = request.volume.channels
    parameters = {"dtype": dtype, "channels": channels, "kind": request.kind}
    steps.append({"use": "convert", "with": parameters})
    levels = _levels(request, dtype)
    if levels:
        labels = request.kind == "segmentation"
        pyramid = {
            "kind": "labels" if labels else "image",
            "levels": levels,
            "factors": _factors(request)[:levels],
        }
        steps.append({"use": "pyramid", "in": {"labels": "copy"}, "with": pyramid})
    copy: dict[str, Any] = {"path": str(destination), "chunk": list(request.chunk)}
    if request.encoding:
        copy["encoding"] = request.encoding
    pipeline = document(request, run, steps)
    pipeline["volumes"]["copy"] = copy
    return pipeline


def _levels(request: Request, dtype: str) -> int:
    """The number of scales coarser than the copy.

    Automatic: until no side is longer than 64 voxels; none for integers whose mean cannot be
    taken.
    """
    if request.scales is not None:
        return request.scales - 1
    number_type = np.dtype(dtype)
    if request.kind != "segmentation" and number_type.kind in "ui" and number_type.itemsize > 4:
        return 0
    bounds = request.box
    for level, factor in enumerate(_factors(request)):
        if max(bounds.shape) <= SMALL:
            return level
        bounds = bounds.zoom_out(factor)
    return MOST_LEVELS


def _factors(request: Request) -> list[Triple]:
    """The factor of each level: 2 along the sides shorter than twice the shortest.

    So voxels of 40 x 4 x 4 nm become 40 x 8 x 8, 40 x 16 x 16, 40 x 32 x 32 and 80 x 64 x 64 nm.
    """
    sides = list(request.resolution or (1.0, 1.0, 1.0))
    factors: list[Triple] = []
    for _ in range(MOST_LEVELS):
        shortest = min(sides)
        factor = zyx([2 if side < 2 * shortest else 1 for side in sides])
        sides = [side * step for side, step in zip(sides, factor, strict=True)]
        factors.append(factor)
    return factors
