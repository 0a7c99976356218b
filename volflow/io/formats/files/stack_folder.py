"""Folders of TIFF files that hold several pages each: stacks, joined along z in order of names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from volflow.core.geometry import Box, zyx
from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.formats.files.read_only import ReadOnlyArray
from volflow.io.formats.files.tiff import TiffFile
from volflow.io.formats.stored_array import MetadataNotes, stored_layout

OPEN = 16  # files held open at a time


class StackFolder(ReadOnlyArray):
    """Several TIFF stacks, one after another along z; all of one y, x, type and channels.

    On opening, the metadata of all files are read.
    """

    def __init__(self, address: Address, files: Sequence[Path], warnings: Sequence[str]) -> None:
        super().__init__(address)
        self._files = list(files)
        self._open: OrderedDict[int, TiffFile] = OrderedDict()
        layouts, notes = [], dict.fromkeys(warnings)
        for number, path in enumerate(self._files):
            stack = self._stack(number)
            layouts.append(stack.layout)
            notes |= dict.fromkeys(stack.notes.warnings)
            looks = [(each.bounds.shape[1:], each.dtype, each.channels, each.resolution)
                     for each in (layouts[0], stack.layout)]  # fmt: skip
            if looks[0] != looks[1]:
                raise StorageError(
                    f"volume {address}: stack {path} differs from the first; expected (y, x), "
                    f"type, channels and voxel size {looks[0]}, got {looks[1]}"
                )
        first = layouts[0]
        self._starts = [0, *accumulate(each.bounds.shape[0] for each in layouts)]
        plane = first.bounds.shape[1:]
        shape = zyx((self._starts[-1], *plane))
        self.layout = stored_layout(
            shape, (0, 0, 0), first.resolution, first.dtype, first.channels, (1, *plane)
        )
        notes[f"{len(layouts)} files of several pages are joined along z in order of names"] = None
        self.notes = MetadataNotes(warnings=tuple(notes))

    def verify(self, background: bool = False) -> None:
        """Check from headers that no file is cut short."""
        for number in range(len(self._files)):
            self._stack(number).verify()

    def _stack(self, number: int) -> TiffFile:
        stack = self._open.pop(number, None) or TiffFile(self._address, self._files[number])
        self._open[number] = stack
        while len(self._open) > OPEN:
            self._open.popitem(last=False)
        return stack

    def _read(self, box: Box, channels: Sequence[int] | None) -> np.ndarray:
        parts = []
        for number, start in enumerate(self._starts[:-1]):
            low, high = max(box.start[0], start), min(box.stop[0], self._starts[number + 1])
            if low < high:
                part = Box((low - start, *box.start[1:]), (high - start, *box.stop[1:]))
                parts.append(self._stack(number).read(part, channels))
        return np.concatenate(parts, axis=-3)
