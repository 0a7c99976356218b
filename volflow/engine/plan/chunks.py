"""Chunks of the volumes that a step writes: their shape, and whether blocks are whole chunks."""

from __future__ import annotations

from collections.abc import Iterator

from volflow.config.keys import KeyPath
from volflow.config.pipeline import VolumeSpec
from volflow.config.problems import Problem
from volflow.config.wired_step import WiredStep
from volflow.core.geometry import BlockGrid, Box, Triple, Zyx, zyx
from volflow.engine.plan.formatting import triple_text

LARGEST_CHUNK = 128  # voxels per side: what a viewer requests at once
SLIVER = 8  # a chunk thinner than this under a larger block is an accident of its divisors


def chunk_of(given: Triple | None, block: Triple, bounds: Box) -> Triple:
    """The chunk of a new volume: as given, or the largest divisor of each side up to 128.

    A side on which one block covers the bounds may be cut anywhere, as no two blocks share a chunk.
    """
    if given is not None:
        return given
    sides = []
    for side, extent in zip(block, bounds.shape, strict=True):
        best = max(d for d in range(1, min(side, LARGEST_CHUNK) + 1) if side % d == 0)
        alone = side >= extent and best < min(extent, LARGEST_CHUNK) // 2
        sides.append(min(extent, LARGEST_CHUNK) if alone else best)
    return zyx(sides)


def check_fit(
    step: WiredStep, volume: str, spec: VolumeSpec, grid: BlockGrid, chunk: Triple
) -> Iterator[Problem]:
    """Check that blocks are whole chunks, and whole shards if there are shards."""
    block, sides = grid.shape, grid.bounds.shape
    unit, noun = (chunk, "chunk") if spec.shard is None else (spec.shard, "shard")
    if any(zyx(unit) % chunk):
        yield Problem(
            ("volumes", volume, "shard"),
            f"shard {triple_text(unit)} is not a multiple of the chunk {triple_text(chunk)}; "
            f"nearest shard that fits: {triple_text(nearest(unit, chunk))}",
        )
    elif any(b % u and b < side for b, u, side in zip(block, unit, sides, strict=True)):
        yield Problem(
            block_path(step),
            f"step '{step.name}': block {triple_text(block)} is not a multiple of the {noun} "
            f"{triple_text(unit)} of volume '{volume}', so two workers would write one {noun}; "
            f"nearest block that fits: {triple_text(nearest(block, unit))}",
        )
    elif spec.chunk is None and any(
        c < SLIVER < b < side for c, b, side in zip(chunk, block, sides, strict=True)
    ):
        yield Problem(
            block_path(step),
            f"step '{step.name}': block {triple_text(block)} of volume '{volume}' divides into "
            f"chunks of {triple_text(chunk)}, which makes very many files; take a block whose "
            f"sides have a divisor between {SLIVER} and {LARGEST_CHUNK}, such as "
            f"{triple_text(nearest(block, (16, 16, 16)))}, or give the chunk",
        )


def block_path(step: WiredStep) -> KeyPath:
    """The key that sets the block of a step."""
    return ("steps", step.number, "block") if step.spec.block else ("block",)


def nearest(shape: Triple, unit: Triple) -> Zyx:
    """The nearest multiple of the unit on each side, at least one unit."""
    return ((zyx(shape) * 2 + unit) // (zyx(unit) * 2)).maximum(1) * unit
