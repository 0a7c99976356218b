"""The output of a network for a volume does not depend on the blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.strategies import triples
from volflow.checkpoints.header import Padding
from volflow.core.geometry import BlockGrid, Box, Triple, zyx
from volflow.predict.tiling import (
    Tiling,
    fitted_tile,
    mirrored_positions,
    predict_tiles,
    tile_input,
)

PADDINGS = st.sampled_from(["reflect", "symmetric"])


def blurred(batch: np.ndarray) -> np.ndarray:
    """A network of reach 1 with two channels; at the faces of a tile it sees zeros."""
    out = batch.copy()
    for axis in (-3, -2, -1):
        for shift in (-1, 1):
            rolled = np.roll(batch, shift, axis)
            edge = [slice(None)] * 4
            edge[axis] = slice(0, 1) if shift == 1 else slice(-1, None)
            rolled[tuple(edge)] = 0
            out += 0.37 * rolled
    return np.stack([out, np.tanh(out)], axis=1)


def tile_dependent(batch: np.ndarray) -> np.ndarray:
    """A network that normalises over its tile, so that each tile gives another answer."""
    mean = batch.mean(axis=(-3, -2, -1), keepdims=True)
    return np.stack([batch - mean, batch * mean], axis=1)


@st.composite
def tilings(draw: st.DrawFn, blend: bool) -> Tiling:
    start, shape = draw(triples(-5, 5)), draw(triples(1, 14))
    context, remaining = draw(triples(0, 2)), draw(triples(1, 6))
    tile = zyx([k + 2 * c for k, c in zip(remaining, context, strict=True)])
    stride = zyx([draw(st.integers((k + 1) // 2, k)) for k in remaining]) if blend else remaining
    stop = zyx(start) + shape
    return Tiling(Box(start, stop), tile, context, stride)


def image_of(bounds: Box) -> np.ndarray:
    return np.random.default_rng(1).random(bounds.shape, dtype="float32")


def by_blocks(tiling: Tiling, shape: Triple, network, batch: int = 1) -> np.ndarray:
    """The volume put together from blocks that each read no more than the halo gives."""
    bounds = tiling.bounds
    image = image_of(bounds)
    out = np.full((2, *bounds.shape), np.nan, "float32")
    for block in BlockGrid(bounds, shape, tiling.halo(shape)):
        part = np.full(block.read.shape, np.nan, "float32")  # poison outside the bounds
        inside = block.read.clip(bounds)
        part[inside.within(block.read)] = image[inside.within(bounds)]
        created = predict_tiles(
            part, block.read, block.write, tiling, network, channels=2, batch=batch
        )
        out[(slice(None), *block.write.within(bounds))] = created
    return out


@settings(max_examples=60, deadline=None)
@given(tilings(blend=False), triples(1, 9), st.integers(1, 3))
def test_blocks_change_no_byte(tiling: Tiling, shape: Triple, batch: int) -> None:
    whole = by_blocks(tiling, tiling.bounds.shape, tile_dependent)
    assert np.isfinite(whole).all()
    assert by_blocks(tiling, shape, tile_dependent, batch).tobytes() == whole.tobytes()


@settings(max_examples=60, deadline=None)
@given(tilings(blend=True), triples(1, 9), st.integers(1, 3))
def test_blocks_change_no_byte_of_a_blend(tiling: Tiling, shape: Triple, batch: int) -> None:
    whole = by_blocks(tiling, tiling.bounds.shape, tile_dependent)
    assert np.isfinite(whole).all()
    assert by_blocks(tiling, shape, tile_dependent, batch).tobytes() == whole.tobytes()


@settings(max_examples=40, deadline=None)
@given(tilings(blend=True), triples(1, 9), PADDINGS)
def test_enough_context_equals_the_whole_volume_at_once(
    tiling: Tiling, shape: Triple, padding: Padding
) -> None:
    assume(min(tiling.context) >= 1)
    tiling, bounds = replace(tiling, padding=padding), tiling.bounds
    padded = np.pad(image_of(bounds), 1, mode=padding)
    expected = blurred(padded[None])[0][:, 1:-1, 1:-1, 1:-1]
    np.testing.assert_allclose(by_blocks(tiling, shape, blurred), expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(tilings(blend=True), triples(1, 9))
def test_the_halo_is_the_smallest_that_tiles_ask_for(tiling: Tiling, shape: Triple) -> None:
    need = [0, 0, 0]
    for block in BlockGrid(tiling.bounds, shape):
        for index in tiling.tiles_over(block.write):
            box = tiling.kept_box(index).grow(tiling.context).clip(tiling.bounds)
            for axis in range(3):
                before = block.write.start[axis] - box.start[axis]
                after = box.stop[axis] - block.write.stop[axis]
                need[axis] = max(need[axis], before, after)
    assert tiling.halo(shape) == tuple(need)


@settings(max_examples=60, deadline=None)
@given(tilings(blend=True))
def test_tiles_reach_a_box_if_they_keep_one_of_its_voxels(tiling: Tiling) -> None:
    every = [tiling.kept_box(i) for i in np.ndindex(tiling.counts)]
    covered = np.zeros(tiling.bounds.shape, bool)
    for box in every:
        covered[box.clip(tiling.bounds).within(tiling.bounds)] = True
    assert covered.all()
    for block in BlockGrid(tiling.bounds, (3, 4, 5)):
        wanted = [i for i in np.ndindex(tiling.counts) if tiling.kept_box(i).clip(block.write).size]
        assert tiling.tiles_over(block.write) == wanted


def test_aligned_blocks_read_no_more_than_the_context() -> None:
    tiling = Tiling(Box((7, 7, 7), (135, 135, 135)), (48, 48, 48), (8, 8, 8), (32, 32, 32))
    assert tiling.halo((64, 32, 128)) == (8, 8, 0)
    assert tiling.halo((32, 40, 50)) == (8, 24 + 8, 128 - 100)  # 28: no more than there is


def test_beyond_the_bounds_a_tile_sees_the_reflection_and_then_its_end() -> None:
    bounds = Box((10, 0, 0), (14, 1, 1))
    tiling = Tiling(bounds, (12, 1, 1), (2, 0, 0), (8, 1, 1))
    image = np.array([0, 1, 2, 3], "float32").reshape(4, 1, 1)
    # context 2 | the volume | reflected 2 | the last of it, repeated
    expected = [*(2, 1), *(0, 1, 2, 3), *(2, 1), *(1, 1, 1, 1)]
    np.testing.assert_array_equal(tile_input(image, bounds, tiling, (0, 0, 0)).ravel(), expected)
    tiling = replace(tiling, padding="symmetric")
    expected = [*(1, 0), *(0, 1, 2, 3), *(3, 2), *(2, 2, 2, 2)]
    np.testing.assert_array_equal(tile_input(image, bounds, tiling, (0, 0, 0)).ravel(), expected)


@given(st.integers(1, 9), st.integers(0, 20), st.integers(0, 20), PADDINGS)
def test_mirrored_is_what_numpy_pads(side: int, before: int, after: int, padding: Padding) -> None:
    expected = np.pad(np.arange(side), (before, after), mode=padding)
    actual = mirrored_positions(np.arange(-before, side + after), side, padding)
    np.testing.assert_array_equal(actual, expected)


def test_a_volume_thinner_than_the_context_is_reflected_to_and_fro() -> None:
    bounds = Box((0, 0, 0), (2, 1, 1))
    tiling = Tiling(bounds, (10, 1, 1), (4, 0, 0), (2, 1, 1))
    image = np.array([5, 6], "float32").reshape(2, 1, 1)
    expected = [5, 6] * 5
    np.testing.assert_array_equal(tile_input(image, bounds, tiling, (0, 0, 0)).ravel(), expected)


def test_blending_weighs_the_middle_of_a_tile_most() -> None:
    tiling = Tiling(Box((0, 0, 0), (6, 1, 1)), (4, 1, 1), (0, 0, 0), (2, 1, 1))
    np.testing.assert_array_equal(tiling.weights.ravel(), [1, 2, 2, 1])
    answers = iter([0.0, 1.0])

    def constant(batch: np.ndarray) -> np.ndarray:
        return np.full((1, 1, *batch.shape[1:]), next(answers), "float32")

    created = predict_tiles(
        np.zeros((6, 1, 1), "float32"), tiling.bounds, tiling.bounds, tiling, constant, channels=1
    )
    # voxels 2 and 3 are in both tiles: weights 2 and 1, then 1 and 2
    np.testing.assert_allclose(created.ravel(), [0, 0, 1 / 3, 2 / 3, 1, 1], rtol=1e-6)


def test_the_network_always_sees_the_same_shape() -> None:
    shapes, last = [], np.ones(0)

    def noting(batch: np.ndarray) -> np.ndarray:
        nonlocal last
        shapes.append(batch.shape)
        last = batch.copy()
        return batch[:, None]

    bounds = Box((0, 0, 0), (7, 5, 3))
    tiling = Tiling(bounds, (4, 4, 4), (1, 1, 1), (2, 2, 2))
    created = predict_tiles(image_of(bounds), bounds, bounds, tiling, noting, channels=1, batch=5)
    np.testing.assert_array_equal(created[0], image_of(bounds))
    assert set(shapes) == {(5, 4, 4, 4)}
    assert len(shapes) == 5  # 4 * 3 * 2 tiles
    assert last[3].any()
    assert not last[4].any()


def test_a_network_may_pad_nothing() -> None:
    bounds = Box((0, 0, 0), (9, 9, 9))
    tiling = Tiling(bounds, (6, 6, 6), (1, 1, 1), (4, 4, 4))

    def valid(batch: np.ndarray) -> np.ndarray:
        return blurred(batch)[..., 1:-1, 1:-1, 1:-1]

    image = image_of(bounds)
    same = predict_tiles(image, bounds, bounds, tiling, blurred, channels=2)
    np.testing.assert_array_equal(
        predict_tiles(image, bounds, bounds, tiling, valid, channels=2), same
    )


def test_an_output_of_another_size_is_refused() -> None:
    bounds = Box((0, 0, 0), (4, 4, 4))
    tiling = Tiling(bounds, (6, 6, 6), (1, 1, 1), (4, 4, 4))
    with pytest.raises(ValueError, match=r"expected \(2, 6, 6, 6\), or \(2, 4, 4, 4\)"):
        predict_tiles(
            image_of(bounds), bounds, bounds, tiling, lambda batch: batch[:, None], channels=2
        )


def test_a_tile_smaller_than_its_context_is_refused() -> None:
    with pytest.raises(ValueError, match="larger than its context"):
        Tiling(Box((0, 0, 0), (4, 4, 4)), (6, 6, 6), (3, 1, 1), (1, 1, 1))
    with pytest.raises(ValueError, match="expected a stride between 1 and"):
        Tiling(Box((0, 0, 0), (4, 4, 4)), (6, 6, 6), (1, 1, 1), (5, 4, 4))


def test_a_tile_is_no_larger_than_a_thin_volume_asks_for() -> None:
    bounds = Box((5, 0, 0), (20, 100, 33))
    assert fitted_tile((64, 64, 64), (8, 8, 8), (4, 4, 4), bounds) == (32, 64, 52)
