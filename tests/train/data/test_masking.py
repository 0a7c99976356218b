"""Hidden cells are whole and as many as drawn; noise is like the crop; edges are skimage's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.feature import hog

from volflow.train.data.masking import edge_picture, fill_with_noise, hidden_cells


def cell_of(hidden):
    """The largest cell, z y x, of which the mask is whole ones."""
    for depth, side in [(d, s) for d in (5, 4, 2) for s in (16, 8, 4)]:
        z, y, x = hidden.shape
        if z % depth or y % side or x % side:
            continue
        cells = hidden.reshape(z // depth, depth, y // side, side, x // side, side)
        if (cells.all((1, 3, 5)) | ~cells.any((1, 3, 5))).all():
            return depth, side, cells[:, 0, :, 0, :, 0]
    raise AssertionError("a cell is hidden in part")


@given(st.integers(0, 300))
def test_whole_cells_are_hidden_as_many_as_the_share_says(seed):
    hidden = hidden_cells((20, 64, 64), np.random.default_rng(seed))
    assert hidden.shape == (20, 64, 64)
    depth, side, cells = cell_of(hidden)
    again = np.random.default_rng(seed)
    assert (depth, side) == (again.choice((2, 4, 5)), again.choice((4, 8, 16)))
    assert cells.sum() == round(again.uniform(0.5, 0.7) * cells.size)
    assert hidden.sum() == cells.sum() * depth * side**2


def test_all_sizes_of_cells_and_shares_are_drawn():
    rng = np.random.default_rng(0)
    masks = [hidden_cells((20, 64, 64), rng) for _ in range(150)]
    assert len({cell_of(mask)[:2] for mask in masks}) == 9
    shares = np.array([mask.mean() for mask in masks])
    assert 0.49 < shares.min() < 0.52
    assert 0.68 < shares.max() < 0.71


@pytest.mark.parametrize("shape", [(3, 16, 16), (4, 18, 16), (4, 16, 10)])
def test_a_crop_that_holds_no_whole_cells_is_refused(shape):
    with pytest.raises(ValueError, match="whole cells; expected z a multiple of one of"):
        hidden_cells(shape, np.random.default_rng(0))


def test_cells_that_do_not_divide_a_crop_are_not_drawn():
    rng = np.random.default_rng(1)
    actual = {cell_of(hidden_cells((4, 24, 8), rng))[:2] for _ in range(60)}
    assert actual == {(2, 4), (2, 8), (4, 4), (4, 8)}


@given(st.floats(-2, 2), st.floats(0.1, 2), st.integers(0, 50))
def test_noise_is_as_bright_and_uneven_as_the_crop_and_the_rest_stays(mean, spread, seed):
    rng = np.random.default_rng(seed)
    image = (mean + spread * rng.uniform(-1, 1, (8, 32, 32))).astype(np.float32)
    hidden = hidden_cells(image.shape, rng)
    filled = fill_with_noise(image, hidden, rng)
    assert filled.dtype == np.float32
    np.testing.assert_array_equal(filled[~hidden], image[~hidden])
    assert abs(filled[hidden].mean() - image.mean()) < 0.1 * image.std()
    assert abs(filled[hidden].std() / image.std() - 1) < 0.1
    assert abs(np.corrcoef(filled[hidden], image[hidden])[0, 1]) < 0.1


@pytest.mark.parametrize("shape", [(2, 32, 24), (1, 4, 8), (3, 16, 16)])
def test_edges_are_the_picture_that_skimage_draws(shape):
    image = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    image[0, :4] = np.round(image[0, :4])  # gradients along the axes, and none
    values = [hog(section, 9, (4, 4), (1, 1), visualize=True)[1] for section in image]
    assert np.max(values) > 0.5
    np.testing.assert_allclose(edge_picture(image), values, atol=1e-5)


def test_edges_of_a_section_of_broken_cells_are_refused():
    with pytest.raises(ValueError, match="multiples of 4"):
        edge_picture(np.zeros((1, 8, 6), np.float32))
