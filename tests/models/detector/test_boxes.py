"""Boxes: overlaps and suppression equal plain loops, coding can be undone."""

import numpy as np
import pytest
import torch

from volflow.models.detector.boxes import (
    MAXIMUM_LOG_RATIO,
    best_first,
    clipped,
    decode,
    encode,
    keep_best,
    overlaps,
)


def random_boxes(count, seed=0, side=40.0):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 100, (count, 2))
    return torch.from_numpy(np.concatenate([low, low + rng.uniform(1, side, (count, 2))], 1))


def overlap(a, b):
    height = min(a[2], b[2]) - max(a[0], b[0])
    width = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, height) * max(0.0, width)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union


def chosen_by_loop(boxes, scores, threshold):
    """All pairs, one after another."""
    chosen = []
    for number in sorted(range(len(boxes)), key=lambda n: -scores[n]):
        if all(overlap(boxes[number], boxes[better]) <= threshold for better in chosen):
            chosen.append(number)
    return chosen


def test_overlaps_are_those_of_a_loop_over_pairs():
    first, second = random_boxes(20, 1), random_boxes(15, 2)
    expected = [[overlap(a, b) for b in second.tolist()] for a in first.tolist()]
    torch.testing.assert_close(overlaps(first, second), torch.tensor(expected).double())
    assert overlaps(first, second).max() > 0.3


def test_empty_boxes_overlap_nothing():
    empty = torch.zeros(2, 4)
    assert overlaps(empty, empty).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("group", [7, 512])
def test_the_best_boxes_are_those_of_a_loop(monkeypatch, threshold, group):
    monkeypatch.setattr("volflow.models.detector.boxes.GROUP", group)
    boxes = random_boxes(80, 3)
    scores = torch.from_numpy(np.random.default_rng(4).permutation(80) / 80)
    chosen = keep_best(boxes, scores, threshold).tolist()
    assert chosen == chosen_by_loop(boxes.tolist(), scores.tolist(), threshold)
    assert 2 < len(chosen) < 80
    assert keep_best(boxes, scores, threshold, limit=2).tolist() == chosen[:2]


def test_of_equal_boxes_with_equal_scores_the_first_is_kept():
    boxes = random_boxes(3)[[0, 0, 0]]
    assert keep_best(boxes, torch.ones(3), 0.5).tolist() == [0]
    assert best_first(torch.tensor([1.0, 2.0, 1.0, 2.0])).tolist() == [1, 3, 0, 2]
    assert len(keep_best(boxes[:0], torch.ones(0), 0.5)) == 0


@pytest.mark.parametrize("spread", [(1.0,) * 4, (0.1, 0.1, 0.2, 0.2)])
def test_boxes_that_are_encoded_and_decoded_are_the_same(spread):
    boxes, anchors = random_boxes(50, 5), random_boxes(50, 6)
    deltas = encode(boxes, anchors, spread)
    torch.testing.assert_close(decode(deltas, anchors, spread), boxes)


def test_deltas_are_in_the_order_of_public_weights():
    # A box of height 4 and width 8, moved by 2 down and 6 right, twice as high and half as wide.
    anchor = torch.tensor([[0.0, 0.0, 4.0, 8.0]])
    moved = torch.tensor([[0.0, 8.0, 8.0, 12.0]])  # centre (4, 10): from (2, 4)
    assert encode(moved, anchor)[0].tolist() == pytest.approx(
        [6 / 8, 2 / 4, np.log(0.5), np.log(2)]
    )


def test_deltas_of_a_network_that_is_not_trained_give_finite_boxes():
    boxes = decode(torch.full((1, 4), 1e4), torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    assert torch.isfinite(boxes).all()
    height = float(boxes[0, 2] - boxes[0, 0])
    assert height == pytest.approx(np.exp(MAXIMUM_LOG_RATIO), rel=1e-3)


def test_boxes_are_clipped_to_the_section():
    boxes = torch.tensor([[-3.0, 2.0, 50.0, 60.0]])
    assert clipped(boxes, (40, 30)).tolist() == [[0, 2, 40, 30]]
