"""`convert`: a volume, skeletons or a table, copied into another format, chunk or type."""

from __future__ import annotations

from typing import Any

import click

from volflow.cli.conversion.request import AUTO, CHUNK, Kind, Request
from volflow.cli.terminal import options
from volflow.errors import PlanError

MOST_SCALES = 21


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
@click.option("--chunk", metavar="Z,Y,X", help=f"Voxels of a chunk. [default: {CHUNK} each]")
@click.option(
    "--encoding",
    default="",
    help="precomputed: raw, compressed_segmentation, jpeg; zarr and n5: zstd, blosc, gzip, raw; "
    "TIFF: zlib, lzw, zstd, raw; HDF5: gzip, lzf, raw. [default: zstd, zlib, gzip; precomputed "
    "compressed_segmentation for labels of 32 and 64 bits, raw otherwise]",
)
@click.option("--bounds", metavar="Z0:Z1,Y0:Y1,X0:X1", help="In voxels. [default: all of SRC]")
@click.option("--level", type=click.IntRange(0), default=0, show_default=True, help="Scale of SRC.")
@click.option(
    "--scales",
    metavar="N",
    default=AUTO,
    show_default=True,
    help="Scales of the copy, each about half as large as the one before; auto: until no side is "
    "longer than 64 voxels. TIFF and HDF5 hold one.",
)
@click.option("--resolution", metavar="Z,Y,X", help="Nanometres per voxel, if SRC has none.")
@click.option(
    "--dtype",
    help="Type of the copy, such as uint32; a number that it cannot hold is an error. auto: the "
    "narrowest that holds all labels. [default: that of SRC]",
)
@click.option(
    "--renumber",
    is_flag=True,
    help="Replace labels by consecutive ids 1, 2, ...; a table next to DST (neurons.ids.csv) lists "
    "the old and new ones.",
)
@click.option(
    "--kind",
    type=click.Choice(["image", "affinity", "segmentation"]),
    help="Meaning of the numbers. [default: segmentation for integers of 32 bits and more]",
)
@click.option(
    "--names",
    type=click.Choice(["cave", "neuprint", "dvid"]),
    help="Of a table: columns as CAVE (synapses), neuPrint (edges, neurons) or DVID "
    "(agglomeration) names them.",
)
@click.option("--out", metavar="DIR", help="Keep the run in DIR, so that it can be resumed.")
@click.option("--overwrite", is_flag=True, help="Replace a file, or a volume of volflow's, at DST.")
@options.workers
def convert(
    source: str,
    destination: str,
    *,
    chunk: str | None,
    encoding: str,
    level: int,
    resolution: str | None,
    dtype: str | None,
    kind: Kind | None,
    scales: str,
    cluster: str,
    workers: int | None,
    timeout: float | None,
    names: str | None,
    **chosen: Any,
) -> None:
    """Copy a volume, skeletons or a table into another format.

    DST is precomputed://, zarr://, zarr3:// or n5:// and a path; a file FILE.tif or FILE.h5
    (hdf5://FILE.h5?dataset=NAME); or tiff://FOLDER for one TIFF file per section. Of skeletons, it
    is swc://FOLDER, a file ID.swc each in nanometres, or precomputed-skeletons://FOLDER.

    Of a table (CSV, Parquet), DST is FILE.csv or FILE.parquet; of edges or synapses also FILE.npz,
    a sparse matrix for scipy, or FILE.graphml.

    DST appears when it is complete; with --out, and on object stores, it is written in place. What
    exists at DST is kept without --overwrite.
    """
    from volflow.cli.conversion.request import destination_of, open_source
    from volflow.cli.conversion.skeletons import (
        convert_skeletons,
        is_of_skeletons,
        refuse_options,
    )
    from volflow.cli.conversion.tables import convert_table, is_of_table
    from volflow.cli.conversion.to_file import convert_to_file
    from volflow.cli.conversion.to_volume import convert_to_volume
    from volflow.core.geometry import zyx
    from volflow.engine.executors.profile import find_profile

    if is_of_skeletons(destination):
        refuse_options(click.get_current_context(), ("source", "destination", "overwrite"))
        count = convert_skeletons(source, destination, chosen["overwrite"])
        if not options.quiet():
            click.echo(f"wrote {count} skeletons to {destination}")
        return
    if is_of_table(source):
        refuse_options(click.get_current_context(), ("source", "destination", "overwrite", "names"))
        count = convert_table(source, destination, names, chosen["overwrite"])
        if not options.quiet():
            click.echo(f"wrote {destination}, of {count} rows")
        return
    if names is not None:
        raise click.UsageError("--names applies to tables (.csv, .parquet)")
    profile = find_profile(cluster, workers=workers, timeout=timeout)
    volume = open_source(source, level, _numbers("--resolution", resolution, float))
    labels = volume.dtype.kind in "ui" and volume.dtype.itemsize >= 4 and not volume.channels
    request = Request(
        volume=volume,
        destination=destination_of(destination),
        dtype=_checked_dtype(dtype or volume.dtype.name),
        kind=kind or ("segmentation" if labels else "image"),
        chunk=zyx(_numbers("--chunk", chunk, int) or CHUNK),
        encoding=encoding,
        scales=_scale_count(scales),
        profile=profile,
        **chosen,
    )
    if request.file is None:
        convert_to_volume(request)
    else:
        convert_to_file(request)
    if options.quiet():
        return
    click.echo(f"wrote {destination}")
    if request.renumber:
        click.echo(f"wrote {request.ids_table}")


def _checked_dtype(name: str) -> str:
    from volflow.stages.convert import number_type

    if name == AUTO:
        return name
    try:
        return number_type(name)
    except ValueError as error:
        raise PlanError(f"--dtype: {error}") from error


def _scale_count(text: str) -> int | None:
    """A number of scales; None for `auto`."""
    if text == AUTO:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= MOST_SCALES:
        raise click.UsageError(f"--scales: expected auto or 1 to {MOST_SCALES}; got {text!r}")
    return int(text)


def _numbers(option: str, text: str | None, kind: type) -> list[Any] | None:
    """Three numbers of an option, or one for all axes."""
    if text is None:
        return None
    try:
        parts = [kind(part) for part in text.replace("x", ",").split(",")]
    except ValueError:
        parts = []
    if len(parts) not in (1, 3) or min(parts) <= 0:
        raise click.UsageError(f"{option}: expected one number or three, Z,Y,X; got {text!r}")
    return parts * (3 // len(parts))
