"""Copies between this machine's memory and a device, which hide behind the device's work.

    copies up         | sections 1 | sections 2 |            |
    network           |            | batch 1    | batch 2    |
    copies down       |            |            | integers 1 | integers 2 |

A GPU works through *streams*: what is queued in one stream runs in order, and different streams run
at the same time. The network runs in torch's current stream; copies up and copies down have a
stream each. Only pinned memory (which the operating system does not move) is copied while the
program goes on.

References
----------
PyTorch notes, CUDA semantics: streams, pinned buffers, `Tensor.record_stream`. Its allocator of
pinned memory does not hand out a buffer again before the copies that were queued for it are done.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Upload(NamedTuple):
    """A copy to the device that may still be under way."""

    tensor: Tensor
    event: Any
    """Of the stream of the copy; None if the copy is done."""


class Transfers(ABC):
    """Copies to and from a device; `bytes_up` and `bytes_down` count what they moved."""

    def __init__(self) -> None:
        self.bytes_up = self.bytes_down = 0

    def up(self, array: np.ndarray) -> Upload:
        """Begin to copy an array to the device; the array may be changed afterwards."""
        self.bytes_up += array.nbytes
        return self._up(array)

    def down(self, values: Tensor, target: Tensor) -> None:
        """Begin to copy (C, ...) from the device into a tensor made by `host`.

        The copy begins when the device has computed the values; they must not be changed then.
        """
        self.bytes_down += values.nbytes
        self._down(values, target)

    @abstractmethod
    def host(self, shape: tuple[int, ...]) -> Tensor:
        """A uint8 tensor in this machine's memory, for `down`."""

    @abstractmethod
    def arrived(self, upload: Upload) -> Tensor:
        """The copied tensor, for the device's work from now on."""

    @abstractmethod
    def mark(self) -> Any:
        """A mark after all work that the device has been given."""

    @abstractmethod
    def wait(self, mark: Any) -> None:
        """Wait until the device has reached a mark."""

    @abstractmethod
    def finish(self) -> None:
        """Wait until all copies down are done."""

    @abstractmethod
    def _up(self, array: np.ndarray) -> Upload: ...

    @abstractmethod
    def _down(self, values: Tensor, target: Tensor) -> None: ...


class DirectTransfers(Transfers):
    """Transfers of a CPU, where the device's memory is this machine's; each is done at once."""

    def host(self, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(shape, dtype=torch.uint8)

    def arrived(self, upload: Upload) -> Tensor:
        return upload.tensor

    def mark(self) -> None:
        return None

    def wait(self, mark: None) -> None:
        pass

    def finish(self) -> None:
        pass

    def _up(self, array: np.ndarray) -> Upload:
        return Upload(torch.from_numpy(array.copy()), None)

    def _down(self, values: Tensor, target: Tensor) -> None:
        target.copy_(values)


class GpuTransfers(Transfers):
    """Transfers of a GPU, through pinned memory and two streams.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.upward = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.downward = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def host(self, shape: tuple[int, ...]) -> Tensor:
        return pinned(shape, torch.uint8)

    def arrived(self, upload: Upload) -> Tensor:
        computing = torch.cuda.current_stream(self.device)
        computing.wait_event(upload.event)
        upload.tensor.record_stream(computing)  # its memory belongs to the stream of the copy
        return upload.tensor

    def mark(self) -> torch.cuda.Event:
        # Waiting for a blocking event leaves the processor to the thread that reads ahead.
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event

    def wait(self, mark: torch.cuda.Event) -> None:
        mark.synchronize()

    def finish(self) -> None:
        self.downward.synchronize()

    def _up(self, array: np.ndarray) -> Upload:
        source = pinned(array.shape, torch.from_numpy(np.empty(0, array.dtype)).dtype)
        source.numpy()[...] = array
        with torch.cuda.stream(self.upward):
            tensor = torch.empty(source.shape, dtype=source.dtype, device=self.device)
            tensor.copy_(source, non_blocking=True)
        return Upload(tensor, self.upward.record_event())

    def _down(self, values: Tensor, target: Tensor) -> None:
        self.downward.wait_event(torch.cuda.current_stream(self.device).record_event())
        values.record_stream(self.downward)
        with torch.cuda.stream(self.downward):
            for channel, there in zip(values, target, strict=True):  # each of them is contiguous
                there.copy_(channel, non_blocking=True)


def pinned(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor in pinned memory of this machine; its values are arbitrary."""
    return torch.empty(shape, dtype=dtype, pin_memory=True)
