"""A network at work: numpy in, numpy out, on the device and in the precision that gain most.

One tile at a time on a processor: what a tile makes then cannot depend on its neighbours in a
batch, nor on its place there. Threads are as many as told, because sums are cut at threads.

On a GPU as many tiles are computed at once as the header says. A batch that does not fit into its
memory is halved, down to one tile: what is made of a tile is the same, as far as the device's
library does not choose its way of multiplying by the batch. Where one tile does not fit nothing is
chosen, because another tile gives another result: the error tells which one would fit.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import nn

from volflow.checkpoints.header import Header, sha256
from volflow.core.geometry import Triple, zyx
from volflow.errors import PlanError, StorageError
from volflow.models.checkpoint import build, load_checkpoint
from volflow.models.mnet import MNet
from volflow.models.resunet3d import ResUNet3D

log = logging.getLogger(__name__)

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]

PARTS = 8  # of what a tile keeps: how finely a tile is sought that fits into memory
GAINS = ("amx_bf16", "avx512_bf16")  # processors that multiply bfloat16 faster than float32


class Inference:
    """A loaded network, called with batches of tiles.

    Parameters
    ----------
    network : nn.Module
        In eval mode, float32; of one of ours, only the channels that are expected are left.
    header : Header
    channels : sequence of int
        Which of the network's channels are expected, in this order.
    device : {'auto', 'cpu', 'cuda'}
        auto: cuda where there is one.
    precision : {'auto', 'fp32', 'bf16'}
        auto: bf16 where the device gains by it.
    threads : int
        Threads of a processor that one tile is computed with.
    compiled : bool
        Have torch compile the network for the shape of its tiles, at the first of them.
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
        self.logits = [header.logits[channel] for channel in self.channels]
        self.picked: list[int] | None = self.channels
        if isinstance(network, ResUNet3D | MNet):
            network.keep(self.channels)
            self.picked = None
        self.device = torch.device(device_of(device))
        self.bfloat = precision == "bf16" or (precision == "auto" and gains(self.device))
        # Our own networks hold nothing but convolutions and bear it whole, which saves a pass
        # over every layer; of a foreign one torch is left to choose what it may do in bfloat16.
        self.whole = self.bfloat and header.registered
        self.dtype = torch.bfloat16 if self.whole else torch.float32
        self.network = network.to(self.device, self.dtype)
        if all(tensor.dim() != 4 for tensor in network.parameters()):  # no layers of two axes
            network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        if compiled:
            self.network.compile(dynamic=False)
        self.at_once = header.batch if self.device.type == "cuda" else 1

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """What the network says of a batch of tiles.

        Parameters
        ----------
        batch : float32 array, (B, Z, Y, X) or (B, K, Z, Y, X)

        Returns
        -------
        float32 array, (B, C, Z', Y', X'), C the channels that are expected
        """
        if batch.ndim == 4:
            batch = batch[:, None]
        made: list[np.ndarray] = []
        done = 0
        while done < len(batch):
            shown = batch[done : done + self.at_once]
            answer = self._answer(shown, of=min(self.at_once, len(batch)))
            if answer is None:
                self._take_fewer(zyx(batch.shape[-3:]))
                continue
            made.append(answer)
            done += len(shown)
        return made[0] if len(made) == 1 else np.concatenate(made)

    def _answer(self, shown: np.ndarray, of: int) -> np.ndarray | None:
        """The answer to tiles that are computed at once; None if memory does not suffice.

        A last batch is filled up to as many as there are `of` in the others.
        """
        lacking = of - len(shown)
        if lacking:
            shown = np.pad(shown, [(0, lacking)] + [(0, 0)] * (shown.ndim - 1))
        try:
            with torch.inference_mode(), reproducible(self.threads):
                return self._forward(shown)[: of - lacking]
        except torch.OutOfMemoryError:  # what failed holds its tensors until this is left
            return None

    def _take_fewer(self, tile: Triple) -> None:
        """Halve the batch, from now on.

        Raises
        ------
        MemoryError
            If one tile is already too many; it says which tile would fit.
        """
        torch.cuda.empty_cache()
        if self.at_once > 1:
            self.at_once //= 2
            log.warning(
                "a batch of tiles does not fit into the memory of %s; from now on %d at once",
                self.device,
                self.at_once,
            )
            return
        fits = self._fitting(tile)
        advice = (
            f"a tile of {list(fits)} would: set input_tile: {list(fits)} of the step `predict`. It "
            "is not chosen for you, because with another tile the result is another"
            if fits
            else "no smaller one would: free the device, or set device: cpu"
        )
        raise MemoryError(
            f"one tile of {list(tile)} does not fit into the memory of {self.device}; {advice}"
        )

    def _fitting(self, tile: Triple) -> Triple | None:
        """The largest of some smaller tiles that the device has memory for, found by trying."""
        halo, stride = self.header.halo, self.header.total_stride
        for part in range(PARTS - 1, 0, -1):
            sides = zip(tile, halo, stride, strict=True)
            found = zyx([2 * h + max(s, (t - 2 * h) * part // PARTS // s * s) for t, h, s in sides])
            if found == tile:
                continue
            shown = np.zeros((1, self.header.in_channels, *found), "float32")
            if self._answer(shown, of=1) is not None:
                return found
            torch.cuda.empty_cache()
        return None

    def _forward(self, batch: np.ndarray) -> np.ndarray:
        """The answer to tiles that are computed at once; the sigmoid is taken tile by tile."""
        shown = torch.from_numpy(batch).to(self.device, self.dtype)
        shown = shown.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(self.device.type, torch.bfloat16, self.bfloat and not self.whole):
            logits = self.network(shown)
        found = []
        for tile in logits:
            wanted = tile if self.picked is None else tile[self.picked]
            values = wanted.to(torch.float32, memory_format=torch.contiguous_format)
            if all(self.logits):
                values = values.sigmoid()
            elif any(self.logits):
                values[self.logits] = values[self.logits].sigmoid()
            found.append(values)
        return torch.stack(found).cpu().numpy()


def loaded(header: Header, path: str | None, foreign: bool) -> nn.Module:
    """The network of a header, in eval mode, with the weights at a path.

    Raises
    ------
    StorageError
        If the weights are missing, damaged, or others than the header says.
    """
    if path is None:  # nothing is learnt in it, see `rehearse`
        return build(header).float().eval()
    network, found = load_checkpoint(path, header if foreign else None)
    if found != header or sha256(path) != header.weights_sha256:
        raise StorageError(f"checkpoint {path} has changed since the run was planned")
    return network


def device_of(device: Device) -> str:
    """The device that is meant.

    Raises
    ------
    PlanError
        If cuda is asked for and there is none.
    """
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise PlanError("device: cuda is asked for, and torch finds no such device here")
    return "cuda" if device == "cuda" or (device == "auto" and there) else "cpu"


def gains(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 on a device."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    tell = getattr(torch.cpu, "get_capabilities", None)  # newer than some torch that we allow
    return tell is not None and any(tell().get(name) for name in GAINS)


@contextlib.contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """The same bytes for the same tile: algorithms and threads are fixed, and put back after."""
    before = torch.get_num_threads()
    exact = torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        if threads != before:
            torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        yield
    finally:
        torch.use_deterministic_algorithms(exact)
        torch.backends.cudnn.benchmark = benchmark
        if threads != before:
            torch.set_num_threads(before)


def rehearse(header: Header, path: str | None) -> str:
    """What is wrong with a network that the user declared, '' if nothing: nothing is computed.

    It is made, its weights are loaded, and the shape of its answer is worked out.
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
        return f"network '{header.network}' has parameters, so weights have to be given"
    try:
        with torch.inference_mode():
            made = network(tile)
    except NotImplementedError:  # an operation that torch cannot work out the shape of
        return ""
    except (RuntimeError, TypeError, ValueError) as error:
        return (
            f"network '{header.network}' does not take a tile of shape {tuple(tile.shape)}: {error}"
        )
    if not isinstance(made, torch.Tensor):
        return f"network '{header.network}' returns {type(made).__name__}; expected one tensor"
    wanted = [(1, header.out_channels, *side) for side in (header.input_tile, header.output_tile)]
    if tuple(made.shape) not in wanted:
        return (
            f"network '{header.network}' makes {tuple(made.shape)} of a tile of shape "
            f"{tuple(tile.shape)}; expected {wanted[0]}, or {wanted[1]} if it pads nothing"
        )
    return ""
