"""A block on the device gives the bytes of a block in tiles, whatever the blocks and batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.models.gpu.blocks import CHANNELS, LateTransfers, Small, Work
from tests.strategies import triples
from volflow.core.block_progress import listening
from volflow.core.geometry import Box, zyx
from volflow.models.gpu.transfers import DirectTransfers
from volflow.predict.flips import Channel
from volflow.predict.tiling import Tiling

CUBE = Tiling(Box((0, 0, 0), (20, 18, 22)), (12, 12, 12), (2, 2, 2), (8, 8, 8))


@st.composite
def works(draw: st.DrawFn) -> Work:
    start, shape = draw(triples(-5, 5)), draw(triples(1, 9))
    context, width = draw(triples(0, 2)), draw(triples(2, 6))
    tile = zyx(width) + zyx(context) * 2
    stride = zyx([draw(st.integers((k + 1) // 2, k)) for k in width])
    padding = draw(st.sampled_from(["reflect", "symmetric"]))
    tiling = Tiling(Box(start, zyx(start) + shape), tile, context, stride, padding)
    return Work(
        tiling,
        dtype=draw(st.sampled_from(["uint8", "uint16"])),
        image_channels=draw(st.sampled_from([0, 2])),
        flips=draw(st.sampled_from(["", "x", "zy", "zyx"])),
        batch=draw(st.integers(1, 4)),
        ends=(20, draw(st.sampled_from([200, 40_000]))),
    )


@settings(max_examples=25)
@given(works(), triples(3, 9), st.booleans())
def test_the_device_gives_the_bytes_of_the_plain_way(work: Work, shape, late: bool) -> None:
    inference = work.inference()
    inference.transfers = LateTransfers() if late else DirectTransfers()
    actual = work.on_device(shape, inference)
    assert actual.tobytes() == work.in_tiles(shape).tobytes()


@settings(max_examples=10)
@given(works(), triples(3, 9), st.booleans())
def test_blocks_change_no_byte_on_the_device(work: Work, shape, crops_first: bool) -> None:
    inference = replace(work, batch=1).inference()  # torch's convolution depends on the batch
    inference.crops_first = crops_first
    whole = work.on_device(work.tiling.bounds.shape, inference)
    assert work.on_device(shape, inference).tobytes() == whole.tobytes()


@settings(max_examples=10)
@given(works(), triples(4, 9))
def test_a_sigmoid_of_the_kept_part_differs_in_its_last_bit_at_most(work: Work, shape) -> None:
    inference = work.inference()
    inference.crops_first = True
    actual, exact = work.on_device(shape, inference).astype(int), work.on_device(shape)
    assert np.abs(actual - exact).max() <= 1
    assert (actual != exact).mean() < 0.01


def test_a_network_that_pads_nothing_is_as_good() -> None:
    work = Work(CUBE, channels=tuple(replace(each, shift=(0, 0, 0)) for each in CHANNELS))
    inference = work.inference(Small(margin=2))
    plain = work.in_tiles((20, 20, 20), work.inference(Small(margin=2)))
    assert work.on_device((9, 8, 16), inference).tobytes() == plain.tobytes()


def test_channels_of_a_network_of_ours_and_of_another_may_be_chosen() -> None:
    work = Work(CUBE, channels=(CHANNELS[3], CHANNELS[0]))
    for crops_first in (False, True):
        inference = work.inference()
        inference.channels = inference.selected = [3, 0]
        inference.logits_of, inference.crops_first = [False, True], crops_first
        every = Work(CUBE).on_device((20, 20, 20))
        np.testing.assert_array_equal(work.on_device((8, 9, 10), inference), every[[3, 0]])


@pytest.mark.parametrize(
    ("flips", "shift", "reported"),
    [
        ("x", (0, 0, 0), r"flips: expected a network whose output is as large .* \(8, 8, 8\)"),
        ("", (0, 0, -1), "affinities to the next voxel: expected a network whose output is as"),
    ],
)
def test_flips_and_shifts_need_an_output_as_large_as_the_input(flips, shift, reported) -> None:
    channels = tuple(replace(each, shift=shift) for each in CHANNELS)
    work = Work(CUBE, flips=flips, channels=channels)
    with pytest.raises(ValueError, match=reported):
        work.on_device((20, 20, 20), work.inference(Small(margin=2)))


def test_an_output_of_another_size_is_refused() -> None:
    work = Work(CUBE, channels=tuple(replace(each, shift=(0, 0, 0)) for each in CHANNELS))
    with pytest.raises(ValueError, match=r"expected \(4, 12, 12, 12\), or \(4, 8, 8, 8\)"):
        work.on_device((20, 20, 20), work.inference(Small(margin=1)))


class Blank(nn.Module):
    """A network that returns NaN for the last voxel of a tile, which is kept, and 1 for others."""

    def forward(self, x: Tensor) -> Tensor:
        output = torch.ones(len(x), len(CHANNELS), *x.shape[2:])
        output[..., -1, -1, -1] = torch.nan
        return output


@pytest.mark.parametrize("overlap", [0, 2])
def test_values_that_are_not_finite_count_within_the_block_alone(overlap: int) -> None:
    stride = (8 - overlap, 8, 8)
    plain = tuple(Channel(range=each.range) for each in CHANNELS)
    within = Work(Tiling(Box((0, 0, 0), (8, 8, 8)), (8, 8, 8), (0, 0, 0), stride), channels=plain)
    with pytest.raises(ValueError, match="the network: the output has values that are not finite"):
        within.on_device((8, 8, 8), within.inference(Blank()))
    beyond = Work(Tiling(Box((0, 0, 0), (8, 8, 7)), (8, 8, 8), (0, 0, 0), stride), channels=plain)
    ones = beyond.on_device((8, 8, 8), beyond.inference(Blank()))
    expected = [round(255 / (1 + np.exp(-1)))] * 3 + [round(255 * 3.5 / 4.5)]
    assert [np.unique(channel).tolist() for channel in ones] == [[value] for value in expected]


class Limited(Small):
    """A network on a device that has memory for so many tiles, or so many voxels, at once."""

    def __init__(self, tiles: int = 100, voxels: int = 10**9) -> None:
        super().__init__()
        self.tiles, self.voxels, self.seen = tiles, voxels, list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.tiles or x.shape[2:].numel() > self.voxels:
            raise torch.OutOfMemoryError("tried to allocate 20.00 GiB")
        return torch.cat([super(Limited, self).forward(tile[None]) for tile in x])


@pytest.mark.parametrize(("fit", "left"), [(4, 4), (3, 2), (1, 1)])
def test_a_batch_that_does_not_fit_is_halved_and_gives_the_same_bytes(fit: int, left: int) -> None:
    overlapping = replace(CUBE, stride=zyx((5, 8, 6)))
    work = Work(overlapping, batch=4, flips="y")
    inference = work.inference(Limited(fit))
    actual = work.on_device((13, 18, 22), inference)
    assert inference.tiles_per_batch == left
    assert inference.network.seen[-1] == left  # the last batch is filled up
    expected = replace(work, batch=1).on_device((20, 18, 22))
    assert actual.tobytes() == expected.tobytes()


def test_a_tile_that_does_not_fit_names_one_that_would() -> None:
    tiling = Tiling(Box((0, 0, 0), (40, 40, 40)), (36, 36, 36), (10, 10, 10), (16, 16, 16))
    work = Work(tiling, batch=2)
    with pytest.raises(MemoryError, match=r"set input_tile: \[32, 32, 32\] of the step `predict`"):
        work.on_device((40, 40, 40), work.inference(Limited(voxels=33**3)))


def test_a_block_that_does_not_fit_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 20.00 GiB")

    monkeypatch.setattr(DirectTransfers, "_up", full)
    with pytest.raises(MemoryError, match=r"a block of \[20, 18, 22\] does not fit .* of cpu; set"):
        Work(CUBE).on_device((20, 18, 22))


def test_tiles_are_reported_when_the_device_has_computed_them() -> None:
    events: list[object] = []

    class Noting(DirectTransfers):
        def mark(self) -> int:
            events.append("given")
            return len(events)

        def wait(self, mark: int) -> None:
            events.append("computed")

    work = Work(Tiling(Box((0, 0, 0), (4, 8, 24)), (4, 4, 8), (0, 0, 0), (4, 4, 8)), batch=2)
    inference = work.inference()
    inference.transfers = Noting()
    with listening(lambda *parts: events.append(parts)):
        work.on_device((4, 8, 24), inference)
    assert events == [
        *("given", "given", "computed", (2, 6)),  # a second batch is given before the first is done
        *("given", "computed", (4, 6), "computed", (6, 6)),
    ]


def test_an_interrupted_block_leaves_nothing_behind() -> None:
    class Interrupted(Small):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            Interrupted.calls += 1
            if Interrupted.calls == 7:
                raise KeyboardInterrupt
            return super().forward(x)

    before = torch.are_deterministic_algorithms_enabled()
    work = Work(CUBE)
    inference = work.inference(Interrupted())
    inference.transfers = transfers = LateTransfers()
    with pytest.raises(KeyboardInterrupt):
        work.on_device((20, 18, 22), inference)
    assert not transfers.sent
    assert torch.are_deterministic_algorithms_enabled() == before
    again = work.on_device((20, 18, 22), inference)
    assert again.tobytes() == work.in_tiles((20, 18, 22)).tobytes()


def test_a_seventh_of_the_bytes_is_copied_or_less() -> None:
    """Tiles of the proportions of the bundled networks: 1.25 times what is kept along an axis."""
    tiling = Tiling(Box((0, 0, 0), (48, 48, 48)), (20, 20, 20), (2, 2, 2), (16, 16, 16))
    for flips, part in (("", 7), ("x", 14)):
        work = Work(tiling, flips=flips, channels=(Channel(),) * 4)
        inference = work.inference()
        work.on_device((48, 48, 48), inference)
        copied = inference.transfers.bytes_up + inference.transfers.bytes_down
        # one integer up and four down for each voxel, the table of intensities, few indices
        assert copied < 48**3 * 5 + 256 * 4 + 2000
        passes, tiles = 2 ** len(flips), 3**3
        in_tiles = passes * tiles * 20**3 * 4 * (1 + 4)  # float32, with the margins
        assert copied * part < in_tiles
