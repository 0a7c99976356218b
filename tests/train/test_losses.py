"""Affinity targets against a double loop, and a loss in which both classes weigh the same."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from volflow.train.losses import affinity_targets, balanced_bce, masked_mse

SHAPE = (3, 4, 5)
steps = st.integers(-5, 5)
truths = arrays.arrays(np.int32, (2, *SHAPE), elements=st.integers(-1, 3))


def slow_targets(truth, offset):
    target, valid = np.zeros(truth.shape, bool), np.zeros(truth.shape, bool)
    for b, *v in itertools.product(*map(range, truth.shape)):
        w = [a + o for a, o in zip(v, offset, strict=True)]
        if all(0 <= a < n for a, n in zip(w, SHAPE, strict=True)):
            here, there = truth[b, *v], truth[b, *w]
            target[b, *v] = here == there and here > 0
            valid[b, *v] = here != -1 and there != -1
    return target, valid


@given(truths, st.lists(st.tuples(steps, steps, steps), min_size=1, max_size=3))
def test_targets_equal_a_double_loop(truth, offsets):
    target, valid = affinity_targets(torch.from_numpy(truth), offsets)
    for channel, offset in enumerate(offsets):
        wanted = slow_targets(truth, offset)
        np.testing.assert_array_equal(target[:, channel].numpy(), wanted[0])
        np.testing.assert_array_equal(valid[:, channel].numpy(), wanted[1])


def test_both_classes_weigh_the_same():
    # One channel, 8 voxels: 6 belong together, 2 do not. Wrong by the same amount on all voxels
    # of one class only, the loss is the same whichever class it is.
    target = torch.tensor([1, 1, 1, 1, 1, 1, 0, 0]).bool().reshape(1, 1, 2, 2, 2)
    valid = torch.ones_like(target)
    sure = torch.where(target, 20.0, -20.0)
    no_positives = balanced_bce(torch.where(target, 0.0, sure), target, valid)
    no_negatives = balanced_bce(torch.where(target, sure, 0.0), target, valid)
    torch.testing.assert_close(no_positives, torch.tensor(np.log(2) / 2, dtype=torch.float32))
    torch.testing.assert_close(no_positives, no_negatives)


def test_what_is_not_valid_does_not_count():
    torch.manual_seed(0)
    target = torch.rand(1, 2, 4, 4, 4) < 0.5
    valid = torch.zeros_like(target)
    valid[:, 0, 1:, :, 2:] = True
    logits = torch.randn(target.shape, requires_grad=True)
    loss = balanced_bce(logits, target, valid)
    loss.backward()
    assert bool((logits.grad[valid] != 0).all())
    assert bool((logits.grad[~valid] == 0).all())
    alone = balanced_bce(
        logits[:, :1, 1:, :, 2:], target[:, :1, 1:, :, 2:], valid[:, :1, 1:, :, 2:]
    )
    torch.testing.assert_close(loss, alone)


def test_channels_count_as_much_as_they_are_reported():
    torch.manual_seed(1)
    target = torch.rand(2, 2, 3, 3, 3) < 0.5
    logits, valid = torch.randn(target.shape), torch.ones_like(target)
    one, other = (
        balanced_bce(logits[:, c : c + 1], target[:, c : c + 1], valid[:, c : c + 1])
        for c in range(2)
    )
    both = balanced_bce(logits, target, valid, torch.tensor([3.0, 1.0]))
    torch.testing.assert_close(both, 0.75 * one + 0.25 * other)


@pytest.mark.parametrize("known", [False, True])
def test_a_crop_with_one_class_or_none_gives_a_finite_loss(known):
    target = torch.ones(1, 1, 2, 2, 2).bool()
    logits = torch.full(target.shape, 0.3, requires_grad=True)
    loss = balanced_bce(logits, target, torch.full_like(target, known))
    loss.backward()
    assert (float(loss.detach()) > 0) == known
    assert bool(logits.grad.isfinite().all())


def test_squared_error_counts_known_voxels_only():
    # Two voxels, three channels; the second is unknown. sigmoid(0) = 1/2 against 1, 1/2 and 0.
    logits = torch.zeros(1, 3, 1, 1, 2, requires_grad=True)
    target = torch.tensor([1.0, 0.5, 0.0]).reshape(1, 3, 1, 1, 1).expand(1, 3, 1, 1, 2)
    known = torch.tensor([True, False]).reshape(1, 1, 1, 2)
    loss = masked_mse(logits, target, known)
    loss.backward()
    torch.testing.assert_close(float(loss.detach()), (0.25 + 0 + 0.25) / 3)
    assert bool((logits.grad[..., 1] == 0).all())
    assert bool((logits.grad[0, ::2, 0, 0, 0] != 0).all())
    assert float(masked_mse(logits, target, torch.zeros_like(known)).detach()) == 0
