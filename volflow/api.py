"""The functions of the public interface: `run`, `plan`, `open_volume` and `write_volume`.

Import them from `volflow` itself, which is the name that stays.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box, Triple, zyx
from volflow.core.stage import Layer
from volflow.engine.api import PipelineSource, carry_out, make_plan
from volflow.engine.executors.profile import OnStall, find_profile
from volflow.engine.job import Plan
from volflow.engine.result import RunResult
from volflow.io.volume import Volume

if TYPE_CHECKING:
    from volflow.engine.monitor.observer import RunObserver

logger = logging.getLogger(__name__)


def run(
    pipeline: PipelineSource,
    *,
    cluster: str = "none",
    workers: int | None = None,
    timeout: float | None = None,
    stall: float | None = None,
    on_stall: OnStall | None = None,
    overrides: Sequence[str] = (),
    bounds: str | None = None,
    only: str | None = None,
    from_: str | None = None,
    until: str | None = None,
    progress: bool | None = None,
    observer: RunObserver | None = None,
) -> RunResult:
    """Run a pipeline; a run that was interrupted is resumed.

    Parameters
    ----------
    pipeline : path, str or dict
        A pipeline file, the name of a bundled pipeline (`segment`), or the content of such a file.
    cluster : str
        `none` (this process), `local` (Dask workers on this machine), `cuda` (one per GPU of this
        machine), `slurm`, tls://HOST:PORT of a Dask scheduler, or a profile file. With `local` a
        script keeps its calls behind `if __name__ == "__main__":`, because Dask starts its workers
        by importing the script.
    workers : int, optional
        Number of local workers; default: as many as cores and memory allow.
    timeout : float, optional
        Time limit per block in seconds (0: none); default: the profile's, which is none.
    stall : float, optional
        Stall timeout: seconds without a finished block before `on_stall` applies (0: never);
        default: the profile's, which is 600.
    on_stall : `report`, `restart` or `end`, optional
        Action at the stall timeout: report it, restart the busy workers, or end the run.
    overrides : sequence of str
        `dotted.key=value`, as after `--set`.
    bounds : str, optional
        `z0:z1,y0:y1,x0:x1` in voxels, half-open.
    only, from_, until : str, optional
        Name of the only, the first or the last step to run.
    progress : bool, optional
        Whether to show progress; default: if a terminal or a notebook is attached and there is no
        `observer`. It is drawn in the notebook's cell, or on stderr.
    observer : RunObserver, optional
        Object whose methods are called as the run proceeds; excludes `progress=True`.

    Returns
    -------
    RunResult
        `ok` is true when every block of every step is done, `failures` lists the failed blocks,
        `results` holds the results of steps such as `score`, and `volumes` opens what was written.

    Raises
    ------
    PlanError
        If the pipeline cannot run as written, with all problems; nothing was started.
    RunHeld
        If another driver holds the run.

    Examples
    --------
    >>> import volflow
    >>> result = volflow.run("segment", overrides=["volumes.affinity.path=affinity.zarr"])
    >>> result.volumes["segmentation"][0:64, 0:512, 0:512]
    """
    if progress and observer is not None:
        raise ValueError("expected progress=True or an observer, got both")
    profile = find_profile(
        cluster, workers=workers, timeout=timeout, stall=stall, on_stall=on_stall
    )
    planned = make_plan(
        pipeline,
        profile=profile,
        overrides=overrides,
        bounds=bounds,
        only=only,
        from_=from_,
        until=until,
    )
    if observer is not None:
        result = carry_out(planned, profile, observer)
    else:
        with _progress(planned, progress) as display:
            result = carry_out(planned, profile, display)
        if display is None:
            for sentence in result.warnings:
                logger.warning("run %s: %s", result.run, sentence)
    if not result.ok:
        logger.warning("run %s did not finish: %d blocks failed", result.run, len(result.failures))
    return result


def plan(
    pipeline: PipelineSource,
    *,
    overrides: Sequence[str] = (),
    bounds: str | None = None,
    only: str | None = None,
    from_: str | None = None,
    until: str | None = None,
    offline: bool = False,
) -> Plan:
    """Check a pipeline and make every decision of its run; nothing is started or written.

    Parameters
    ----------
    pipeline, overrides, bounds, only, from_, until
        As for `run`.
    offline : bool
        Open no volume: those that are read are taken as declared. Such a plan cannot be run.

    Returns
    -------
    Plan
        Bounds, resolution and `steps`, each with its blocks, memory per worker and bytes written.

    Raises
    ------
    PlanError
        If the pipeline cannot run as written, with all problems.
    """
    return make_plan(
        pipeline,
        overrides=overrides,
        bounds=bounds,
        only=only,
        from_=from_,
        until=until,
        offline=offline,
    )


def open_volume(address: str, **declared: Any) -> Volume:
    """Open a volume for reading.

    Parameters
    ----------
    address : str
        Path or URL, with its format in front where it cannot be recognised: `em.zarr`,
        `precomputed://gs://bucket/em`, `hdf5://file.h5?dataset=raw`.
    **declared
        What a pipeline declares of a volume: `level` (scale; 0 is the finest), `resolution` (nm
        per voxel, z y x), `offset` (voxel coordinate of the first voxel, z y x), `channels` and
        the other keys of `VolumeSpec`.

    Returns
    -------
    Volume
        `volume[100:164, 0:512, 0:512]` reads an array by absolute voxel; `bounds`, `shape`,
        `dtype` and `resolution` describe it.

    Raises
    ------
    StorageError
        If there is no volume at the address, it is not as declared, or chunks or sections of it
        are missing (`Volume.verify`).
    pydantic.ValidationError
        If a declared key is unknown or has a wrong value.
    """
    volume = Volume.open(VolumeSpec.model_validate({**declared, "path": address}))
    volume.verify()
    return volume


def write_volume(
    address: str,
    array: np.ndarray,
    *,
    resolution: tuple[float, float, float],
    offset: Triple = (0, 0, 0),
    kind: Literal["image", "affinity", "segmentation"] | None = None,
    chunk: Triple = (64, 64, 64),
) -> Volume:
    """Write an array as a volume, in place of one that volflow wrote there before.

    Parameters
    ----------
    address : str
        `precomputed://`, `zarr://`, `zarr3://` or `n5://` and a path or URL.
    array : array, (Z, Y, X) or (C, Z, Y, X)
    resolution : 3 float
        Nanometres per voxel, z y x.
    offset : 3 int
        Voxel coordinate of the first voxel, z y x.
    kind : {"image", "affinity", "segmentation"}, optional
        Default: `affinity` with channels, `segmentation` for integers of 32 bits and more,
        otherwise `image`.
    chunk : 3 int
        Voxels of a chunk, z y x.

    Returns
    -------
    Volume

    Raises
    ------
    ValueError
        If the array has not 3 or 4 axes.
    StorageError
        If the format cannot hold the array, or a volume of another program is there.
    """
    if array.ndim not in (3, 4):
        raise ValueError(f"expected an array (Z, Y, X) or (C, Z, Y, X), got shape {array.shape}")
    channels = array.shape[0] if array.ndim == 4 else 0
    wide = array.dtype.kind in "ui" and array.dtype.itemsize >= 4
    chosen = kind or ("affinity" if channels else "segmentation" if wide else "image")
    start = zyx(offset)
    box = Box(start, start + zyx(array.shape[-3:]))
    layer = Layer(array.dtype.name, channels, chosen)
    volume, _ = Volume.create(VolumeSpec(path=address), layer, box, resolution, chunk)
    volume.write(box, np.ascontiguousarray(array))
    return volume


@contextmanager
def _progress(planned: Plan, wanted: bool | None) -> Iterator[RunObserver | None]:
    """The observer that shows progress; None where none is wanted or nothing could show it."""
    from rich.console import Console

    from volflow.cli.terminal.progress import progress_display

    console = Console(stderr=True, highlight=False)
    attached = console.is_terminal or console.is_jupyter
    if wanted is False or (wanted is None and not attached):
        yield None
        return
    with progress_display(planned, console) as display:
        yield display
