"""The `intensity` stage: quantiles of the intensities of a whole volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from volflow.core.geometry import Block, Triple
from volflow.core.stage import Columns, Layer, PreviousRound, Record, Reduction, Up
from volflow.predict.intensity import (
    check_image,
    intensity_histogram,
    intensity_quantiles,
    intensity_range,
)

Fraction = Annotated[float, Field(ge=0, le=1)]

LARGEST = 1 << 16  # number of intensities in a histogram


class Intensity(Reduction):
    """Quantiles of the intensities of `em` within bounds and mask, for its normalisation.

    The stages `predict` and `borders` scale the image by these quantiles. Integer histograms add up
    exactly, so the result does not depend on the blocks. An image with the same intensity at the
    quantiles `low` and `high` is reported as constant and fails.

    Inputs
    ------
    em : uint8 or uint16, (Z, Y, X) or (C, Z, Y, X)
        The image.

    Outputs
    -------
    intensity : table
        `quantiles`: the intensities at the fractions 0, 1/1000, ..., 1 of the voxels.
    """

    low: Fraction = 0.01
    """Fraction of the voxels, 0 to 1: the dark end of the range in the report, and of the check for
    a constant image."""
    high: Fraction = 0.99
    """Fraction of the voxels, 0 to 1, above `low`: the bright end of the range."""

    @model_validator(mode="after")
    def _low_is_below_high(self) -> Intensity:
        if not self.low < self.high:
            raise ValueError(f"expected low below high; got {self.low} and {self.high}")
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
    ) -> Up:
        histogram = _sparse(intensity_histogram(em if mask is None else em[..., mask]))
        return Up(histogram, histogram if block.write == block.bounds else {})

    def join(self, block: Block, round_name: str, children: Sequence[Record]) -> Up:
        histogram = _sparse(_total(children))
        stored = histogram if block.write == block.bounds else {}
        return Up(histogram, {**stored, "children": np.array([len(children)])})

    def split(
        self, block: Block, round_name: str, retained: Record, received: Record | None
    ) -> Sequence[Record]:
        quantiles = self._quantiles(retained) if received is None else received
        return [quantiles] * int(retained["children"][0])

    def finish(self, block: Block, previous: PreviousRound) -> dict[str, np.ndarray | Record]:
        received = previous.received
        return {"intensity": self._quantiles(previous.retained) if received is None else received}

    def result(self, roots: Sequence[Record]) -> dict[str, Any]:
        histogram = _total(roots)
        low, high = intensity_range(histogram, self.low, self.high)
        present = np.flatnonzero(histogram)
        ends = {"least": int(present[0]), "most": int(present[-1]), "voxels": int(histogram.sum())}
        return {"low": low, "high": high, **ends}

    def _quantiles(self, record: Record) -> Record:
        """The quantiles of the whole volume's histogram, as passed down to the blocks.

        Raises
        ------
        ValueError
            If the image is constant.
        """
        histogram = _total([record])
        intensity_range(histogram, self.low, self.high)
        return {"quantiles": intensity_quantiles(histogram)}


def _sparse(histogram: np.ndarray) -> Record:
    """A histogram without the intensities that no voxel has."""
    present = np.flatnonzero(histogram)
    return {"intensity": present.astype("uint16"), "voxels": histogram[present].astype("int64")}


def _total(records: Sequence[Record]) -> np.ndarray:
    """The sum of sparse histograms; those of blocks outside the mask are empty records."""
    total = np.zeros(LARGEST, "int64")
    for record in filter(None, records):
        total[record["intensity"]] += record["voxels"]
    return total
