"""A volume that is read, never written: the part common to all files."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from volflow.core.geometry import Box, Resolution
from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.formats.stored_array import NO_NOTES, Layout, placed


class ReadOnlyArray(ABC):
    """One scale of a volume in a file or a folder of sections.

    A subclass sets `layout` and implements `_read`.
    """

    scales = 1
    ours = False
    layout: Layout
    notes = NO_NOTES

    def __init__(self, address: Address) -> None:
        self._address = address

    @abstractmethod
    def _read(self, box: Box, channels: Sequence[int] | None) -> np.ndarray:
        """Read a box within the bounds, (Z, Y, X) or (C, Z, Y, X)."""

    def read(
        self, box: Box, channels: Sequence[int] | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Read a box within the bounds: all channels, or those named; into `out` if given.

        Raises
        ------
        StorageError
            If the file is damaged.
        """
        array = self._read(box, channels)
        native = array.astype(self.layout.dtype, copy=False)  # files may be big-endian
        return placed(native, out)

    def write(self, box: Box, array: np.ndarray) -> None:
        """Refuse: files are only read."""
        raise StorageError(
            f"volume {self._address}: {self._address.format_name} is only read, never written"
        )

    def verify(self, background: bool = False) -> None:  # noqa: B027  # one file has no parts to compare
        """Check, from headers alone, that every part of the volume can be read."""


def sliced(array: Any, box: Box, bounds: Box, channels: Sequence[int] | None) -> np.ndarray:
    """A box of an array-like (Z, Y, X) or (C, Z, Y, X) whose first voxel is `bounds.start`.

    Only what is needed is read from an array-like that reads on being sliced.
    """
    at = box.within(bounds)
    if array.ndim == 3:
        return np.asarray(array[at])
    if channels is None:
        return np.asarray(array[(slice(None), *at)])
    return np.stack([np.asarray(array[(channel, *at)]) for channel in channels])


def known_side(value: object) -> float:
    """A length from metadata, its sign dropped; 0 if it is not a finite number."""
    try:
        side = abs(float(str(value)))
    except ValueError:
        return 0.0
    return side if math.isfinite(side) else 0.0


def known_resolution(z: float, y: float, x: float) -> Resolution | None:
    """A voxel size in nanometres; None unless all three sides are positive and finite."""
    sides = (float(z), float(y), float(x))
    return sides if all(0 < side < math.inf for side in sides) else None
