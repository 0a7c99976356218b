from __future__ import annotations

import itertools

import pytest
import torch

from volflow.train.lovasz import lovasz


@pytest.mark.parametrize("pixels", range(1, 7))
def test_loss_of_binary_masks_is_one_minus_iou(pixels: int) -> None:
    """All pairs of binary masks of up to six pixels."""
    masks = torch.tensor(list(itertools.product([0.0, 1.0], repeat=pixels)), dtype=torch.float64)
    predicted, truth = masks[:, None].expand(-1, len(masks), -1), masks[None]
    both = (predicted * truth).sum(-1)
    either = torch.maximum(predicted, truth).sum(-1)
    expected = torch.where(either > 0, 1 - both / either.clamp(min=1), 0)
    loss = lovasz(predicted, truth.expand_as(predicted) > 0)
    torch.testing.assert_close(loss, expected)


def test_gradient_by_finite_differences() -> None:
    generator = torch.Generator().manual_seed(3)
    p = torch.rand(2, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    truth = torch.rand(2, 7, generator=generator) > 0.5
    assert torch.autograd.gradcheck(lambda x: lovasz(x, truth), (p,))


def test_loss_without_a_true_pixel_is_the_largest_probability() -> None:
    p = torch.tensor([0.1, 0.7, 0.3])
    assert lovasz(p, torch.zeros(3, dtype=torch.bool)) == pytest.approx(0.7)
