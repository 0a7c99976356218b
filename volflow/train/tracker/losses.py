"""Losses of embeddings: those of one object in two sections are alike, those of others are not.

References
----------
Zhai et al., II-CATS, MIDL 2023, equations (15) to (17); Pang et al., CVPR 2021. Equation (16) as
printed has its minimum where embeddings of one object are orthogonal; ours is the one of the
reference code, in which they are parallel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

MARGIN = 0.1  # cosine up to which two objects are different enough
NEGATIVES = 3  # of each positive pair, the hardest ones
MATCH_WEIGHT = 0.25
COSINE_WEIGHT = 1.0


def matching_loss(products: Tensor, same: Tensor, other: Tensor) -> Tensor:
    """The multi-positive matching loss of each key.

    log(1 + sum over positives p and negatives n of exp(s_n - s_p)), computed as
    softplus(logsumexp(s_n) + logsumexp(-s_p)): equal, in one pass, and without overflow.

    Parameters
    ----------
    products : float tensor, (K, R)
        Scalar products s of keys and references.
    same, other : bool tensor, (K, R)
        Pairs of one object, and pairs of two objects.

    Returns
    -------
    float tensor, (K,)
        0 for a key without positives or without negatives.

    References
    ----------
    II-CATS, equation (15).
    """
    usable = same.any(1) & other.any(1)
    products, same, other = products[usable], same[usable], other[usable]
    nothing = -torch.inf
    negatives = torch.logsumexp(products.masked_fill(~other, nothing), 1)
    positives = torch.logsumexp((-products).masked_fill(~same, nothing), 1)
    losses = products.new_zeros(len(usable))
    losses[usable] = softplus(negatives + positives)
    return losses


def cosine_loss(cosines: Tensor, same: Tensor, other: Tensor) -> Tensor:
    """Mean squared distance of cosines from 1 (one object) or from below a margin (two objects).

    Of the pairs of two objects only the hardest count, `NEGATIVES` for each pair of one object.

    Parameters
    ----------
    cosines : float tensor, (K, R)
    same, other : bool tensor, (K, R)

    Returns
    -------
    float tensor, scalar
        0 without pairs of one object.
    """
    positive = (cosines[same].clamp(min=0) - 1) ** 2
    negative = (cosines[other] - MARGIN).clamp(min=0) ** 2
    if not len(positive):
        return cosines.sum() * 0
    hardest = negative.topk(min(len(negative), NEGATIVES * len(positive))).values
    return torch.cat([positive, hardest]).mean()


def embedding_loss(
    keys: Tensor, references: Tensor, key_objects: Tensor, reference_objects: Tensor
) -> Tensor:
    """The weighted sum of matching and cosine loss.

    Parameters
    ----------
    keys, references : float tensor, (K, E) and (R, E)
    key_objects, reference_objects : int64 tensor, (K,) and (R,)
        Identity of each; below 0: no object, so it is a negative for all.

    Returns
    -------
    float tensor, scalar

    References
    ----------
    II-CATS, equation (17).
    """
    same = (key_objects[:, None] == reference_objects[None]) & (key_objects[:, None] >= 0)
    other = ~same
    weighted = same.any(1)
    if not weighted.any():
        return (keys.sum() + references.sum()) * 0
    keys, same, other = keys[weighted], same[weighted], other[weighted]
    matching = matching_loss(keys @ references.T, same, other).mean()
    cosines = normalize(keys, dim=1) @ normalize(references, dim=1).T
    return MATCH_WEIGHT * matching + COSINE_WEIGHT * cosine_loss(cosines, same, other)
