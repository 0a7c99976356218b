"""Conversion into a file: TIFF, a folder of TIFF sections, or HDF5, in this process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
import numpy as np

from volflow.cli import BLOCKS_FAILED
from volflow.cli.conversion.label_scan import (
    LabelScan,
    narrowest_dtype,
    require_labels,
    scan_labels,
    write_ids_table,
)
from volflow.cli.conversion.request import AUTO, Request, require_free
from volflow.cli.terminal import options
from volflow.errors import BlockError, PlanError

if TYPE_CHECKING:
    from volflow.io.export.slabs import Export

TIFF_ENDINGS = (".tif", ".tiff")
PLAIN_EVERY = 10.0  # seconds between two lines of progress in a log


def convert_to_file(request: Request) -> None:
    """Convert into TIFF or HDF5; the file appears when it is complete.

    Raises
    ------
    PlanError
        If the request cannot be met; nothing was written.
    """
    from volflow.cli.terminal.formatting import print_warnings
    from volflow.cli.terminal.run_folder import run_folder
    from volflow.io.export.slabs import Export

    require_free(request)
    if (request.scales or 1) > 1:
        raise PlanError(
            f"--scales: {request.destination.format_name} holds one scale; got {request.scales}"
        )
    box = request.box
    print_warnings(request.volume.warnings)
    scan = None
    if request.scans_labels:
        require_labels(request)
        with run_folder(request.out) as folder:
            scan = scan_labels(request, folder)
    dtype = request.dtype
    if dtype == AUTO:
        assert scan is not None
        dtype = narrowest_dtype(request, scan)
    transform = _transform(dtype, scan if request.renumber else None)
    with _progress(box.shape.z) as report:
        export = Export(request.volume, box, np.dtype(dtype), transform, report)
        try:
            _write(request, export)
        except BlockError as error:
            click.echo(f"volflow: {error}; nothing was written", err=True)
            sys.exit(BLOCKS_FAILED)
    if scan is not None and request.renumber:
        write_ids_table(request, scan)
    lost_offset = request.destination.format_name == "tiff" and any(box.start)
    if lost_offset and not options.quiet():
        click.echo(f"its first voxel is {box.start} (z, y, x), which TIFF does not hold", err=True)


def _write(request: Request, export: Export) -> None:
    from volflow.io.export.hdf5 import DATASET, write_hdf5
    from volflow.io.export.tiff import write_sections, write_tiff

    path = request.file
    assert path is not None
    if request.destination.format_name == "hdf5":
        dataset = dict(request.destination.query).get("dataset", DATASET)
        write_hdf5(
            export, path, request.resolution, request.encoding, dataset=dataset, chunk=request.chunk
        )
    elif path.suffix.lower() in TIFF_ENDINGS:
        write_tiff(export, path, request.resolution, request.encoding)
    else:
        write_sections(export, path, request.resolution, request.encoding)


def _transform(dtype: str, scan: LabelScan | None) -> Callable[[np.ndarray], np.ndarray]:
    """The change of numbers: labels to ids if there is a scan, then the type."""
    from volflow.stages.convert import exact_cast

    def transform(array: np.ndarray) -> np.ndarray:
        return exact_cast(array if scan is None else scan.ids_of(array), dtype)

    return transform


@contextmanager
def _progress(sections: int) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of sections written: a bar, or lines in a log."""
    if options.quiet():
        yield lambda count: None
        return
    from rich.progress import Progress

    from volflow.cli.terminal.formatting import output

    console = output()
    if console.is_terminal:
        with Progress(console=console) as bar:
            task = bar.add_task("sections", total=sections)
            yield lambda count: bar.update(task, completed=count)
        return
    due = time.monotonic() + PLAIN_EVERY

    def report(count: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + PLAIN_EVERY
            console.print(f"{count} of {sections} sections", markup=False)

    yield report
