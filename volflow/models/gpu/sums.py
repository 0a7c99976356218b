"""Weighted sums of the outputs of tiles on the device, sent as integers when they are complete."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from volflow.core.geometry import Box, Triple
from volflow.models.inference import Inference
from volflow.predict.flips import Channel
from volflow.predict.tiling import Tiling


class SumsOnDevice:
    """Weighted sums of the outputs of tiles, in slabs of sections that begin with a row of tiles.

    A slab is complete when the tiles of the next row begin, so only as many slabs as a tile reaches
    into are on the device.
    """

    def __init__(
        self,
        write: Box,
        tiling: Tiling,
        tiles: Sequence[Triple],
        channels: Sequence[Channel],
        inference: Inference,
    ) -> None:
        self.write, self.tiling, self.channels = write, tiling, channels
        self.device, self.transfers = inference.device, inference.transfers
        self.last = tiles[-1][0]
        self.slabs: dict[int, tuple[Box, Tensor, Tensor | None]] = {}
        self.target = self.transfers.host((len(channels), *write.shape))
        self.finite = torch.ones((), dtype=torch.bool, device=self.device)
        if tiling.overlapping:
            z, y, x = (self.transfers.arrived(self.transfers.up(ramp)) for ramp in tiling.ramps)
            self.weights = z[:, None, None] * y[:, None] * x

    def add(self, batch: Sequence[Triple], outputs: Tensor) -> None:
        """Add the outputs of tiles, float32 (B, C, *kept), in their order."""
        for index, output in zip(batch, outputs, strict=False):
            whole = self.tiling.kept_box(index)
            for row in range(index[0], self.last + 1):
                if self._box(row).start[0] >= whole.stop[0]:
                    break
                self._add(row, whole, output)

    def _add(self, row: int, whole: Box, output: Tensor) -> None:
        shared = whole.clip(self._box(row))
        if not shared.size:
            return
        box, total, weight = self._slab(row)
        there, here = shared.within(box), shared.within(whole)
        if weight is None:
            total[(slice(None), *there)] = output[(slice(None), *here)]
            return
        weights = self.weights[here]
        total[(slice(None), *there)] += weights * output[(slice(None), *here)]
        weight[there] += weights

    def _box(self, row: int) -> Box:
        """The part of the output that a slab holds."""
        start, following = (self.tiling.kept_box((z, 0, 0)).start[0] for z in (row, row + 1))
        stop = self.write.stop[0] if row == self.last else following
        (_, *start_yx), (_, *stop_yx) = self.write.start, self.write.stop
        return Box((start, *start_yx), (stop, *stop_yx)).clip(self.write)

    def _slab(self, row: int) -> tuple[Box, Tensor, Tensor | None]:
        if row not in self.slabs:
            box = self._box(row)
            total = torch.zeros((len(self.channels), *box.shape), device=self.device)
            weight = torch.zeros(box.shape, device=self.device) if self.tiling.overlapping else None
            self.slabs[row] = box, total, weight
        return self.slabs[row]

    def send(self, before: int | None) -> None:
        """Begin to copy the slabs before a row of tiles to this machine; None: all."""
        for row in sorted(self.slabs):
            if before is None or row < before:
                box, total, weight = self.slabs.pop(row)
                if weight is not None:
                    total /= weight
                self.finite &= total.isfinite().all()
                sections = box.within(self.write)[0]
                self.transfers.down(self._rounded(total), self.target[:, sections])

    def _rounded(self, values: Tensor) -> Tensor:
        """`round(255 p)`, as `to_uint8`; overwrites the values."""
        for number, channel in enumerate(self.channels):
            low, high = channel.range
            if (low, high) != (0, 1):
                values[number] -= low
                # By a tensor, because a GPU would multiply by the reciprocal of a number.
                values[number] /= torch.full((), high - low, device=self.device)
        return values.clamp_(0, 1).mul_(255).round_().to(torch.uint8)

    def result(self, subject: str) -> np.ndarray:
        """The integers, when all are copied."""
        finite = bool(self.finite)
        self.transfers.finish()
        if not finite:
            raise ValueError(f"{subject}: the output has values that are not finite")
        integers: np.ndarray = self.target.numpy()
        return integers
