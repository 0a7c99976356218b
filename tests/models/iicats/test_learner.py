from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torch.nn.grad import conv2d_weight

from volflow.models.iicats.learner import (
    Support,
    descend,
    loss_gradient,
    step_length,
    support_loss,
)
from volflow.models.iicats.target_model import adjoint, columns, respond

T, B, C, D, Y, X = 3, 2, 2, 3, 5, 4
LAM = torch.tensor(0.3, dtype=torch.float64)


def drawn(seed: int = 0) -> tuple[Tensor, Support, Tensor]:
    """Features of sections, support pairs of unequal weights, and filters."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    features = normal(T, C, Y, X)
    shares = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)[:, None, None, None]
    support = Support(
        columns(features), normal(T, B, D, Y * X), 1 + 0.5 * normal(T, B, D, Y * X), shares
    )
    return features, support, normal(B, D, 9 * C)


def gradient_of(support: Support, filters: Tensor) -> Tensor:
    return loss_gradient(support, filters, respond(support.columns, filters), LAM)


def test_responses_are_those_of_a_convolution() -> None:
    features, support, filters = drawn()
    expected = conv2d(features, filters.reshape(B * D, C, 3, 3), padding=1)
    torch.testing.assert_close(respond(support.columns, filters), expected.reshape(T, B, D, Y * X))


def test_adjoint_identity() -> None:
    features, support, filters = drawn()
    residual = support.targets
    forward = (respond(support.columns, filters) * residual).sum()
    backward = (filters * adjoint(support.columns, residual)).sum()
    torch.testing.assert_close(forward, backward, rtol=1e-12, atol=0)
    expected = conv2d_weight(
        features, (B * D, C, 3, 3), residual.reshape(T, B * D, Y, X), padding=1
    )
    torch.testing.assert_close(adjoint(support.columns, residual), expected.reshape(B, D, 9 * C))


def test_gradient_is_that_of_autograd() -> None:
    _, support, filters = drawn()
    filters.requires_grad_()
    support_loss(support, filters, LAM).sum().backward()
    assert filters.grad is not None
    torch.testing.assert_close(gradient_of(support, filters.detach()), filters.grad)


@pytest.mark.parametrize("per_channel", [False, True])
def test_loss_is_least_at_the_step(per_channel: bool) -> None:
    _, support, filters = drawn()
    gradient = gradient_of(support, filters)
    along = respond(support.columns, gradient)
    step = step_length(support, gradient, along, LAM, per_channel)
    assert step.shape == (B, D if per_channel else 1, 1)
    step.requires_grad_()
    support_loss(support, filters - step * gradient, LAM).sum().backward()
    assert step.grad is not None
    scale = (gradient**2).sum((1, 2)).max()
    torch.testing.assert_close(step.grad / scale, torch.zeros_like(step), rtol=0, atol=1e-12)


def test_loss_falls_in_every_step_and_ends_in_the_closed_form() -> None:
    _, support, filters = drawn()
    losses = [support_loss(support, descend(support, filters, LAM, n), LAM) for n in range(12)]
    assert all((after < before).all() for before, after in pairwise(losses))
    fitted = descend(support, filters, LAM, 400, per_channel=True)
    torch.testing.assert_close(fitted, closed_form(support), rtol=0, atol=1e-4)


def closed_form(support: Support) -> Tensor:
    """The filters of least loss: a linear system for each channel of each object."""
    solved = torch.zeros(B, D, 9 * C, dtype=torch.float64)
    for b in range(B):
        for d in range(D):
            matrix = LAM * torch.eye(9 * C, dtype=torch.float64)
            right = torch.zeros(9 * C, dtype=torch.float64)
            for t in range(T):
                weight = support.shares[t, 0, 0, 0] * support.weights[t, b, d] ** 2
                matrix += (support.columns[t] * weight) @ support.columns[t].T
                right += support.columns[t] @ (weight * support.targets[t, b, d])
            solved[b, d] = torch.linalg.solve(matrix, right)
    return solved


def test_printed_gradient_is_wrong() -> None:
    """With lam w inside the sum over sections, the gradient is off by (T - 1) lam w."""
    _, support, filters = drawn()
    filters.requires_grad_()
    support_loss(support, filters, LAM).sum().backward()
    assert filters.grad is not None
    right = gradient_of(support, filters.detach())
    printed = right + (T - 1) * LAM * filters.detach()
    assert (right - filters.grad).abs().max() < 1e-12
    assert (printed - filters.grad).abs().max() > 0.1


def test_step_with_squared_weights_is_wrong() -> None:
    _, support, filters = drawn()
    gradient = gradient_of(support, filters)
    along = respond(support.columns, gradient)
    right = step_length(support, gradient, along, LAM)
    squared = support._replace(weights=support.weights**2)
    wrong = step_length(squared, gradient, along, LAM)
    at = [support_loss(support, filters - step * gradient, LAM) for step in (right, wrong)]
    assert (at[0] < at[1]).all()
    assert ((right - wrong).abs() > 0.01 * right).all()


def test_gradients_flow_through_the_steps() -> None:
    """With respect to G, W and lam, by finite differences through two steps."""
    _, support, filters = drawn()
    targets = support.targets[:2, :1, :1, :4].clone().requires_grad_()
    weights = support.weights[:2, :1, :1, :4].clone().requires_grad_()
    few, start = support.columns[:2, :, :4], filters[:1, :1]

    def fitted(targets: Tensor, weights: Tensor, lam: Tensor) -> Tensor:
        return descend(Support(few, targets, weights, support.shares[:2]), start, lam, 2)

    lam = LAM.clone().requires_grad_()
    assert torch.autograd.gradcheck(fitted, (targets, weights, lam))
    assert torch.autograd.gradgradcheck(fitted, (targets, weights, lam))


def test_objects_are_fitted_independently() -> None:
    _, support, filters = drawn()
    both = descend(support, filters, LAM, 3)
    for b in range(B):
        one = support._replace(
            targets=support.targets[:, b : b + 1], weights=support.weights[:, b : b + 1]
        )
        torch.testing.assert_close(both[b : b + 1], descend(one, filters[b : b + 1], LAM, 3))
