"""Features of boxes: exact where features are affine, and differentiable."""

import numpy as np
import pytest
import torch

from volflow.models.detector.roi_align import anchor_scale, level_of, pyramid_align, roi_align


def affine(height, width, stride):
    """Features a + b y + c x, with y and x the positions of their centres in the section."""
    y = (torch.arange(height, dtype=torch.float64) + 0.5) * stride
    x = (torch.arange(width, dtype=torch.float64) + 0.5) * stride
    coefficients = torch.tensor([[1.0, 2.0, -0.5], [0.0, -1.0, 3.0]], dtype=torch.float64)
    return torch.stack([a + b * y[:, None] + c * x[None] for a, b, c in coefficients]), coefficients


@pytest.mark.parametrize("stride", [1, 4])
def test_affine_features_are_exact_at_the_centres_of_bins(stride):
    features, coefficients = affine(20, 24, stride)
    boxes = torch.tensor([[2.3, 3.1, 9.7, 15.9], [8.0, 8.0, 12.0, 9.5]], dtype=torch.float64)
    boxes = boxes * stride
    aligned = roi_align(features, boxes, stride, 7)
    for box, actual in zip(boxes.numpy(), aligned.numpy(), strict=True):
        y = box[0] + (np.arange(7) + 0.5) / 7 * (box[2] - box[0])
        x = box[1] + (np.arange(7) + 0.5) / 7 * (box[3] - box[1])
        for (a, b, c), channel in zip(coefficients.numpy(), actual, strict=True):
            np.testing.assert_allclose(channel, a + b * y[:, None] + c * x, rtol=1e-12)


def test_a_bin_is_the_mean_of_four_samples():
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 6, 6)))
    # One bin of 2 x 2 pixels: samples are half a pixel from its ends, at centres of pixels.
    box = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    aligned = roi_align(features, box, 1, 1)
    assert float(aligned) == pytest.approx(float(features[0, 1:3, 2:4].mean()))


def test_the_border_continues_beyond_the_outermost_centres():
    features = torch.arange(4.0).view(1, 1, 4).expand(1, 3, 4)
    box = torch.tensor([[0.0, 3.5, 1.0, 4.0]])
    assert roi_align(features, box, 1, 1).tolist() == [[[[3.0]]]]
    single = torch.ones(1, 1, 1)
    assert roi_align(single, torch.tensor([[0.0, 0.0, 1.0, 1.0]]), 1, 2).sum() == 4


def test_gradients_agree_with_finite_differences():
    features = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 5, 6)))
    features.requires_grad_()
    boxes = torch.tensor([[0.2, 0.4, 4.1, 5.5], [3.0, 1.0, 5.0, 2.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda f: roi_align(f, boxes, 1, 3), (features,))


def test_each_box_takes_the_level_that_suits_its_size():
    sides = torch.tensor([10.0, 55.0, 57.0, 111.0, 113.0, 500.0, 5000.0])
    boxes = torch.stack([sides * 0, sides * 0, sides, sides], 1)
    # At stride 4: level 0 below 112 pixels, twice the finest scale of 56.
    assert level_of(boxes, 4, 4).tolist() == [0, 0, 0, 0, 1, 3, 3]
    assert level_of(boxes, 4, 2).tolist() == [0, 0, 1, 1, 2, 3, 3]


def test_boxes_of_several_levels_come_back_in_their_order():
    strides = (2, 4)
    levels = [affine(40, 40, 2)[0], affine(20, 20, 4)[0] + 1000]
    boxes = torch.tensor([[2, 2, 72, 72], [5, 5, 9, 9], [4, 4, 74, 60], [8, 3, 12, 20]]).double()
    aligned = pyramid_align(levels, boxes, strides, 3)
    for number, level in enumerate([1, 0, 1, 0]):
        alone = roi_align(levels[level], boxes[number : number + 1], strides[level], 3)
        torch.testing.assert_close(aligned[number], alone[0])
    assert pyramid_align(levels, boxes[:0], strides, 3).shape == (0, 2, 3, 3)


def test_anchors_are_centred_on_the_sizes_of_objects():
    # Between 8 and 128 pixels, strides 2 to 32: 4 strides make anchors of 8, 16, ..., 128.
    assert anchor_scale((8, 128), (2, 4, 8, 16, 32)) == pytest.approx(4)
