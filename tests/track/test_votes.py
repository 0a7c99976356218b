import itertools

import numpy as np
import pytest

from volflow.core.geometry import Box
from volflow.track.votes import eroded, mixing_table, voted

SHAPE = (4, 6, 7)
BOUNDS = Box((2, 3, 5), (6, 9, 12))


def random_volume(seed=0):
    random = np.random.default_rng(seed)
    affinity = random.integers(0, 256, (3, *SHAPE), dtype=np.uint8)
    return affinity, [random.integers(0, 3, SHAPE).astype(np.uint64) for _ in range(2)]


def expected(affinity, runs, seams, weight):
    """The formula of the docstring, pair by pair."""
    result = affinity.copy()
    for axis, z, y, x in itertools.product(range(3), *map(range, SHAPE)):
        here = (z, y, x)
        before = tuple(c - (a == axis) for a, c in enumerate(here))
        if min(before) < 0:
            continue
        votes = [(int(run[here]), int(run[before])) for run in runs]
        same = sum(a == b != 0 for a, b in votes)
        different = sum(a != b and a != 0 and b != 0 for a, b in votes)
        if here[axis] % seams[axis] == 0:
            different = 0
        mixed = (int(affinity[axis][here]) + 255 * weight * same) / (
            1 + weight * (same + different)
        )
        result[axis][here] = round(mixed)
    return result


@pytest.mark.parametrize("weight", [0.5, 2])
@pytest.mark.parametrize("seams", [(4, 6, 7), (2, 3, 4)])
def test_the_formula_pair_by_pair(weight, seams):
    affinity, runs = random_volume()
    actual = voted(affinity, runs, BOUNDS, BOUNDS, seams, weight)
    np.testing.assert_array_equal(actual, expected(affinity, runs, seams, weight))


def test_votes_of_weight_0_change_no_byte():
    affinity, runs = random_volume()
    assert voted(affinity, runs, BOUNDS, BOUNDS, SHAPE, 0).tobytes() == affinity.tobytes()
    assert (mixing_table(2, 0) == np.arange(256)).all()


def test_a_worked_example():
    """a = 100, w = 0.5: same (100 + 127.5) / 1.5 = 151.67, different 100 / 1.5 = 66.67."""
    table = mixing_table(1, 0.5)
    assert (table[1, 0, 100], table[0, 1, 100], table[0, 0, 100]) == (152, 67, 100)


def test_eroded_tracks_are_far_from_others():
    labels = np.zeros((1, 9, 12), np.uint64)
    labels[0, :, :5], labels[0, 2:, 5:] = 1, 2
    for pixels in range(4):
        for y, x in np.ndindex(9, 12):
            other = np.argwhere(labels[0] != labels[0, y, x])
            near = np.abs(other - (y, x)).sum(axis=1).min() <= pixels
            assert eroded(labels, pixels)[0, y, x] == (0 if near else labels[0, y, x])
