"""Local shape descriptors: against moments taken one voxel at a time, and block by block."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.strategies import triples
from volflow.core.geometry import Triple
from volflow.segment.descriptors import ODD, descriptors, reach

SIZES = ((10.0, 10.0, 10.0), (30.0, 8.0, 8.0), (12.0, 9.0, 15.0))


def slowly(labels: np.ndarray, sigma: float, size: tuple[float, float, float]) -> np.ndarray:
    """The same, each voxel by itself, from the definition, in float64."""
    out = np.zeros((10, *labels.shape))
    places = np.stack(np.meshgrid(*map(np.arange, labels.shape), indexing="ij"))
    for voxel in zip(*np.nonzero(labels > 0), strict=True):
        weight = (labels == labels[voxel]).astype(float)
        for axis in range(3):
            radius = int(3 * sigma / size[axis] + 0.5)
            near = np.abs(places[axis] - voxel[axis])
            whole = np.exp(-((np.arange(-radius, radius + 1) * size[axis] / sigma) ** 2) / 2)
            gauss = np.exp(-((near * size[axis] / sigma) ** 2) / 2) / whole.sum()
            weight *= np.where(near <= radius, gauss, 0)
        n = weight.sum()
        at = [places[axis] * size[axis] for axis in range(3)]
        centre = [float((weight * x).sum() / n) for x in at]
        apart = [x - c for x, c in zip(at, centre, strict=True)]
        variance = [max(float((weight * x * x).sum() / n), 1e-3) for x in apart]
        offset = [(c - v * s) / sigma for c, v, s in zip(centre, voxel, size, strict=True)]
        paired = [
            float((weight * apart[a] * apart[b]).sum() / n) / np.sqrt(variance[a] * variance[b])
            for a, b in ((0, 1), (0, 2), (1, 2))
        ]
        spread = [v / sigma**2 for v in variance]
        out[(slice(None), *voxel)] = (
            [o / 2 + 0.5 for o in offset] + spread + [p / 2 + 0.5 for p in paired] + [n]
        )
    return np.clip(out, 0, 1)


labelled = arrays.arrays(np.int32, triples(1, 7), elements=st.integers(-1, 3))


@settings(max_examples=25)
@given(labelled, st.sampled_from(SIZES), st.sampled_from([8.0, 20.0, 35.0]))
def test_equal_to_moments_taken_one_voxel_at_a_time(
    labels: np.ndarray, size: tuple[float, float, float], sigma: float
) -> None:
    actual = descriptors(labels, sigma, size)
    np.testing.assert_allclose(actual, slowly(labels, sigma, size), atol=2e-5)


def test_worked_numbers_of_a_wide_plate() -> None:
    # A plate one voxel thick across the whole window: nothing along z; along y and x a Gaussian
    # cut off at 3 sigmas, whose variance is a little below sigma². Seen from the plate's end the
    # other half is missing, and the centre of half a Gaussian is sqrt(2 / pi) sigmas away.
    labels = np.zeros((3, 241, 241), np.uint8)
    labels[1] = 7
    actual = descriptors(labels, 20.0, (1.0, 1.0, 1.0))
    assert not actual[:, 0].any()
    middle, end = actual[:, 1, 120, 120], actual[:, 1, 120, 0]
    np.testing.assert_allclose(middle[:3], 0.5, atol=1e-6)
    assert middle[3] == pytest.approx(1e-3 / 400)
    np.testing.assert_allclose(middle[4:6], 0.973, atol=3e-3)  # 1 - 6 phi(3) / (2 Phi(3) - 1)
    np.testing.assert_allclose(middle[6:9], 0.5, atol=1e-6)
    assert middle[9] == pytest.approx(1 / (20 * np.sqrt(2 * np.pi)), rel=3e-3)
    assert end[2] == pytest.approx(0.5 + np.sqrt(2 / np.pi) / 2, abs=0.012)
    assert end[9] == pytest.approx(middle[9] / 2, rel=0.03)


def objects(shape: Triple, seed: int = 0) -> np.ndarray:
    """Objects of several sizes: the nearest of a few points, some of them background."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1, (12, 3)) * shape
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    actual = np.argmin(((places[..., None, :] - points) ** 2).sum(-1), axis=-1) - 1
    labels: np.ndarray = actual.astype(np.int32)
    return labels


