"""A user's own stage: defined here, named `module:Class` in a pipeline, run like any other.

    python examples/write_a_stage.py [--cluster local]

It detects bright spots in a noisy image: voxels brighter than their neighbourhood by `contrast`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from scipy.ndimage import convolve1d

import volflow
from volflow import Block, Columns, Layer, Stage, Triple


class Spots(Stage):
    """Voxels of `image` that are brighter than the mean around them."""

    contrast: Annotated[int, Field(ge=1, le=255)] = 40
    """Grey values above the mean."""
    radius: Annotated[int, Field(ge=1)] = 2
    """The neighbourhood is a cube of 2 radius + 1 voxels."""

    wants: ClassVar[dict[str, Layer]] = {"image": Layer(dtype="uint8", channels=0)}

    @property
    def halo(self) -> Triple:
        return (self.radius, self.radius, self.radius)

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"spots": Layer(dtype="uint8", channels=0, kind="segmentation")}

    def memory(self, shape: Triple) -> int:
        return 32 * int(np.prod(shape))  # uint8 in and out, a few int32 in between

    def run(self, block: Block, *, image: np.ndarray) -> dict[str, np.ndarray]:  # type: ignore[override]
        # The read box extends beyond the bounds of the volume, where voxels read as zero.
        inside = np.zeros(block.read.shape, "int32")
        inside[block.read.clip(block.bounds).within(block.read)] = 1
        # Sums of integers are exact; floats would round differently in another block.
        total = self.neighbourhood_sum(image.astype("int32"))
        voxels = self.neighbourhood_sum(inside)
        bright = image * voxels - total > self.contrast * voxels
        return {"spots": bright.astype("uint8")}  # over the read box: the engine crops

    def neighbourhood_sum(self, values: np.ndarray) -> np.ndarray:
        """The sum over the neighbourhood of each voxel, (z, y, x) int32."""
        for axis in range(3):
            ones = np.ones(2 * self.radius + 1)
            values = convolve1d(values, ones, axis, mode="constant")
        return values


def noisy_image(folder: Path) -> str:
    """Write a small volume with a hundred bright voxels; its address."""
    random = np.random.default_rng(0)
    image = random.integers(90, 110, (48, 48, 48), dtype="uint8")
    z, y, x = random.integers(4, 44, (3, 100))
    image[z, y, x] = 250
    return volflow.write_volume(
        f"precomputed://{folder}/image", image, resolution=(8, 8, 8)
    ).address


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", default="none")
    parser.add_argument("--out", default=tempfile.gettempdir() + "/volflow-spots")
    options = parser.parse_args()
    folder = Path(options.out)
    result = volflow.run(
        {
            "run": str(folder / "run"),
            "block": [24, 24, 24],
            "volumes": {"image": {"path": noisy_image(folder)}},
            "steps": [{"use": "write_a_stage:Spots", "with": {"contrast": 60}}],
        },
        cluster=options.cluster,
    )
    if not result.ok:
        raise SystemExit(f"{len(result.failures)} blocks failed: {result.failures[0].error}")
    spots = result.volumes["spots"]
    print(f"{int(spots[...].sum())} spots in {spots.address}")


if __name__ == "__main__":
    main()
