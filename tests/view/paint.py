"""A run whose every voxel is known: cells of 16 voxels, ids beyond what JavaScript counts to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import volflow
from volflow.core.geometry import Block, Box
from volflow.core.stage import Layer, Stage
from volflow.engine.result import RunResult

BOUNDS = Box((8, 0, 16), (56, 64, 96))
RESOLUTION = (20, 10, 10)
FIRST = 1 << 60


class Paint(Stage):
    """Cells in one image, one layer of affinities and one of labels; the first cells are 0."""

    def run(self, block: Block) -> dict[str, np.ndarray]:
        z, y, x = np.indices(block.write.shape)
        a, b, c = block.write.start
        z, y, x = z + a, y + b, x + c
        cells = (z // 16 * 100 + y // 16 * 10 + x // 16).astype("uint64")
        inside = (z % 16 > 1) & (y % 16 > 1) & (x % 16 > 1)
        em = np.where(inside, 160 + (x + y + z) % 32, 40).astype("uint8")
        labels = np.where((y // 16 == 0) | ~inside, 0, FIRST + cells).astype("uint64")
        affinity = np.stack([np.where(inside, level, 20) for level in (250, 180, 90)])
        return {"em": em, "affinity": affinity.astype("uint8"), "segmentation": labels}

    @property
    def outputs(self) -> dict[str, Any]:
        return {
            "em": Layer("uint8", 0, "image"),
            "affinity": Layer("uint8", 3, "affinity"),
            "segmentation": Layer("uint64", 0, "segmentation"),
        }


class Fails(Stage):
    """Raises at the first block of labels it is given."""

    def run(self, block: Block, *, segmentation: np.ndarray) -> dict[str, np.ndarray]:
        raise ValueError("<b>no</b> such luck")

    @property
    def outputs(self) -> dict[str, Any]:
        return {"nothing": Layer("uint8", 0, "image")}


def painted(folder: Path, *more: dict[str, Any], **rest: Any) -> RunResult:
    """Run the painting, and what steps are added, in a folder."""
    document = {
        "run": str(folder),
        "bounds": str(BOUNDS),
        "block": [16, 32, 32],
        "resolution": list(RESOLUTION),
        "steps": [{"use": "tests.view.paint:Paint"}, *more],
        **rest,
    }
    return volflow.run(document)


def expected() -> dict[str, np.ndarray]:
    """All voxels of the three layers."""
    return Paint().run(Block((0, 0, 0), BOUNDS, BOUNDS, BOUNDS))