@settings(max_examples=15)
@given(triples(3, 14), st.integers(1, 3), st.integers(0, 5))
def test_block_by_block_equals_one_piece(block: Triple, step: int, seed: int) -> None:
    size, sigma = (10.0, 20.0, 10.0), 17.0
    labels = objects((17, 15, 21), seed)
    whole = descriptors(labels, sigma, size, step=step)
    around = reach(sigma, size, step)
    padded = np.pad(labels, [(a, a + 20) for a in around])
    steps = [max(1, side // step) * step for side in block]  # at multiples of what shares a window
    actual = np.full_like(whole, np.nan)
    for start in itertools.product(
        *(range(0, n, s) for n, s in zip(labels.shape, steps, strict=True))
    ):
        read = tuple(slice(a, a + s + 2 * r) for a, s, r in zip(start, steps, around, strict=True))
        created = descriptors(padded[read], sigma, size, around, step)
        inside = tuple(slice(a, a + s) for a, s in zip(start, steps, strict=True))
        part = actual[(slice(None), *inside)]
        part[:] = created[(slice(None), *(slice(0, n) for n in part.shape[1:]))]
    assert actual.tobytes() == whole.tobytes()


def test_the_reach_is_no_more_than_is_needed() -> None:
    labels = np.ones((31, 1, 1), np.uint8)
    assert reach(10.0, (10.0, 10.0, 10.0)) == (3, 3, 3)
    whole = descriptors(labels, 10.0, (10.0, 10.0, 10.0))
    less = descriptors(labels[13:18], 10.0, (10.0, 10.0, 10.0), (2, 0, 0))
    assert less[9, 0] != whole[9, 15]
    same = descriptors(labels[12:19], 10.0, (10.0, 10.0, 10.0), (3, 0, 0))
    assert same[:, 0].tobytes() == whole[:, 15].tobytes()
    # Two voxels share a window: a box of three ends within a cell, which needs a cell more.
    assert reach(10.0, (10.0, 10.0, 10.0), 2) == (6, 6, 6)
    whole = descriptors(labels, 10.0, (10.0, 10.0, 10.0), step=2)
    same = descriptors(labels[6:21], 10.0, (10.0, 10.0, 10.0), (6, 0, 0), 2)
    assert same.tobytes() == whole[:, 12:15].tobytes()
    less = descriptors(labels[8:19], 10.0, (10.0, 10.0, 10.0), (4, 0, 0), 2)
    assert less.tobytes() != whole[:, 12:15].tobytes()


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_a_flip_turns_the_channels_that_are_odd_in_it(axes: tuple[int, ...]) -> None:
    labels = objects((12, 14, 10))
    plain = descriptors(labels, 25.0, (10.0, 10.0, 10.0))
    there = np.flip(
        descriptors(np.flip(labels, axes), 25.0, (10.0, 10.0, 10.0)), tuple(a + 1 for a in axes)
    )
    for channel, odd in enumerate(ODD):
        turned = sum("zyx"[axis] in odd for axis in axes) % 2
        expected = np.where(labels > 0, 1 - there[channel], 0) if turned else there[channel]
        np.testing.assert_allclose(plain[channel], expected, atol=1e-5)
    assert np.abs(plain[2] - plain[2][..., ::-1]).max() > 0.1


def test_what_objects_are_called_does_not_matter() -> None:
    labels = objects((9, 10, 11))
    names = np.array([0, 2**63 + 5, 17, 2**40, 3, 10**9, 8, 9, 70000, 2, 1, 5], np.uint64)
    named = np.where(labels > 0, names[np.maximum(labels, 0)], 0).astype(np.uint64)
    plain = descriptors(labels, 20.0, (10.0, 10.0, 10.0))
    assert plain.any()
    np.testing.assert_array_equal(descriptors(named, 20.0, (10.0, 10.0, 10.0)), plain)


def test_cells_of_two_voxels_are_near() -> None:
    labels = objects((40, 40, 40))
    exact = descriptors(labels, 80.0, (10.0, 10.0, 10.0))
    near = descriptors(labels, 80.0, (10.0, 10.0, 10.0), step=2)
    np.testing.assert_array_equal(exact[9] > 0, near[9] > 0)
    apart = np.abs(exact - near)[:, labels > 0]
    assert apart.mean() < 0.01
    assert apart[:3].mean() < 0.01  # half a voxel's way is 0.03
    assert np.percentile(apart, 99) < 0.06


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        (
            {"labels": np.zeros((3, 3), int)},
            r"integer labels of shape \(Z, Y, X\); got int64 of \(3, 3\)",
        ),
        ({"labels": np.zeros((3, 3, 3))}, "expected integer labels"),
        ({"sigma_nm": 0.0}, "expected positive sigma, voxel size and step; got 0.0"),
        ({"step": 0}, "expected positive sigma"),
        ({"halo": (0, 2, 0)}, r"a halo that fits twice into \(3, 3, 3\); got \(0, 2, 0\)"),
    ],
)
def test_what_is_wrong_is_reported(change: dict[str, object], reported: str) -> None:
    printed = {"labels": np.ones((3, 3, 3), int), "sigma_nm": 20.0, "voxel_size_nm": (10.0,) * 3}
    with pytest.raises(ValueError, match=reported):
        descriptors(**{**printed, **change})  # type: ignore[arg-type]


def test_nothing_is_nothing() -> None:
    assert not descriptors(np.zeros((3, 4, 5), np.uint64), 20.0, (10.0, 10.0, 10.0)).any()
    assert descriptors(np.ones((3, 4, 0), int), 20.0, (10.0,) * 3).shape == (10, 3, 4, 0)
