"""What can be known wrong before anything is started: small checks, each noting its mistakes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from rich.filesize import decimal

from volflow.config.pipeline import VolumeSpec
from volflow.config.problems import Problems
from volflow.config.wiring import WiredStep
from volflow.core.geometry import BlockGrid, Box, Triple, zyx
from volflow.core.stage import Layer, Phase
from volflow.engine.job import PlannedStep, Resolution, Target
from volflow.engine.phases.registry import kind_of
from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.volume import Volume

LARGEST_CHUNK = 128  # voxels per side: what a viewer fetches at once
SLIVER = 8  # a chunk thinner than this under a larger block is an accident of its divisors
MOST_VOXELS = 1 << 63  # ids are indices of voxels, held in signed and unsigned 64 bits
# What is written at the least, of the bytes before compression.
LEAST_STORED = {"raw": 1.0, "compressed_segmentation": 1 / 32}
LEAST_STORED_ELSE = 1 / 8
READ_ONLY = ("channels", "offset_sign", "scale", "boundary", "offset", "level", "version")


def same(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two resolutions are the same up to the rounding of a format's metadata."""
    return bool(np.allclose(one, other, rtol=1e-4, atol=0.0))


def size(number: float) -> str:
    """Bytes in the decimal unit that fits: 1.2 GB."""
    return decimal(int(number))


def listed(values: Iterable[float]) -> str:
    """A triple as the file spells it."""
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"


# --- what a step reads ---------------------------------------------------------------------------


def check_layer(
    step: WiredStep, name: str, wanted: Layer, given: Layer, foreign: bool, problems: Problems
) -> None:
    """An input's type and channels against what the stage wants."""
    volume = step.inputs[name]
    place: tuple[str | int, ...] = ("volumes", volume) if foreign else ("steps", step.number)
    text = f"step '{step.name}' wants '{volume}' as"
    if wanted.dtype and np.dtype(wanted.dtype) != np.dtype(given.dtype):
        hint = ""
        if foreign and wanted.dtype == "uint8" and np.dtype(given.dtype).kind == "f":
            hint = f"; volumes.{volume}.scale: 255 makes uint8 of values in 0..1"
        problems.add(place, f"{text} {wanted.dtype}, and it is {given.dtype}{hint}")
    elif wanted.kind == "segmentation" and np.dtype(given.dtype).kind != "u":
        problems.add(place, f"{text} labels (unsigned integers), and it is {given.dtype}")
    if wanted.channels is not None and wanted.channels != given.channels:
        hint = f"; choose with volumes.{volume}.channels" if foreign and given.channels else ""
        problems.add(
            place,
            f"{text} {_channels(wanted.channels)}, and it has {_channels(given.channels)}{hint}",
        )


def _channels(count: int | None) -> str:
    return f"{count} channels" if count else "no channel axis"


def tell_blockwise(step: WiredStep, volume: str, writer: WiredStep, problems: Problems) -> None:
    """What is stored block by block is read on the same blocks."""
    problems.add(
        _block_path(step),
        f"step '{step.name}' reads '{volume}' block by block as step '{writer.name}' wrote it, so "
        f"both need one block shape; got {listed(step.block)} and {listed(writer.block)}",
    )


# --- what a step writes --------------------------------------------------------------------------


def chunk_of(given: Triple | None, block: Triple, bounds: Box) -> Triple:
    """The chunk of a new volume: as given, else per side the largest divisor of the block to 128.

    A side on which one block covers the bounds is cut at will, as no other block shares its chunks.
    """
    if given is not None:
        return given
    found = []
    for side, extent in zip(block, bounds.shape, strict=True):
        best = max(d for d in range(1, min(side, LARGEST_CHUNK) + 1) if side % d == 0)
        alone = side >= extent and best < min(extent, LARGEST_CHUNK) // 2
        found.append(min(extent, LARGEST_CHUNK) if alone else best)
    return zyx(found)


def check_fit(
    step: WiredStep,
    volume: str,
    spec: VolumeSpec,
    grid: BlockGrid,
    chunk: Triple,
    problems: Problems,
) -> bool:
    """Whether blocks are whole chunks, and whole shards where there are shards."""
    block, sides = grid.shape, grid.bounds.shape
    unit, what = (chunk, "chunk") if spec.shard is None else (spec.shard, "shard")
    if any(u % c for u, c in zip(unit, chunk, strict=True)):
        problems.add(
            ("volumes", volume, "shard"),
            f"shard {listed(unit)} is not a multiple of the chunk {listed(chunk)}; "
            f"nearest shard that fits: {listed(nearest(unit, chunk))}",
        )
    elif any(b % u and b < side for b, u, side in zip(block, unit, sides, strict=True)):
        problems.add(
            _block_path(step),
            f"step '{step.name}': block {listed(block)} is not a multiple of the {what} "
            f"{listed(unit)} of volume '{volume}', so two workers would write one {what}; "
            f"nearest block that fits: {listed(nearest(block, unit))}",
        )
    elif spec.chunk is None and any(
        c < SLIVER < b < side for c, b, side in zip(chunk, block, sides, strict=True)
    ):
        problems.add(
            _block_path(step),
            f"step '{step.name}': block {listed(block)} of volume '{volume}' falls into chunks of "
            f"{listed(chunk)}, which makes very many files; take a block whose sides have a "
            f"divisor between {SLIVER} and {LARGEST_CHUNK}, such as "
            f"{listed(nearest(block, (16, 16, 16)))}, or give the chunk",
        )
    else:
        return True
    return False


