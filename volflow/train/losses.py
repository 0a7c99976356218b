"""Affinity targets of a truth, and how far a network's answer is from them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from volflow.core.geometry import Triple
from volflow.train.samples import UNKNOWN

RAREST = 0.02  # fraction below which a class gains no more weight: a crop may hold almost none


def affinity_targets(truth: Tensor, offsets: Sequence[Triple]) -> tuple[Tensor, Tensor]:
    """Which voxels belong with their partner, and where that is known.

    Parameters
    ----------
    truth : int32 tensor, (B, Z, Y, X)
        Above 0 an object, 0 background, -1 unknown.
    offsets : sequence of Triple
        Channel c compares voxel v with v + offsets[c].

    Returns
    -------
    target : bool tensor, (B, C, Z, Y, X)
        Both voxels carry the same object.
    valid : bool tensor, (B, C, Z, Y, X)
        Both voxels lie in the crop and their truth is known.
    """
    batch, *shape = truth.shape
    target = torch.zeros(batch, len(offsets), *shape, dtype=torch.bool)
    valid = torch.zeros_like(target)
    for channel, offset in enumerate(offsets):
        if any(abs(step) >= side for step, side in zip(offset, shape, strict=True)):
            continue
        here = tuple(slice(max(0, -o), n - max(0, o)) for o, n in zip(offset, shape, strict=True))
        there = tuple(slice(max(0, o), n + min(0, o)) for o, n in zip(offset, shape, strict=True))
        one, other = truth[(slice(None), *here)], truth[(slice(None), *there)]
        place = (slice(None), channel, *here)
        target[place] = (one == other) & (one > 0)
        valid[place] = (one != UNKNOWN) & (other != UNKNOWN)
    return target, valid


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
    per_class = torch.stack([0.5 / (1 - positive), 0.5 / positive])[:, None, :, None, None, None]
    weight = torch.where(target, per_class[1], per_class[0]) * valid
    loss = (
        binary_cross_entropy_with_logits(logits, target.float(), reduction="none") * weight
    ).sum(axes)
    scale = (count > 0).float() if weights is None else (count > 0) * weights
    return (loss / count.clamp(min=1) * scale).sum() / scale.sum().clamp(min=1e-9)
