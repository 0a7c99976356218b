"""The `intensity` stage: how bright a volume is, found once and told to every block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from volflow.core.geometry import Block, Triple
from volflow.core.stage import Columns, Layer, NodeOutput, PreviousRound, Record, Reduction
from volflow.predict.intensity import (
    intensity_histogram,
    intensity_quantiles,
    intensity_range,
)

Fraction = Annotated[float, Field(ge=0, le=1)]

PARTS = 1000  # quantiles are kept in steps of 1/1000
LARGEST = 1 << 16  # intensities that a histogram tells apart


class Intensity(Reduction):
    """Quantiles of the intensities of `em` within bounds and mask, which `predict` scales it by.

    Histograms of integers add up exactly, so the result does not depend on the blocks. An image
    that is constant between two fractions of its voxels is an error.
    """

    low: Fraction = 0.01
    """Fraction of the voxels, for the report and to tell a constant image."""
    high: Fraction = 0.99
    """The same, at the bright end."""

    @model_validator(mode="after")
    def _low_is_below_high(self) -> Intensity:
        if not self.low < self.high:
            raise ValueError(f"low must be below high; got {self.low} and {self.high}")
        return self

    @property
    def descends(self) -> bool:
        return True

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"intensity": Columns((("quantiles", "int64"),))}

    def memory(self, shape: Triple) -> int:
        return 24 * int(np.prod(shape)) + 4 * 8 * LARGEST

    def node_memory(self, shape: Triple) -> int:
        return 24 * 8 * LARGEST

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        return check_image(inputs.get("em"))

    def leaf(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        round_name: str,
        previous: PreviousRound | None,
        *,
        em: np.ndarray,
        mask: np.ndarray | None = None,
    ) -> NodeOutput:
        found = _sparse(intensity_histogram(em if mask is None else em[..., mask]))
        return NodeOutput(found, found if block.write == block.bounds else {})

    def join(self, block: Block, round_name: str, children: Sequence[Record]) -> NodeOutput:
        found = _sparse(_total(children))
        kept = found if block.write == block.bounds else {}
        return NodeOutput(found, {**kept, "children": np.array([len(children)])})

    def split(
        self, block: Block, round_name: str, kept: Record, received: Record | None
    ) -> Sequence[Record]:
        told = self._quantiles(kept) if received is None else received
        return [told] * int(kept["children"][0])

    def finish(self, block: Block, previous: PreviousRound) -> dict[str, np.ndarray | Record]:
        received = previous.received
        return {"intensity": self._quantiles(previous.retained) if received is None else received}

    def result(self, roots: Sequence[Record]) -> dict[str, Any]:
        histogram = _total(roots)
        low, high = intensity_range(histogram, self.low, self.high)
        seen = np.flatnonzero(histogram)
        ends = {"least": int(seen[0]), "most": int(seen[-1]), "voxels": int(histogram.sum())}
        return {"low": low, "high": high, **ends}

    def _quantiles(self, record: Record) -> Record:
        """What is told to the blocks, of the histogram of the whole volume.

        Raises
        ------
        ValueError
            If the image is constant.
        """
        histogram = _total([record])
        intensity_range(histogram, self.low, self.high)
        return {"quantiles": intensity_quantiles(histogram, PARTS)}


def ends(intensity: Record, low: float, high: float) -> tuple[int, int]:
    """The intensities of two fractions of a volume's voxels, of what the step `intensity` told.

    Raises
    ------
    ValueError
        If they are the same: the image is constant.
    """
    first, last = (int(intensity["quantiles"][round(f * PARTS)]) for f in (low, high))
    if first >= last:
        raise ValueError(
            f"the image is constant: {high - low:.0%} of its voxels have the intensity {first}"
        )
    return first, last


def check_image(image: Layer | None) -> list[str]:
    """What is wrong with a volume's type as an image whose intensities are counted."""
    if image is None or image.dtype in ("uint8", "uint16"):
        return []
    hint = ""
    if np.dtype(image.dtype).kind == "f":
        hint = "; `scale` of the volume makes uint8 of it"
    return [f"em: expected uint8 or uint16, and it is {image.dtype}{hint}"]


def _sparse(histogram: np.ndarray) -> Record:
    """A histogram without the intensities that no voxel has."""
    seen = np.flatnonzero(histogram)
    return {"intensity": seen.astype("uint16"), "voxels": histogram[seen].astype("int64")}


def _total(records: Sequence[Record]) -> np.ndarray:
    """The sum of sparse histograms; a block that was skipped under the mask left an empty one."""
    total = np.zeros(LARGEST, "int64")
    for record in filter(None, records):
        total[record["intensity"]] += record["voxels"]
    return total
