"""The image under a block on the device, scaled for a network; copied as tiles need it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import torch

from volflow.core.geometry import Box, Triple
from volflow.models.gpu.transfers import Upload
from volflow.models.inference import Inference
from volflow.predict.tiling import Tiling


class ImageOnDevice:
    """The image that the tiles of a block cover, on the device, scaled for the network."""

    def __init__(
        self,
        raw: np.ndarray,
        read: Box,
        tiling: Tiling,
        tiles: Sequence[Triple],
        inference: Inference,
        table: np.ndarray,
    ) -> None:
        first, last = (
            tiling.kept_box(index).grow(tiling.context) for index in (tiles[0], tiles[-1])
        )
        self.box = Box(first.start, last.stop).clip(tiling.bounds)
        self.raw = raw[(..., *self.box.within(read))]
        if raw.ndim == 3:
            self.raw = self.raw[None]
        if raw.dtype == np.uint16:  # torch computes little with it
            self.raw = self.raw.view(np.int16)
        self.tiling, self.transfers = tiling, inference.transfers
        shape = (len(self.raw), *self.box.shape)
        self.values = torch.empty(shape, dtype=inference.dtype, device=inference.device)
        self.table = self.transfers.arrived(self.transfers.up(table)).to(inference.dtype)
        self.sent = 0
        self.on_the_way: deque[tuple[int, int, Upload]] = deque()

    def prefetch(self, batch: Sequence[Triple]) -> None:
        """Begin to copy the sections that tiles need; no tiles need none."""
        if batch:
            top = self.tiling.kept_box(batch[-1]).grow(self.tiling.context).stop[0]
            stop = min(top, self.box.stop[0]) - self.box.start[0]
            if stop > self.sent:
                upload = self.transfers.up(self.raw[:, self.sent : stop])
                self.on_the_way.append((self.sent, stop, upload))
                self.sent = stop

    def require(self, batch: Sequence[Triple]) -> None:
        """Have the sections that tiles need, for the device's work from now on."""
        self.prefetch(batch)
        while self.on_the_way:
            start, stop, upload = self.on_the_way.popleft()
            index = self.transfers.arrived(upload).to(torch.int32)
            if self.raw.dtype == np.int16:
                index &= 0xFFFF
            scaled = self.table.index_select(0, index.flatten()).view(index.shape)
            self.values[:, start:stop] = scaled
