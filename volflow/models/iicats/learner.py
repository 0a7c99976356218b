"""The few-shot learner: filters fitted to support pairs by steepest descent.

The loss over sections t with pair weights a_t is

    L(w) = 1/2 sum_t a_t |W_t o (E_t * w - G_t)|^2 + lam/2 |w|^2

and a step is w - alpha g with

    g     = sum_t E_t *' (a_t W_t^2 o (E_t * w - G_t)) + lam w
    alpha = |g|^2 / (sum_t a_t |W_t o (E_t * g)|^2 + lam |g|^2)

where *' is the adjoint of the convolution. Gradients flow through all steps to G, W and lam.

References
----------
Zhai et al., II-CATS, MIDL 2023, equations (1), (18) and (19). Equation (19) has lam w inside the
adjoint and the sum, where shapes do not fit; (18) is right with W as it stands, not its square.
The tests show that the printed forms do not descend.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from volflow.models.iicats.target_model import adjoint, respond

LEAST_CURVATURE = 1e-8  # denominator of a step, where the gradient has vanished


class Support(NamedTuple):
    """Support pairs of B objects in T sections.

    columns : (T, K, N)
        Neighbourhoods of the sections' features, see `target_model.columns`.
    targets : (T, B, D, N)
        Encodings of masks or layers, G.
    weights : (T, B, D, N)
        Pixel weights W; they enter squared.
    shares : (T, 1, 1, 1) or (T, B, 1, 1)
        Pair weights a.
    """

    columns: Tensor
    targets: Tensor
    weights: Tensor
    shares: Tensor


def support_loss(support: Support, filters: Tensor, regularisation: Tensor) -> Tensor:
    """The loss (1) of each object's filters, (B,)."""
    error = support.weights * (respond(support.columns, filters) - support.targets)
    fit = (support.shares * error**2).sum((0, 2, 3))
    return (fit + regularisation * (filters**2).sum((1, 2))) / 2


def loss_gradient(
    support: Support, filters: Tensor, response: Tensor, regularisation: Tensor
) -> Tensor:
    """The gradient of the loss with respect to the filters, whose response is given, (B, D, K)."""
    weighted = support.shares * support.weights**2 * (response - support.targets)
    return adjoint(support.columns, weighted) + regularisation * filters


def step_length(
    support: Support,
    gradient: Tensor,
    along: Tensor,
    regularisation: Tensor,
    per_channel: bool = False,
) -> Tensor:
    """The step after which the loss is least, (B, 1, 1) or (B, D, 1).

    `along` is the response of the gradient, which is the direction.
    """
    squares = (support.shares * (support.weights * along) ** 2).sum((0, 3))[..., None]  # (B, D, 1)
    curvature = squares if per_channel else squares.sum(1, keepdim=True)
    steepness = (gradient**2).sum(2 if per_channel else (1, 2), keepdim=True)
    return steepness / (curvature + regularisation * steepness).clamp(min=LEAST_CURVATURE)


def descend(
    support: Support,
    filters: Tensor,
    regularisation: Tensor,
    steps: int,
    per_channel: bool = False,
) -> Tensor:
    """Filters after some steps of steepest descent.

    The response is linear in the filters, so it moves along with them: one response and one
    adjoint per step.

    Parameters
    ----------
    support : Support
    filters : (B, D, K)
        Before the first step.
    regularisation : ()
        lam, above 0.
    steps : int
    per_channel : bool
        Whether each channel has a step length of its own: the loss separates over channels, so it
        converges faster. False: one for all, as in the paper.

    Returns
    -------
    (B, D, K)
    """
    response = respond(support.columns, filters)
    for _ in range(steps):
        gradient = loss_gradient(support, filters, response, regularisation)
        along = respond(support.columns, gradient)
        step = step_length(support, gradient, along, regularisation, per_channel)
        filters = filters - step * gradient
        response = response - step * along
    return filters
