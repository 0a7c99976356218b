"""The Lovász loss of binary masks: a convex surrogate of 1 - IoU."""

from __future__ import annotations

import torch
from torch import Tensor


def lovasz(probabilities: Tensor, truth: Tensor) -> Tensor:
    """The Lovász-Softmax loss of one class, over all pixels of each row.

    With the errors |y - p| in descending order, the loss is the sum of e_k (J_k - J_{k-1}), where
    J_k = 1 - (P - cumsum y) / (P + cumsum (1 - y)) and P is the number of true pixels. On
    probabilities of 0 and 1 it equals 1 - IoU; without a true pixel it is the largest probability.

    Parameters
    ----------
    probabilities : float (..., N)
    truth : bool (..., N)

    Returns
    -------
    float (...,)

    References
    ----------
    Berman et al., The Lovász-Softmax loss, CVPR 2018.
    """
    y = truth.to(probabilities.dtype)
    errors, order = torch.sort((y - probabilities).abs(), dim=-1, descending=True, stable=True)
    sorted_truth = y.gather(-1, order)
    true = sorted_truth.sum(-1, keepdim=True)
    hits, misses = sorted_truth.cumsum(-1), (1 - sorted_truth).cumsum(-1)
    jaccard = 1 - (true - hits) / (true + misses)
    gain = torch.diff(jaccard, dim=-1, prepend=jaccard.new_zeros(*jaccard.shape[:-1], 1))
    return (errors * gain).sum(-1)
