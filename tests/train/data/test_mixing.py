"""Mixing of images: phases stay, amplitudes of low frequencies are the other's, windows fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volflow.train.data.mixing import cutmix_window, frequency_mixed

WIDE = (-100.0, 100.0)  # cuts nothing off


def some(seed, shape=(3, 20, 24), low=-1.0, high=1.0):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def centred(image, low):
    return np.fft.fftshift(np.fft.fft2(image.astype(float) - low), axes=(1, 2))


def window_of(shape, reach):
    """The centred window, in the order of fftshift, that the whole transform would show."""
    middle = np.array(shape[1:]) // 2
    inside = np.zeros(shape[1:], bool)
    inside[middle[0] - reach : middle[0] + reach + 1, middle[1] - reach : middle[1] + reach + 1] = (
        True
    )
    return inside


@pytest.mark.parametrize("shape", [(3, 20, 24), (2, 21, 17), (1, 24, 21)])
@pytest.mark.parametrize("beta", [0.0, 0.05, 0.11, 0.3])
def test_phases_stay_and_amplitudes_in_the_window_are_the_others(shape, beta):
    image, other = some(0, shape), some(1, shape)
    mixed = frequency_mixed(image, other, beta, *WIDE)
    before, after, wanted = (centred(x, WIDE[0]) for x in (image, mixed, other))
    inside = window_of(shape, int(np.floor(beta * min(shape[1:]))))
    assert 0 < inside.sum() < inside.size
    np.testing.assert_allclose(np.abs(after)[:, inside], np.abs(wanted)[:, inside], rtol=1e-3)
    np.testing.assert_allclose(after[:, ~inside], before[:, ~inside], atol=0.05)
    turned = after * np.conj(before)
    np.testing.assert_allclose(np.angle(turned)[np.abs(before) > 1], 0, atol=0.02)


def test_with_the_released_beta_only_the_mean_of_each_section_moves():
    image, other = some(2), some(3, low=-1, high=-0.2)
    mixed = frequency_mixed(image, other, 0.001, -1, 10)
    wanted = image - image.mean((1, 2), keepdims=True) + other.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(mixed, np.clip(wanted, -1, 10), atol=1e-5)
    assert np.abs(mixed - image).max() > 0.3


@given(st.floats(0, 0.49), st.integers(0, 5))
def test_an_image_mixed_with_itself_is_itself(beta, seed):
    image = some(seed)
    np.testing.assert_allclose(frequency_mixed(image, image, beta, -1, 1), image, atol=1e-5)


def test_sections_are_taken_in_turn():
    image, other = some(4, (5, 8, 8)), some(5, (2, 8, 8))
    mixed = frequency_mixed(image, other, 0.0, *WIDE)
    means = other.mean((1, 2))
    np.testing.assert_allclose(mixed.mean((1, 2)), means[[0, 1, 0, 1, 0]], atol=1e-4)


def test_values_stay_in_range_and_inputs_stay_as_they_were():
    image, other = some(6), some(7, low=0.8, high=1.0)
    remaining = image.copy(), other.copy()
    mixed = frequency_mixed(image, other, 0.1, -1, 1)
    assert mixed.dtype == np.float32
    assert mixed.max() == 1  # some would leave
    assert mixed.min() >= -1
    np.testing.assert_array_equal(image, remaining[0])
    np.testing.assert_array_equal(other, remaining[1])


@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_a_window_is_a_square_of_its_side(height, width, data):
    side = data.draw(st.integers(1, min(height, width)))
    seed = data.draw(st.integers(0, 99))
    window = cutmix_window((height, width), side, np.random.default_rng(seed))
    assert window.shape == (height, width)
    assert window.dtype == bool
    ys, xs = np.nonzero(window)
    assert window.sum() == side**2
    assert np.ptp(ys) == np.ptp(xs) == side - 1


def test_a_window_lies_anywhere_alike_often():
    rng = np.random.default_rng(0)
    corners = [np.argwhere(cutmix_window((6, 5), 3, rng))[0] for _ in range(3000)]
    places, counts = np.unique(corners, axis=0, return_counts=True)
    assert len(places) == 4 * 3  # all that there are
    assert (np.abs(counts - 250) < 75).all()  # 5 standard deviations


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((some(0), some(1, (3, 20, 20)), 0.1, 0, 1), "same shape in both images; got"),
        ((some(0), some(1), 0.5, 0, 1), "expected beta at least 0 and below 0.5; got 0.5"),
        ((some(0), some(1), 0.1, 1, 1), "expected low below high; got 1 and 1"),
    ],
)
def test_what_cannot_be_mixed_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        frequency_mixed(*arguments)


@pytest.mark.parametrize("side", [0, 7])
def test_a_window_that_does_not_fit_is_refused(side):
    with pytest.raises(ValueError, match=rf"side {side} does not fit in a section of \(6, 9\)"):
        cutmix_window((6, 9), side, np.random.default_rng(0))
