"""`convert`: a volume copied into another format, chunk or type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from volflow.cli.terminal import options
from volflow.errors import PlanError, StorageError

if TYPE_CHECKING:
    from volflow.io.volume import Volume

CHUNK = 64  # voxels along each side of a chunk, if nothing is said
BLOCK = 128  # a block is whole chunks, about this many voxels along each side


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
@click.option("--chunk", metavar="Z,Y,X", help=f"Voxels of a chunk; default: {CHUNK} each.")
@click.option("--encoding", help="precomputed: raw, compressed_segmentation, jpeg; zarr: zstd, ...")
@click.option("--bounds", metavar="Z0:Z1,Y0:Y1,X0:X1", help="In voxels; default: all of it.")
@click.option("--resolution", metavar="Z,Y,X", help="Nanometres, where the source does not tell.")
@click.option("--dtype", help="Type of the copy; a number that it cannot hold is an error.")
@click.option(
    "--kind",
    type=click.Choice(["image", "affinity", "segmentation"]),
    help="What the numbers are; default: segmentation for integers of 32 bits and more.",
)
@click.option("--out", metavar="DIR", help="Keep the run there, so that it can be resumed.")
@click.option("--overwrite", is_flag=True, help="Replace a volume of volflow's at DST.")
@options.workers
def convert(
    source: str,
    destination: str,
    chunk: str | None,
    bounds: str | None,
    resolution: str | None,
    out: str | None,
    overwrite: bool,
    cluster: str,
    workers: int | None,
    timeout: float | None,
    **wanted: Any,
) -> None:
    """Copy a volume into another format, chunk or type.

    DST is precomputed://, zarr://, zarr3:// or n5:// and a path. Not resumable
    without --out. What is at DST already is left alone without --overwrite.
    """
    from volflow.cli.terminal.execution import run_with_progress
    from volflow.cli.terminal.run_folder import holds_run, run_folder
    from volflow.engine.api import make_plan
    from volflow.engine.executors.profile import find_profile

    profile = find_profile(cluster, workers, timeout)
    nm = _numbers("--resolution", resolution, float)
    volume = _opened(source, nm)
    if not overwrite and not (out and holds_run(out)):
        _require_free(destination)
    chunks = _numbers("--chunk", chunk, int) or [CHUNK] * 3
    with run_folder(out) as folder:
        document = {
            "run": folder,
            "volumes": {
                "volume": {"path": source, **({"resolution": nm} if nm else {})},
                "copy": _copy(destination, chunks, wanted.pop("encoding")),
            },
            "block": [side * max(1, BLOCK // side) for side in chunks],
            "steps": [{"use": "convert", "with": _parameters(volume, **wanted)}],
        }
        run_with_progress(make_plan(document, profile=profile, bounds=bounds), profile)
    click.echo(f"wrote {destination}")


def _opened(source: str, nm: list[float] | None) -> Volume:
    from volflow.config.pipeline import VolumeSpec
    from volflow.io.volume import Volume

    spec = VolumeSpec.model_validate({"path": source, "resolution": nm})
    try:
        return Volume.open(spec)
    except StorageError as error:
        raise PlanError(f"SRC: {error}") from error


def _copy(path: str, chunk: list[int], encoding: str | None) -> dict[str, Any]:
    return {"path": path, "chunk": chunk, **({"encoding": encoding} if encoding else {})}


def _parameters(volume: Volume, dtype: str | None, kind: str | None) -> dict[str, Any]:
    """What the stage has to know of its input."""
    labels = volume.dtype.kind in "ui" and volume.dtype.itemsize >= 4 and not volume.channels
    return {
        "dtype": dtype or volume.dtype.name,
        "channels": volume.channels,
        "kind": kind or ("segmentation" if labels else "image"),
    }


def _require_free(destination: str) -> None:
    from volflow.io.address import Address
    from volflow.io.store import Store

    if Store(Address.parse(destination).location).list():
        raise PlanError(f"there is something at {destination} already (--overwrite replaces it)")


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
