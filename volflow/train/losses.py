"""Targets of a truth, and how far a network's answer is from them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from volflow.core.geometry import Triple
from volflow.train.data.samples import UNKNOWN

RAREST = 0.02  # fraction below which a class gains no more weight: a crop may hold almost none


def affinity_targets(
    truth: Tensor, offsets: Sequence[Triple], flat: bool = False
) -> tuple[Tensor, Tensor]:
    """Which voxels belong with their partner, and where that is known.

    Parameters
    ----------
    truth : int32 tensor, (B, Z, Y, X)
        Above 0 an object, 0 background, -1 unknown.
    offsets : sequence of Triple
        Channel c compares voxel v with v + offsets[c].
    flat : bool
        Objects are of each section alone: of pairs along z nothing is known.

    Returns
    -------
    target : bool tensor, (B, C, Z, Y, X)
        Both voxels carry the same object.
    valid : bool tensor, (B, C, Z, Y, X)
        Both voxels lie in the crop and their truth is known.
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


def _cut(volumes: Tensor, where: tuple[slice, ...]) -> Tensor:
    """A view of the same part of every volume of a batch (B, Z, Y, X)."""
    z, y, x = where
    return volumes[:, z, y, x]


def balanced_bce(
    logits: Tensor, target: Tensor, valid: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Binary cross entropy in which both classes of a channel weigh the same.

    Parameters
    ----------
    logits : float32 tensor, (B, C, Z, Y, X)
    target, valid : bool tensor, (B, C, Z, Y, X)
        Where not valid, nothing is asked.
    weights : float tensor, (C,), optional
        Of the channels; default: all alike.

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
    # One table looked up per voxel: what it counts, by channel and by class; 0 where not valid.
    by_class = torch.stack([scale / (1 - positive), scale / positive])[:, None, :, None, None, None]
    weight = torch.where(target, by_class[1], by_class[0]) * valid
    return binary_cross_entropy_with_logits(
        logits.contiguous(), target.float(), weight, reduction="sum"
    )


def dice(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """One less twice what answer and truth share, relative to both: seen as wholes, not voxels.

    Parameters
    ----------
    logits : float32 tensor, (B, C, Z, Y, X)
    target, valid : bool tensor, (B, C, Z, Y, X)
        Where not valid, nothing is asked.

    Returns
    -------
    tensor, ()
        Mean over channels that have a valid voxel; 0 if there is none.

    References
    ----------
    Milletari et al., V-Net, 3DV 2016, with sums in the denominator instead of squares, and 1 added
    to both sides so that a crop without any of a mask asks for none of it.
    """
    axes = (0, 2, 3, 4)
    found, wanted = logits.sigmoid() * valid, (target & valid).float()
    shared = (2 * (found * wanted).sum(axes) + 1) / (found.sum(axes) + wanted.sum(axes) + 1)
    there = (valid.sum(axes) > 0).float()
    return ((1 - shared) * there).sum() / there.sum().clamp(min=1)


def known_mse(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
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
    apart = ((logits.sigmoid() - target) ** 2).mean(1)
    return (apart * known).sum() / known.sum().clamp(min=1)
