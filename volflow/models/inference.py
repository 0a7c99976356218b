"""A network applied to tiles: numpy in, numpy out, on the device and in the precision chosen.

On a CPU tiles are computed one at a time, so that a result cannot depend on the other tiles of a
batch or the position in it. The number of threads is fixed, because it determines how sums are
split.

On a GPU a batch has as many tiles as the header specifies. A batch that does not fit into memory
is halved, down to one tile: the result of a tile is the same, as far as the device's library does
not choose its algorithm by the batch. Where a single tile does not fit, the error names a tile
that would; it is not chosen automatically, because another tile gives another result.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from volflow.checkpoints.header import Header
from volflow.checkpoints.safetensors_file import sha256
from volflow.core.geometry import Triple, zyx
from volflow.errors import PlanError, StorageError
from volflow.models.checkpoint import build, load_checkpoint
from volflow.models.devices import Device, Precision, device_of, is_faster_in_bf16, reproducible
from volflow.models.gpu.transfers import DirectTransfers, GpuTransfers, Transfers
from volflow.models.mnet import MNet
from volflow.models.resunet3d import ResUNet3D

log = logging.getLogger(__name__)

PARTS = 8  # steps in which a tile that fits into memory is searched


class Inference:
    """A loaded network, called with batches of tiles.

    Parameters
    ----------
    network : nn.Module
        In eval mode, float32; one of ours keeps only the requested channels.
    header : Header
    channels : sequence of int
        The network's channels to return, in this order.
    device : {'auto', 'cpu', 'cuda'}
        auto: cuda where there is one.
    precision : {'auto', 'fp32', 'bf16'}
        auto: bf16 where the device is faster with it.
    threads : int
        Threads of a CPU for one tile.
    compiled : bool
        Whether torch compiles the network for the shape of its tiles, at the first of them.
    """

    def __init__(
        self,
        network: nn.Module,
        header: Header,
        channels: Sequence[int],
        device: Device = "auto",
        precision: Precision = "auto",
        threads: int = 1,
        compiled: bool = False,
    ) -> None:
        self.header, self.channels, self.threads = header, list(channels), threads
        self.logits_of = [header.logits[channel] for channel in self.channels]
        self.selected: list[int] | None = self.channels
        if isinstance(network, ResUNet3D | MNet):
            network.keep(self.channels)
            self.selected = None
        self.device = torch.device(device_of(device))
        self.bf16 = precision == "bf16" or (precision == "auto" and is_faster_in_bf16(self.device))
        # Our own networks consist of convolutions and run in bfloat16 as a whole, which saves
        # conversions at every layer; for others torch chooses the operations (autocast).
        self.whole_bf16 = self.bf16 and header.registered
        self.dtype = torch.bfloat16 if self.whole_bf16 else torch.float32
        self.network = network.to(self.device, self.dtype)
        if all(tensor.dim() != 4 for tensor in network.parameters()):  # no 2D layers
            network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.compiled = compiled
        if compiled:
            self.network.compile(dynamic=False)
        on_gpu = self.device.type == "cuda"
        self.tiles_per_batch = header.batch if on_gpu else 1
        self.whole_blocks = on_gpu
        """Whether `predict` leaves whole blocks to the device, see `volflow.models.gpu`."""
        self.crops_first = on_gpu
        """Whether a sigmoid may be computed on a part of a tile, see `activated`."""

    @cached_property
    def transfers(self) -> Transfers:
        """Copies to and from the device; created once, because memory belongs to its streams."""
        return GpuTransfers(self.device) if self.device.type == "cuda" else DirectTransfers()

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """The predictions of a batch of tiles.

        Parameters
        ----------
        batch : float32 array, (B, Z, Y, X) or (B, K, Z, Y, X)

        Returns
        -------
        float32 array, (B, C, Z', Y', X'), C the requested channels
        """
        if batch.ndim == 4:
            batch = batch[:, None]
        predictions: list[np.ndarray] = []
        done = 0
        while done < len(batch):
            tiles = batch[done : done + self.tiles_per_batch]
            prediction = self._predict(tiles, size=min(self.tiles_per_batch, len(batch)))
            if prediction is None:
                self.halve_batch(zyx(batch.shape[-3:]))
                continue
            predictions.append(prediction)
            done += len(tiles)
        return predictions[0] if len(predictions) == 1 else np.concatenate(predictions)

    def _predict(self, tiles: np.ndarray, size: int) -> np.ndarray | None:
        """The predictions of one batch, padded to `size` tiles; None if memory does not suffice."""
        missing = size - len(tiles)
        if missing:
            tiles = np.pad(tiles, [(0, missing)] + [(0, 0)] * (tiles.ndim - 1))
        try:
            with torch.inference_mode(), self.reproducible():
                return self._forward(tiles)[: size - missing]
        except torch.OutOfMemoryError:  # its tensors are freed after this block
            return None

    def halve_batch(self, tile: Triple) -> None:
        """Halve the number of tiles per batch, from now on.

        Raises
        ------
        MemoryError
            If a single tile does not fit; it names a tile that would.
        """
        torch.cuda.empty_cache()
        if self.tiles_per_batch > 1:
            self.tiles_per_batch //= 2
            log.warning(
                "a batch of tiles does not fit into the memory of %s; from now on %d per batch",
                self.device,
                self.tiles_per_batch,
            )
            return
        fits = self._fitting(tile)
        advice = (
            f"a tile of {list(fits)} would: set input_tile: {list(fits)} of the step `predict` "
            "(not chosen automatically, because another tile gives another result)"
            if fits
            else "no smaller one would: free the device, or set device: cpu"
        )
        raise MemoryError(
            f"one tile of {list(tile)} does not fit into the memory of {self.device}; {advice}"
        )

    def _fitting(self, tile: Triple) -> Triple | None:
        """The largest of some smaller tiles that fits into the device's memory, found by trying."""
        halo, stride = self.header.halo, self.header.total_stride
        for part in range(PARTS - 1, 0, -1):
            output = (zyx(tile) - zyx(halo) * 2) * part // PARTS // stride * stride
            candidate = output.maximum(stride) + zyx(halo) * 2
            if candidate == tile:
                continue
            empty = np.zeros((1, self.header.in_channels, *candidate), "float32")
            if self._predict(empty, size=1) is not None:
                return candidate
            torch.cuda.empty_cache()
        return None

    def _forward(self, batch: np.ndarray) -> np.ndarray:
        """The predictions of one batch."""
        logits = self.logits(torch.from_numpy(batch))
        return torch.stack([self.activated(tile) for tile in logits]).cpu().numpy()

    def reproducible(self) -> contextlib.AbstractContextManager[None]:
        """Settings of torch under which a tile always gives the same bytes."""
        return reproducible(self.threads, fill=not self.header.registered, compiled=self.compiled)

    def logits(self, tiles: Tensor) -> Tensor:
        """The network's own output: (B, K, Z, Y, X) to (B, N, Z', Y', X'), on the device."""
        tiles = tiles.to(self.device, self.dtype)
        tiles = tiles.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(self.device.type, torch.bfloat16, self.bf16 and not self.whole_bf16):
            output: Tensor = self.network(tiles)
        return output

    def activated(self, tile: Tensor) -> Tensor:
        """The requested channels of one tile's output, float32, with a sigmoid where it belongs.

        One whole tile at a time: on a CPU the last bits of a sigmoid depend on a voxel's place in
        its array, because torch computes the voxels that do not fill a vector in another way.
        """
        channels = tile if self.selected is None else tile[self.selected]
        values = channels.to(torch.float32, memory_format=torch.contiguous_format)
        if all(self.logits_of):
            values = values.sigmoid()
        elif any(self.logits_of):
            values[self.logits_of] = values[self.logits_of].sigmoid()
        return values

    def activate(self, values: Tensor) -> None:
        """Apply the sigmoid in place to any part of the requested channels, float32 (C, ...)."""
        for channel, is_logit in zip(values, self.logits_of, strict=True):
            if is_logit:
                channel.sigmoid_()

    def source(self, number: int) -> int:
        """The channel of the network's own output that is the requested channel of this number."""
        return number if self.selected is None else self.selected[number]


def loaded(header: Header, path: str | None, foreign: bool) -> nn.Module:
    """The network of a header, in eval mode, with the weights at a path.

    Raises
    ------
    StorageError
        If the weights are missing, damaged, or not those of the header.
    """
    if path is None:  # a network without parameters, see `network_problem`
        return build(header).float().eval()
    network, stored = load_checkpoint(path, header if foreign else None)
    if stored != header or sha256(path) != header.weights_sha256:
        raise StorageError(f"checkpoint {path} has changed since the run was planned")
    return network


def network_problem(header: Header, path: str | None) -> str:
    """The problem of a network that the user declared, '' if there is none.

    The network is built, its weights are loaded, and the shape of its output is derived; nothing
    is computed.
    """
    try:
        if path is not None:
            load_checkpoint(path, header)
        with torch.device("meta"):
            network = build(header).eval()
            tile = torch.empty(1, header.in_channels, *header.input_tile)
    except (PlanError, StorageError) as error:
        return str(error)
    if path is None and network.state_dict():
        return f"network '{header.network}' has parameters; expected weights: FILE"
    try:
        with torch.inference_mode():
            output = network(tile)
    except NotImplementedError:  # an operation whose shape torch cannot derive
        return ""
    except (RuntimeError, TypeError, ValueError) as error:
        return (
            f"network '{header.network}' does not accept a tile of shape {tuple(tile.shape)}: "
            f"{error}"
        )
    if not isinstance(output, torch.Tensor):
        return f"network '{header.network}' returns {type(output).__name__}; expected one tensor"
    shapes = [(1, header.out_channels, *side) for side in (header.input_tile, header.output_tile)]
    if tuple(output.shape) not in shapes:
        return (
            f"network '{header.network}' returns shape {tuple(output.shape)} for a tile of shape "
            f"{tuple(tile.shape)}; expected {shapes[0]}, or {shapes[1]} if it does not pad"
        )
    return ""
