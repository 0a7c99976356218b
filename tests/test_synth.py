from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from volflow.core.geometry import Box, Triple
from volflow.synth import Neuropil, Rendered

BOUNDS = Box((-7, 20, 3), (65, 110, 99))
NEUROPIL = Neuropil(BOUNDS, seed=5)


@pytest.fixture(scope="module")
def whole() -> Rendered:
    return NEUROPIL.render(BOUNDS)


@st.composite
def inner_boxes(draw: st.DrawFn) -> Box:
    starts, stops = [], []
    for low, high in zip(BOUNDS.start, BOUNDS.stop, strict=True):
        start = draw(st.integers(low, high - 1))
        starts.append(start)
        stops.append(draw(st.integers(start + 1, min(high, start + 40))))
    return Box(tuple(starts), tuple(stops))


@settings(max_examples=20, deadline=None)
@given(box=inner_boxes())
def test_a_voxel_is_the_same_whatever_the_box(whole: Rendered, box: Box) -> None:
    for part, all_of_it in zip(NEUROPIL.render(box), whole, strict=True):
        np.testing.assert_array_equal(part, all_of_it[(..., *box.within(BOUNDS))])


@pytest.mark.parametrize("shape", [(31, 90, 40), (72, 17, 96)])
def test_blocks_tile_the_volume(whole: Rendered, shape: Triple) -> None:
    from volflow.core.geometry import BlockGrid

    for block in BlockGrid(BOUNDS, shape):
        for part, all_of_it in zip(NEUROPIL.render(block.write), whole, strict=True):
            np.testing.assert_array_equal(part, all_of_it[(..., *block.write.within(BOUNDS))])


@pytest.mark.parametrize(("seed", "cell"), [(5, 14), (6, 10), (7, 20), (8, 14), (9, 8)])
def test_every_neurite_is_one_face_connected_object(seed: int, cell: int) -> None:
    truth = Neuropil(BOUNDS, seed, cell).truth(BOUNDS)
    names = np.unique(truth[truth > 0])
    assert len(names) > 10
    for name in names:
        assert ndimage.label(truth == name)[1] == 1, name
    assert (truth == 0).mean() < 0.002


def test_neurites_are_long_branched_and_fill_space(whole: Rendered) -> None:
    names, sizes = np.unique(whole.truth, return_counts=True)
    assert whole.truth.dtype == np.uint64
    assert len(names) > 30
    # neither dust nor one giant
    assert np.median(sizes) > 14**3
    assert sizes.max() < 0.2 * sizes.sum()
    boxes = ndimage.find_objects(np.searchsorted(names, whole.truth).astype(np.int32))
    extents = [max(s.stop - s.start for s in box) for box in boxes if box]
    assert np.median(extents) > 3 * 14


def test_membranes_are_dark_and_mitochondria_are_there(whole: Rendered) -> None:
    truth, image = whole.truth, whole.image.astype(float)
    border = np.zeros(truth.shape, bool)
    for axis in range(3):
        border |= truth != np.roll(truth, 1, axis)
    deep = ndimage.distance_transform_edt(~border) > 4
    assert image[border].mean() < image[deep].mean() - 40
    assert np.percentile(ndimage.uniform_filter(image, 3)[deep], 2) < 130


def test_affinities_join_a_voxel_with_the_one_before_it(whole: Rendered) -> None:
    truth, affinity = whole.truth, whole.affinity.astype(float)
    for axis in range(3):
        assert not np.take(affinity[axis], 0, axis).any()
        before, after = (np.delete(truth, index, axis) for index in (-1, 0))
        pairs = np.delete(affinity[axis], 0, axis)
        same = pairs[before == after].mean()
        assert same > pairs[before != after].mean() + 90
        # the other offset sign would be visibly worse: what is cut would be one voxel away
        shifted = np.roll(np.delete(affinity[axis], 0, axis), -1, axis)
        assert pairs[before != after].mean() < shifted[before != after].mean()


def test_seeds_doubt_and_noise_make_a_difference(whole: Rendered) -> None:
    box = Box((0, 30, 10), (24, 54, 34))
    here = (..., *box.within(BOUNDS))
    other = Neuropil(BOUNDS, seed=6).render(box)
    assert (other.truth != whole.truth[here]).any()
    calm = Neuropil(BOUNDS, seed=5, noise=0.0, doubt=0.0).render(box)
    np.testing.assert_array_equal(calm.truth, whole.truth[here])
    assert (calm.image != whole.image[here]).mean() > 0.5
    apart = calm.truth[1:] != calm.truth[:-1]
    assert apart.any()
    assert calm.affinity[0, 1:][apart].max() < 64


def test_a_box_outside_the_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="does not lie in the bounds"):
        NEUROPIL.truth(Box((-8, 20, 3), (0, 30, 10)))
    with pytest.raises(ValueError, match="8 voxels apart or more; got 7"):
        Neuropil(BOUNDS, cell=7)
