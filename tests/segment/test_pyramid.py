from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.strategies import boxes, triples
from volflow.core.geometry import Box, Triple
from volflow.core.pooling import pooled_image
from volflow.segment.pyramid import pooled_labels

factors = st.tuples(*[st.sampled_from([1, 2])] * 3)


def slow_pool(volume: np.ndarray, box: Box, factor: Triple, labels: bool) -> np.ndarray:
    """One scale of a whole volume that covers `box`, voxel by voxel."""
    coarse = box.zoom_out(factor)
    out = np.zeros(coarse.shape, volume.dtype)
    for v in itertools.product(
        *(range(a, b) for a, b in zip(coarse.start, coarse.stop, strict=True))
    ):
        fine = Box(v, tuple(a + 1 for a in v)).zoom_in(factor).clip(box)
        values = volume[fine.within(box)].ravel().tolist()
        if labels:
            result = min(values, key=lambda value: (-values.count(value), value))
        else:
            result = (2 * sum(values) + len(values)) // (2 * len(values))
        out[tuple(a - b for a, b in zip(v, coarse.start, strict=True))] = result
    return out


def padded(volume: np.ndarray, box: Box, factor: Triple) -> tuple[np.ndarray, np.ndarray]:
    """The volume over whole boxes of `factor` voxels, and which of its voxels exist."""
    whole = box.zoom_out(factor).zoom_in(factor)
    out, exists = np.full(whole.shape, 77, volume.dtype), np.zeros(whole.shape, bool)
    out[box.within(whole)], exists[box.within(whole)] = volume, True
    return out, exists


@settings(max_examples=80, deadline=None)
@given(
    boxes(1, 7),
    factors,
    st.booleans(),
    st.sampled_from([np.uint8, np.uint32, np.uint64]),
    st.data(),
)
def test_equal_to_a_slow_computation(
    box: Box, factor: Triple, labels: bool, dtype: type, data: st.DataObject
) -> None:
    if not labels and dtype is np.uint64:
        dtype = np.uint16
    volume = data.draw(hnp.arrays(dtype, box.shape, elements=st.integers(0, 5)))
    pool = pooled_labels if labels else pooled_image
    np.testing.assert_array_equal(
        pool(padded(volume, box, factor)[0], factor, padded(volume, box, factor)[1]),
        slow_pool(volume, box, factor, labels),
    )


@settings(max_examples=30, deadline=None)
@given(triples(1, 3), factors, st.booleans())
def test_without_a_mask_every_voxel_exists(half: Triple, factor: Triple, labels: bool) -> None:
    shape = tuple(2 * n for n in half)
    volume = np.random.default_rng(sum(half)).integers(0, 4, shape).astype(np.uint8)
    pool = pooled_labels if labels else pooled_image
    np.testing.assert_array_equal(pool(volume, factor), pool(volume, factor, np.ones(shape, bool)))
    both = np.stack([volume, volume[::-1]])
    np.testing.assert_array_equal(
        pool(both, factor), np.stack([pool(volume, factor), pool(volume[::-1], factor)])
    )


@settings(max_examples=60, deadline=None)
@given(triples(1, 3), st.sampled_from([np.int16, np.uint8, np.uint64]), st.data())
def test_the_mode_of_whole_boxes_is_the_slow_one(
    half: Triple, dtype: type, data: st.DataObject
) -> None:
    values = [0, 1, 2, int(np.iinfo(dtype).max), int(np.iinfo(dtype).min)]
    box = Box((0, 0, 0), [2 * n for n in half])
    labels = data.draw(hnp.arrays(dtype, box.shape, elements=st.sampled_from(values)))
    actual = pooled_labels(labels, (2, 2, 2))
    np.testing.assert_array_equal(actual, slow_pool(labels, box, (2, 2, 2), True))
    assert actual.dtype == labels.dtype


def test_worked_examples() -> None:
    # 9 three times, 4 three times, 1 twice: the smaller of the two most frequent
    labels = np.array([9, 9, 9, 4, 4, 4, 1, 1], np.uint64).reshape(2, 2, 2)
    assert pooled_labels(labels, (2, 2, 2)).item() == 4
    assert pooled_labels(labels, (2, 2, 2), labels != 4).item() == 9
    assert pooled_labels(labels + np.uint64(2**63), (2, 2, 2)).item() == 4 + 2**63
    # means: 1.5 -> 2, 254.5 -> 255, and of one voxel that voxel
    pair = np.array([1, 2, 254, 255], np.uint8).reshape(1, 1, 4)
    assert pooled_image(pair, (1, 1, 2)).ravel().tolist() == [2, 255]
    assert pooled_image(pair, (1, 1, 2), pair > 1).ravel().tolist() == [2, 255]
    assert pooled_image(pair, (1, 1, 2), pair > 254).ravel().tolist() == [0, 255]
    assert pooled_image(pair.astype(np.float32), (1, 1, 2)).ravel().tolist() == [1.5, 254.5]


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ValueError, match="expected integer labels to pool; got float32"):
        pooled_labels(np.ones((2, 2, 2), np.float32), (2, 2, 2))
    with pytest.raises(ValueError, match="integers of up to 32 bits; got uint64"):
        pooled_image(np.ones((2, 2, 2), np.uint64), (2, 2, 2))
    with pytest.raises(ValueError, match="factors that divide the shape"):
        pooled_labels(np.ones((3, 2, 2), int), (2, 2, 2))
    with pytest.raises(ValueError, match="expected pooling factors of 1 or 2"):
        pooled_labels(np.ones((3, 2, 2), int), (3, 2, 2))
    with pytest.raises(ValueError, match=r"volume's shape \(2, 2, 2\); got \(1, 2, 2\)"):
        pooled_labels(np.ones((2, 2, 2), int), (2, 2, 2), np.ones((1, 2, 2), bool))
