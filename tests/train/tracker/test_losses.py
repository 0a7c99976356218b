"""Losses of embeddings equal their sums over pairs, and do not overflow."""

import numpy as np
import pytest
import torch

from volflow.train.tracker.losses import (
    COSINE_WEIGHT,
    MATCH_WEIGHT,
    cosine_loss,
    embedding_loss,
    matching_loss,
)


def pairs(seed=0, keys=6, references=9):
    rng = np.random.default_rng(seed)
    products = torch.from_numpy(rng.normal(size=(keys, references)) * 3)
    same = torch.from_numpy(rng.random((keys, references)) < 0.3)
    same[0], same[1] = False, True
    return products, same, ~same


def test_the_matching_loss_is_the_sum_over_pairs():
    products, same, other = pairs()
    expected = []
    for row, positive, negative in zip(products, same, other, strict=True):
        terms = [torch.exp(n - p) for p in row[positive] for n in row[negative]]
        expected.append(torch.log(1 + sum(terms)) if terms else torch.tensor(0.0))
    torch.testing.assert_close(matching_loss(products, same, other), torch.stack(expected).double())
    assert sum(float(loss) > 0 for loss in expected) > 2


def test_large_products_do_not_overflow():
    products = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], requires_grad=True)
    same = torch.tensor([[True, False, False], [True, False, False]])
    losses = matching_loss(products, same, ~same)
    assert losses.tolist() == [0, 2e4]
    losses.sum().backward()
    assert torch.isfinite(products.grad).all()


def test_gradients_of_the_matching_loss_agree_with_finite_differences():
    products, same, other = pairs(1)
    products.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: matching_loss(p, same, other), (products,))


def test_parallel_embeddings_of_one_object_have_the_least_cosine_loss():
    """As printed, equation 16 has its minimum where they are orthogonal."""
    same = torch.tensor([[True]])
    losses = [float(cosine_loss(torch.tensor([[c]]), same, ~same)) for c in (1.0, 0.5, 0.0)]
    assert losses == pytest.approx([0, 0.25, 1])


def test_of_different_objects_the_hardest_three_per_positive_pair_count():
    cosines = torch.tensor([[1.0, 0.2, 0.9, 0.5, 0.6, 0.05]])
    same = torch.tensor([[True, False, False, False, False, False]])
    # 0.9, 0.6 and 0.5, a tenth less each, and the positive pair
    expected = (0.8**2 + 0.5**2 + 0.4**2 + 0) / 4
    assert float(cosine_loss(cosines, same, ~same)) == pytest.approx(expected)


def test_the_loss_of_embeddings_is_the_weighted_sum_over_keys_with_positives():
    rng = torch.Generator().manual_seed(0)
    keys, references = torch.randn(3, 4, generator=rng), torch.randn(4, 4, generator=rng)
    objects, others = torch.tensor([7, 8, -1]), torch.tensor([8, 8, -1, 5])
    # only the second key has positives; no object is no object of anything
    same = torch.tensor([[True, True, False, False]])
    matching = matching_loss(keys[1:2] @ references.T, same, ~same)[0]
    cosines = torch.nn.functional.cosine_similarity(keys[1:2], references)[None]
    expected = MATCH_WEIGHT * matching + COSINE_WEIGHT * cosine_loss(cosines, same, ~same)
    torch.testing.assert_close(embedding_loss(keys, references, objects, others), expected)
    nothing = embedding_loss(keys[:1], references, objects[:1], others)
    assert float(nothing) == 0
