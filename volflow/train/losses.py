"""Targets made from the truth of a crop, and the losses of logits against them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from volflow.core.geometry import Triple
from volflow.train.data.samples import UNKNOWN

RAREST = 0.02  # fraction below which a class gains no more weight: a crop may have almost none


def affinity_targets(
    truth: Tensor, offsets: Sequence[Triple], flat: bool = False
) -> tuple[Tensor, Tensor]:
    """Affinities of a truth, and where they are known.

    Parameters
    ----------
    truth : int32 tensor, (B, Z, Y, X)
        Above 0 an object, 0 background, -1 unknown.
    offsets : sequence of Triple
        Channel c compares voxel v with v + offsets[c].
    flat : bool
        Labels hold within each section only: pairs along z are not valid.

    Returns
    -------
    target : bool tensor, (B, C, Z, Y, X)
        True where both voxels carry the same object.
    valid : bool tensor, (B, C, Z, Y, X)
        True where both voxels are inside the crop and their truth is known.
    """
    batch, *shape = truth.shape
    target = torch.zeros(batch, len(offsets), *shape, dtype=torch.bool, device=truth.device)
    valid = torch.zeros_like(target)
    for channel, offset in enumerate(offsets):
        if any(abs(step) >= side for step, side in zip(offset, shape, strict=True)):
            continue
        if flat and offset[0]:
            continue
        here = tuple(slice(max(0, -o), n - max(0, o)) for o, n in zip(offset, shape, strict=True))
        there = tuple(slice(max(0, o), n + min(0, o)) for o, n in zip(offset, shape, strict=True))
        one, other = _cut(truth, here), _cut(truth, there)
        _cut(target[:, channel], here)[:] = (one == other) & (one > 0)
        _cut(valid[:, channel], here)[:] = (one != UNKNOWN) & (other != UNKNOWN)
    return target, valid


def _cut(volumes: Tensor, part: tuple[slice, ...]) -> Tensor:
    """A view of the same part of every volume of a batch (B, Z, Y, X)."""
    z, y, x = part
    return volumes[:, z, y, x]


def balanced_bce(
    logits: Tensor, target: Tensor, valid: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Binary cross entropy in which both classes of a channel have the same weight.

    Parameters
    ----------
    logits : float32 tensor, (B, C, Z, Y, X)
    target, valid : bool tensor, (B, C, Z, Y, X)
        Voxels that are not valid do not count.
    weights : float tensor, (C,), optional
        Weights of the channels; default: all the same.

    Returns
    -------
    tensor, ()
        Mean over channels that have a valid voxel; 0 if there is none.
    """
    axes = (0, 2, 3, 4)
    count = valid.sum(axes).float()
    positive = ((target & valid).sum(axes) / count.clamp(min=1)).clamp(RAREST, 1 - RAREST)
    scale = (count > 0).float() if weights is None else (count > 0) * weights
    scale = scale / (scale.sum().clamp(min=1e-9) * 2 * count.clamp(min=1))
    # A table of weights by class and channel, looked up for each voxel; 0 where not valid.
    by_class = torch.stack([scale / (1 - positive), scale / positive])[:, None, :, None, None, None]
    weight = torch.where(target, by_class[1], by_class[0]) * valid
    return binary_cross_entropy_with_logits(
        logits.contiguous(), target.float(), weight, reduction="sum"
    )


def dice(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Dice loss: 1 - 2 |P T| / (|P| + |T|) for the probabilities P and the truth T.

    Parameters
    ----------
    logits : float32 tensor, (B, C, Z, Y, X)
    target, valid : bool tensor, (B, C, Z, Y, X)
        Voxels that are not valid do not count.

    Returns
    -------
    tensor, ()
        Mean over channels that have a valid voxel; 0 if there is none.

    References
    ----------
    Milletari et al., V-Net, 3DV 2016, with sums in the denominator instead of squares, and 1 added
    to numerator and denominator, so that in a crop without any voxel of a mask the loss is least
    where nothing is predicted.
    """
    axes = (0, 2, 3, 4)
    predicted, expected = logits.sigmoid() * valid, (target & valid).float()
    shared = (predicted * expected).sum(axes)
    score = (2 * shared + 1) / (predicted.sum(axes) + expected.sum(axes) + 1)
    present = (valid.sum(axes) > 0).float()
    return ((1 - score) * present).sum() / present.sum().clamp(min=1)


def masked_mse(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Mean squared error of the sigmoid where the truth is known.

    Parameters
    ----------
    logits, target : float32 tensor, (B, C, Z, Y, X)
    known : bool tensor, (B, Z, Y, X)

    Returns
    -------
    tensor, ()
        Mean over channels and known voxels; 0 if there is none.
    """
    error = ((logits.sigmoid() - target) ** 2).mean(1)
    return (error * known).sum() / known.sum().clamp(min=1)
