"""Copies to and from a GPU are in time, however late its streams run them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from tests.models.gpu.blocks import Work
from volflow.core.geometry import Box
from volflow.models.gpu import transfers
from volflow.models.gpu.transfers import DirectTransfers, GpuTransfers
from volflow.predict.tiling import Tiling


class LateStream:
    """A stream that runs what is queued only when something waits for it."""

    def __init__(self, device: object = None) -> None:
        self.queued: list[Callable[[], object]] = []
        self.waited: list[LateStream] = []
        self.run = 0

    def run_until(self, position: int) -> None:
        while self.run < position:
            self.queued[self.run]()
            self.run += 1

    def record_event(self) -> LateEvent:
        event = LateEvent()
        event.record(self)
        return event

    def wait_event(self, event: LateEvent) -> None:
        self.waited.append(event.stream)
        if self is Gpu.computing:  # its work is done by torch here and now
            event.synchronize()
        else:
            self.queued.append(event.synchronize)

    def synchronize(self) -> None:
        self.run_until(len(self.queued))


class LateEvent:
    """The end of what is queued in a stream."""

    def __init__(self, blocking: bool = False) -> None:
        self.stream, self.position = LateStream(), 0

    def record(self, stream: LateStream) -> None:
        self.stream, self.position = stream, len(stream.queued)

    def synchronize(self) -> None:
        self.stream.run_until(self.position)


class Gpu(TorchFunctionMode):
    """Tensors of a CPU that are copied as a GPU copies, and freed when their users are known."""

    computing = LateStream()

    def __init__(self) -> None:
        super().__init__()
        self.current = Gpu.computing
        self.users: list[LateStream] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is torch.Tensor.copy_ and (kwargs or {}).get("non_blocking"):
            target, source = args
            assert target.is_contiguous()
            assert source.is_contiguous()  # a GPU copies anything else by way of a third tensor
            self.current.queued.append(lambda: torch.Tensor.copy_(target, source))
            return target
        return function(*args, **(kwargs or {}))

    @contextlib.contextmanager
    def stream(self, stream: LateStream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    """A GPU whose streams are as late as they may be."""
    gpu = Gpu()
    monkeypatch.setattr(torch.cuda, "Stream", LateStream)
    monkeypatch.setattr(torch.cuda, "Event", LateEvent)
    monkeypatch.setattr(torch.cuda, "stream", gpu.stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Gpu.computing)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda _, user: gpu.users.append(user))
    monkeypatch.setattr(transfers, "pinned", lambda s, dtype: torch.full(s, 55, dtype=dtype))
    with gpu:
        yield gpu


TILING = Tiling(Box((0, 0, 0), (20, 9, 12)), (9, 9, 9), (2, 1, 2), (4, 5, 5))


def test_a_block_has_the_same_bytes_however_late_copies_are(gpu: Gpu) -> None:
    work = Work(TILING, dtype="uint16", flips="z", batch=3, ends=(20, 40_000))
    inference = work.inference()
    inference.transfers = late = GpuTransfers(torch.device("cpu"))
    actual = work.on_device((20, 9, 12), inference)
    assert actual.tobytes() == work.on_device((20, 9, 12)).tobytes()
    assert set(gpu.users) == {Gpu.computing, late.downward}
    # The network's stream is never late here, so that nothing else shows a wait for it.
    assert late.downward.waited == [Gpu.computing] * gpu.users.count(late.downward)


def test_an_array_may_be_changed_when_its_copy_has_begun(gpu: Gpu) -> None:
    for each in (GpuTransfers(torch.device("cpu")), DirectTransfers()):
        array = np.arange(6, dtype="uint8").reshape(2, 3)
        upload = each.up(array)
        array[:] = 0
        assert each.arrived(upload).tolist() == [[0, 1, 2], [3, 4, 5]]
        assert each.bytes_up == 6


def test_a_copy_has_arrived_only_for_work_that_waits_for_it(gpu: Gpu) -> None:
    """The fixture itself: without waiting, another test would not notice a missing wait."""
    late = GpuTransfers(torch.device("cpu"))
    upload = late.up(np.ones(4, "uint8"))
    assert upload.tensor.tolist() != [1, 1, 1, 1]
    target = late.host((1, 4))
    late.down(late.arrived(upload)[None], target)
    assert target.tolist() == [[55] * 4]
    late.finish()
    assert target.tolist() == [[1] * 4]
    assert late.bytes_down == 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_block_has_the_bytes_of_the_plain_way() -> None:
    work = Work(TILING, flips="zx", batch=3)
    inference = work.inference()
    inference.device = torch.device("cuda")
    inference.network.to("cuda")
    inference.crops_first = True
    actual = work.on_device((20, 9, 12), inference)
    np.testing.assert_array_equal(actual, work.in_tiles((20, 9, 12), inference))