def _block_path(step: WiredStep) -> tuple[str | int, ...]:
    """Where the block of a step is given."""
    return ("steps", step.number, "block") if step.spec.block else ("block",)


def nearest(shape: Triple, unit: Triple) -> Triple:
    """The nearest multiple of the unit, per side, and at least one."""
    return zyx([max(1, (2 * s + u) // (2 * u)) * u for s, u in zip(shape, unit, strict=True)])


def check_declared(volume: str, spec: VolumeSpec, problems: Problems) -> None:
    """What is said of a volume that a step writes makes sense for one."""
    for field in READ_ONLY:
        if getattr(spec, field) != VolumeSpec.model_fields[field].default:
            problems.add(
                ("volumes", volume, field),
                f"a step writes '{volume}', and '{field}' tells how a volume that exists is read",
            )


def check_storable(step: WiredStep, volume: str, target: Target, problems: Problems) -> None:
    """The format can hold the volume, and nothing foreign is in its place."""
    bounds, resolution = target.bounds, target.resolution
    reason = Volume.refusal(target.spec, target.layer, bounds, resolution, target.chunk)
    if reason:
        declared = ("volumes", volume) in problems.where.lines
        place = ("volumes", volume) if declared else ("steps", step.number)
        problems.add(place, f"step '{step.name}' cannot write '{volume}': {reason}")


# --- what the machine gives ----------------------------------------------------------------------


def check_memory(
    step: WiredStep, sweeps: Sequence[Phase], needs: dict[str, int], memory: int, problems: Problems
) -> None:
    """The most that a pass of a step needs against the memory of a worker."""
    worst = max(sweeps, key=lambda phase: needs[phase.name], default=None)
    if worst is None or needs[worst.name] <= memory:
        return
    told = f"needs about {size(needs[worst.name])} in phase '{worst.name}', and a worker has"
    what, advice = kind_of(worst).memory_advice(worst, step.block)
    problems.add(_block_path(step), f"step '{step.name}': {what} {told} {size(memory)}; {advice}")


def check_space(run: str, steps: Sequence[PlannedStep], problems: Problems) -> None:
    """Room on the disks that are written to, against the least that the volumes will take.

    A volume that is there already is not counted: its room is taken.
    """
    needs: dict[int, float] = {}
    places: dict[int, Path] = {}
    for target in [target for step in steps for target in step.targets]:
        folder = _local(target.spec.path)
        if folder is None or folder.exists():
            continue
        parent = _existing(folder)
        device = parent.stat().st_dev
        places[device] = parent
        needs[device] = needs.get(device, 0.0) + target.bytes_of() * _least(target)
    for device, need in needs.items():
        free = shutil.disk_usage(places[device]).free
        if need > free:
            problems.add(
                ("run",),
                f"no space: the volumes take at least {size(need)} and the disk of "
                f"{places[device]} has {size(free)} free",
            )
    _check_run_folder(run, problems)


def _least(target: Target) -> float:
    default = "raw"
    if not target.spec.path.startswith("precomputed://"):
        default = ""
    elif target.layer.kind == "segmentation":
        default = "compressed_segmentation"
    return LEAST_STORED.get(target.spec.encoding or default, LEAST_STORED_ELSE)


def _check_run_folder(run: str, problems: Problems) -> None:
    folder = _local(run)
    if folder is None:
        return
    parent = _existing(folder)
    if not parent.is_dir():
        problems.add(("run",), f"{parent} is a file; expected a folder")
    elif not os.access(parent, os.W_OK):
        problems.add(("run",), f"{parent} cannot be written to")


def _local(address: str) -> Path | None:
    try:
        return Address.parse(address).local
    except StorageError:  # told where the address is given
        return None


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def check_resolution(
    name: str, given: Resolution | None, wanted: Resolution, problems: Problems
) -> None:
    """A volume's resolution against that of the run."""
    if given is not None and not same(given, wanted):
        problems.add(
            ("volumes", name),
            f"resolution {listed(given)} nm, and the run has {listed(wanted)} nm; another level "
            f"(volumes.{name}.level) may have the same",
        )


def check_bounds(name: str, given: Box, wanted: Box, problems: Problems) -> None:
    """The run's bounds lie inside a volume."""
    if not given.covers(wanted):
        problems.add(
            ("bounds",) if ("bounds",) in _given(problems) else ("volumes", name),
            f"bounds {wanted} reach beyond volume '{name}', which has {given}",
        )


def _given(problems: Problems) -> set[tuple[str | int, ...]]:
    return {*problems.where.lines, *problems.where.options}
