import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volflow.track.overlaps import divided, windows


def test_two_sure_objects_leave_no_pixel_unclaimed():
    """p / (1 + sum of odds) would: each has less than a half of the pixel."""
    both = np.full((1, 1), 0.999)
    claims = divided([both, both], [(0, 0), (0, 0)], (1, 1))
    assert claims.owner[0, 0] == 1  # the first of equals
    assert claims.shares[0][0, 0] == pytest.approx(0.5, abs=1e-3)


def test_one_object_owns_what_is_more_probable_than_not():
    mask = np.array([[0.4, 0.5, 0.6]])
    claims = divided([mask], [(0, 0)], (1, 3))
    assert claims.owner.tolist() == [[0, 0, 1]]
    # odds 0.6 / 0.4 = 1.5 against 0.4 / 0.6 of the background: 1.5 / (1.5 + 2/3)
    assert claims.shares[0][0, 2] == pytest.approx(1.5 / (1.5 + 2 / 3))


def test_background_is_what_no_object_claims():
    """1 - p of each is 0.7 * 0.7 = 0.49: odds 0.96; those of an object are 0.43."""
    weak = np.full((1, 1), 0.3)
    assert divided([weak, weak], [(0, 0), (0, 0)], (1, 1)).owner[0, 0] == 0


@settings(max_examples=25)
@given(st.permutations(range(4)), st.integers(0, 2**32 - 1))
def test_the_owner_does_not_depend_on_the_order(order, seed):
    random = np.random.default_rng(seed)
    masks = [random.random((6, 5)) for _ in range(4)]
    origins = [tuple(map(int, random.integers(-3, 8, 2))) for _ in range(4)]
    first = divided(masks, origins, (9, 10))
    again = divided([masks[k] for k in order], [origins[k] for k in order], (9, 10))
    renamed = np.array([0, *(k + 1 for k in order)])[again.owner]
    np.testing.assert_array_equal(renamed, first.owner)
    for place, number in enumerate(order):
        np.testing.assert_allclose(again.shares[place], first.shares[number])


def test_shares_and_background_add_up_to_one_at_most():
    random = np.random.default_rng(1)
    masks = [random.random((8, 8)) for _ in range(5)]
    claims = divided(masks, [(0, 0)] * 5, (8, 8))
    assert (np.sum(claims.shares, axis=0) <= 1 + 1e-12).all()


@pytest.mark.parametrize("origin", [(-4, -4), (9, 9), (-10, 0), (3, 20)])
def test_windows_may_reach_beyond_the_section(origin):
    section = np.arange(100).reshape(10, 10)
    here, inside = windows(origin, (6, 7), (10, 10))
    window = np.full((6, 7), -1)
    window[inside] = section[here]
    for y, x in np.ndindex(6, 7):
        at = origin[0] + y, origin[1] + x
        expected = section[at] if min(at) >= 0 and max(at) < 10 else -1
        assert window[y, x] == expected
