"""The `convert` stage: a volume copied into another format, chunk or type."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from volflow.core.geometry import Block, Triple
from volflow.core.stage import Columns, Layer, Record, Stage
from volflow.segment.relabel import relabel


class Convert(Stage):
    """A copy of `volume` with the same numbers, or with the ids that `ids` gives to its labels.

    Inputs: `volume`, any type, with or without channels; optionally `ids`, the table of a
    `renumber` step on the same blocks. Output: `copy`, of type `dtype`.

    A value that the new type cannot hold is an error that names the block, never a wrapped or
    truncated number. A float is rounded to the precision of a shorter float; only an overflow is
    an error.
    """

    dtype: str = "uint8"
    """Type of the copy: an integer or float type of numpy."""
    channels: Annotated[int, Field(ge=0)] = 0
    """Channels of the volume; 0 for one without a channel axis."""
    kind: Literal["image", "affinity", "segmentation"] = "image"
    """Meaning of the numbers, as the metadata of the copy have it."""

    @field_validator("dtype")
    @classmethod
    def _number(cls, name: str) -> str:
        return number_type(name)

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"copy": Layer(dtype=self.dtype, channels=self.channels, kind=self.kind)}

    def memory(self, shape: Triple) -> int:
        voxels = max(1, self.channels) * int(np.prod(shape))
        return (24 + 2 * np.dtype(self.dtype).itemsize) * voxels

    def run(  # type: ignore[override]  # the inputs by name
        self, block: Block, *, volume: np.ndarray, ids: Record | None = None
    ) -> dict[str, np.ndarray]:
        try:
            if ids is not None:
                volume = relabel(volume.astype(np.uint64, copy=False), ids["label"], ids["id"])
            return {"copy": exact_cast(volume, self.dtype)}
        except ValueError as error:
            raise ValueError(f"block {block.index} ({block.write}): {error}") from error


def number_type(name: str) -> str:
    """The canonical name of an integer or float type.

    Raises
    ------
    ValueError
        If it is another type, or none.
    """
    try:
        dtype = np.dtype(name)
    except TypeError as error:
        raise ValueError(_not_a_number(name)) from error
    if dtype.kind not in "uif":
        raise ValueError(_not_a_number(name))
    return dtype.name


def _not_a_number(name: str) -> str:
    return f"expected an integer or float type such as uint8, uint64 or float32; got '{name}'"


def exact_cast(values: np.ndarray, dtype: str) -> np.ndarray:
    """The same numbers in another type; none is changed without an error.

    Parameters
    ----------
    values : integer, bool or float array
    dtype : str
        Name of an integer or float type.

    Raises
    ------
    ValueError
        If a number does not fit: out of range, a fraction or not a number in an integer type,
        an integer that a float cannot hold.
    """
    target = np.dtype(dtype)
    if values.dtype == target or not values.size:
        return values.astype(target, copy=False)
    if values.dtype == bool:
        return values.astype(target)
    bad = _misfits(values, target)
    if bad.any():
        raise ValueError(f"value {values[bad][0]} ({values.dtype}) does not fit {target}")
    return values.astype(target)


def _misfits(values: np.ndarray, target: np.dtype[Any]) -> np.ndarray:
    """Mask of the values that a type cannot hold, compared exactly."""
    if target.kind == "f":
        if values.dtype.kind == "f":
            return np.asarray(np.isfinite(values) & (np.abs(values) > np.finfo(target).max))
        exact = 2 ** (np.finfo(target).nmant + 1)
        return _outside(values, -exact, exact)
    low, high = int(np.iinfo(target).min), int(np.iinfo(target).max)
    if values.dtype.kind == "f":
        whole = np.isfinite(values) & (np.floor(values) == values)
        # high + 1 is a power of two, so a float holds it exactly; high itself it may not
        limit = np.float64(high + 1)
        fits = whole & (values >= np.float64(low)) & (values.astype(np.float64) < limit)
        return np.asarray(~fits)
    return _outside(values, low, high)


def _outside(values: np.ndarray, low: int, high: int) -> np.ndarray:
    """Mask of the integers outside low..high, compared in their own type."""
    limits = np.iinfo(values.dtype)
    below = values < max(low, int(limits.min))
    above = values > min(high, int(limits.max))
    return np.asarray(below | above)
