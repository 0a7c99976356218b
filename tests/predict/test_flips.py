"""An affinity keeps its pair of voxels, whichever way the image is shown."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from volflow.core.geometry import Triple
from volflow.predict.flips import (
    average_over_flips,
    axis_subsets,
    neighbour_channels,
    shift_channels,
    shifted,
)
from volflow.predict.tiling import Network

OFFSETS = [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 0, -3), (2, 0, 0)]


def pairs(batch: np.ndarray, offsets: list[Triple] = OFFSETS) -> np.ndarray:
    """A network whose channel is the product of the two voxels that it joins."""
    return np.stack([batch * shifted(batch, offset) for offset in offsets], axis=1)


IMAGE = np.random.default_rng(0).random((2, 9, 10, 11), dtype="float32")
INNER = (..., slice(3, -3), slice(3, -3), slice(3, -3))


@pytest.mark.parametrize("axes", ["z", "x", "yx", "zyx"])
def test_a_network_that_does_not_care_is_its_own_average(axes: str) -> None:
    mean = average_over_flips(pairs, axes, OFFSETS)(IMAGE)
    np.testing.assert_allclose(mean[INNER], pairs(IMAGE)[INNER], rtol=1e-5)


def test_without_the_shift_the_average_is_another() -> None:
    naive = (pairs(IMAGE) + pairs(IMAGE[..., ::-1])[..., ::-1]) / 2
    assert not np.allclose(naive[:, 2][INNER], pairs(IMAGE)[:, 2][INNER])


def test_the_average_is_taken_over_every_set_of_axes() -> None:
    assert axis_subsets("xz") == [(), (0,), (2,), (0, 2)]
    shown = []

    def corner(batch: np.ndarray) -> np.ndarray:
        shown.append(batch[0, 0, 0, 0])
        return np.broadcast_to(batch[:, None, :1, :1, :1], (len(batch), 1, *batch.shape[1:]))

    image = np.arange(8, dtype="float32").reshape(1, 2, 2, 2)
    created = average_over_flips(corner, "zyx", ())(image)
    assert sorted(shown) == list(range(8))
    np.testing.assert_array_equal(created, np.full((1, 1, 2, 2, 2), 3.5))


def slopes(batch: np.ndarray) -> np.ndarray:
    """A network that returns the slope along z, their product along z and x, and its input."""
    z, x = np.gradient(batch, axis=-3), np.gradient(batch, axis=-1)
    return np.stack([3 + z, 1 - z * x, batch], axis=1)


@pytest.mark.parametrize("axes", ["z", "x", "zx", "zyx"])
def test_parts_of_an_arrow_turn_their_sign(axes: str) -> None:
    odd, total = ("z", "zx", ""), (6.0, 2.0, 1.0)
    mean = average_over_flips(slopes, axes, (), odd, total)(IMAGE)
    np.testing.assert_allclose(mean, slopes(IMAGE), atol=1e-5)
    assert np.abs(average_over_flips(slopes, axes, ())(IMAGE) - slopes(IMAGE)).max() > 0.1


def test_no_flips_change_nothing() -> None:
    assert average_over_flips(pairs, "", OFFSETS) is pairs


def test_slanted_offsets_are_refused_where_a_flip_breaks_them() -> None:
    slanted = [(0, -3, -3)]
    assert average_over_flips(pairs, "z", slanted) is not None
    with pytest.raises(ValueError, match=r"maps offset \(0, -3, -3\) to another pair"):
        average_over_flips(pairs, "x", slanted)


def test_affinities_with_the_next_voxel_become_those_with_the_previous() -> None:
    offsets = [(0, 0, 1), (0, 0, 5), (0, -1, 0), (1, 0, 0)]
    picks = neighbour_channels(offsets)
    assert picks == [(3, (-1, 0, 0)), (2, (0, 0, 0)), (0, (0, 0, -1))]
    picked = [offsets[channel] for channel, _ in picks]
    created = shift_channels(lambda batch: pairs(batch, picked), [move for _, move in picks])(IMAGE)
    expected = pairs(IMAGE, [(-1, 0, 0), (0, -1, 0), (0, 0, -1)])
    np.testing.assert_allclose(created[INNER], expected[INNER], rtol=1e-6)


def test_a_lacking_neighbour_is_noticed() -> None:
    assert neighbour_channels([(-1, 0, 0), (0, -1, 0), (0, 0, -2)]) is None


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda network: average_over_flips(network, "x", [(0, 0, -1)]),
        lambda network: shift_channels(network, [(0, 0, -1)]),
    ],
)
def test_outputs_smaller_than_the_tile_cannot_be_moved(
    wrapped: Callable[[Network], Network],
) -> None:
    with pytest.raises(ValueError, match="output is as large as"):
        wrapped(lambda batch: batch[:, None, 1:-1, 1:-1, 1:-1])(IMAGE)
