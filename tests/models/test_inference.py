"""A network at work: what it does where memory does not suffice, and compiled."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import deterministic

from tests.networks import header, network
from volflow.models.checkpoint import fold_batchnorm
from volflow.models.inference import Inference

TILES = np.random.default_rng(0).normal(size=(5, 36, 36, 36)).astype("float32")


class Short(nn.Module):
    """A network on a device that has memory for so many tiles, or so many voxels, at once."""

    def __init__(self, tiles: int = 100, voxels: int = 10**9) -> None:
        super().__init__()
        self.tiles, self.voxels = tiles, voxels
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        if x.shape[0] > self.tiles or x.shape[2:].numel() > self.voxels:
            raise torch.OutOfMemoryError("tried to allocate 20.00 GiB")
        return x * torch.tensor([1.0, -2.0, 3.0, 0.5])[:, None, None, None]


def at_work(model: nn.Module, batch: int) -> Inference:
    """As on a GPU, where a batch is computed at once."""
    created = Inference(model, header(batch=batch), (0, 2), "cpu", "fp32")
    created.tiles_per_batch = batch
    return created


@pytest.mark.parametrize(
    ("batch", "room", "left"), [(4, 4, 4), (4, 3, 2), (4, 1, 1), (5, 4, 2), (7, 1, 1)]
)
def test_a_batch_that_memory_does_not_hold_is_halved_and_gives_the_same_bytes(batch, room, left):
    expected = at_work(Short(), batch)(TILES)
    assert expected.shape == (5, 2, 36, 36, 36)
    assert len({tile.tobytes() for tile in expected}) == 5
    short = at_work(Short(room), batch)
    assert short(TILES).tobytes() == expected.tobytes()
    assert short.tiles_per_batch == left


def test_how_many_tiles_fit_is_remembered_and_reported_once(caplog):
    short = Short(2)
    created = at_work(short, 4)
    with caplog.at_level(logging.WARNING):
        created(TILES)
        created(TILES)
    assert [shape[0] for shape in short.seen] == [4, *[2] * 6]  # the last of five is filled up
    assert [record.getMessage() for record in caplog.records] == [
        "a batch of tiles does not fit into the memory of cpu; from now on 2 per batch"
    ]


def test_a_tile_that_memory_does_not_hold_names_one_that_fits():
    short = Short(voxels=33**3)  # halo 10, stride 2: 36 keeps 16, 32 keeps 12
    created = at_work(short, 2)
    reported = r"one tile of \[36, 36, 36\] does not fit into the memory of cpu; "
    with pytest.raises(MemoryError, match=reported) as caught:
        created(TILES)
    assert "set input_tile: [32, 32, 32] of the step `predict`" in str(caught.value)
    assert created(TILES[:, :32, :32, :32]).shape == (5, 2, 32, 32, 32)


def test_a_tile_that_fits_is_a_multiple_of_the_stride():
    created = at_work(Short(voxels=27**3), 1)  # 34 keeps 14, half of that is 7
    with pytest.raises(MemoryError, match=r"input_tile: \[26, 26, 26\]"):
        created(TILES[:, :34, :34, :34])


def test_where_no_tile_fits_another_device_is_advised():
    with pytest.raises(MemoryError, match="no smaller one would: free the device, or set device"):
        at_work(Short(voxels=0), 1)(TILES)


def test_other_errors_of_a_network_are_not_taken_for_a_lack_of_memory():
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("sizes do not match")

    with pytest.raises(RuntimeError, match="sizes do not match"):
        at_work(Broken(), 2)(TILES)


@pytest.mark.parametrize("threads", [1, 2])
def test_on_a_processor_one_tile_is_computed_at_a_time_by_as_many_threads_as_reported(threads):
    seen = []

    class Told(Short):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((x.shape[0], torch.get_num_threads()))
            return super().forward(x)

    before = torch.get_num_threads()
    torch.set_num_threads(3 - threads)
    try:
        Inference(Told(), header(batch=4), (0, 2), "cpu", "fp32", threads)(TILES[:3])
        assert torch.get_num_threads() == 3 - threads
    finally:
        torch.set_num_threads(before)
    assert seen == [(1, threads)] * 3


@pytest.mark.parametrize(("name", "filled"), [("resunet3d", False), ("mine:Network", True)])
def test_new_tensors_are_filled_for_the_networks_of_users_alone(name, filled):
    class Hasty(nn.Module):
        """A network that returns what it never computed."""

        def forward(self, x: Tensor) -> Tensor:
            seen.append(deterministic.fill_uninitialized_memory)
            return torch.cat([torch.empty_like(x)] * 4, dim=1)

    seen: list[bool] = []
    before = deterministic.fill_uninitialized_memory
    created = Inference(Hasty(), header(network=name), (0, 2), "cpu", "fp32")(TILES[:1])
    assert seen == [filled]
    assert np.isnan(created).all() or not filled
    assert deterministic.fill_uninitialized_memory == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of torch's own older parts
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with a C++ compiler")
def test_compiled_it_says_the_same_up_to_rounding():
    reported = header()
    tile = TILES[:1, :24, :24, :24]
    plain = Inference(fold_batchnorm(network()), reported, (0, 1, 2), "cpu", "fp32")(tile)
    created = Inference(
        fold_batchnorm(network()), reported, (0, 1, 2), "cpu", "fp32", compiled=True
    )
    compiled = created(tile)
    assert plain.std() > 0.05
    np.testing.assert_allclose(compiled, plain, atol=1e-4)
    assert compiled.tobytes() == created(tile).tobytes()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0  # it was compiled


def test_algorithms_are_deterministic_without_the_compiler():
    code = """
import sys, torch
from volflow.models.devices import reproducible
torch.set_deterministic_debug_mode("warn")
with reproducible(1):
    assert torch.get_deterministic_debug_mode() == 2, "an error where there is no such algorithm"
assert torch.get_deterministic_debug_mode() == 1, "restored"
assert "torch._inductor" not in sys.modules
with reproducible(1, compiled=True):
    assert torch.get_deterministic_debug_mode() == 2
    assert torch._inductor.config.deterministic
assert torch.get_deterministic_debug_mode() == 1
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
