from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.train.sequences.test_draw import SHAPE, volume
from volflow.models.iicats.network import IICats
from volflow.track.baselines import SameMask
from volflow.train.sequences.draw import draw_sequence
from volflow.train.sequences.follow import Sections, boxes_of, first_logits, follow, mask_loss
from volflow.train.sequences.validation import (
    box_around,
    copied,
    follow_alone,
    overlap_after,
    sections_of,
    trial,
)


def sequence() -> Sections:
    return Sections.of(draw_sequence([volume()], SHAPE, np.random.default_rng(1)))


def network(**arguments: object) -> IICats:
    torch.manual_seed(0)
    small = {"encoding": 4, "features": 8, "own_steps": 2, "memory": 2}
    return IICats(**{**small, **arguments})  # type: ignore[arg-type]


def test_gradients_reach_all_parts() -> None:
    """Extractors, lam, gates, target features and trunk, through the steps of the descent."""
    model, drawn = network(), sequence()
    for parameter in model.gates.mix.parameters():
        torch.nn.init.normal_(parameter, 0, 0.1)
    mask_loss(follow(model, drawn), drawn.truth[1:], drawn.known[1:], 0.5).backward()
    without = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    }
    # The volume has no layer `syn`, and boxes are trained on their own.
    idle = ("box.", "extract.syn.", "rho.syn", "gates.linear.syn.")
    assert {name for name in without if not name.startswith(idle)} == set()


def test_affinities_can_be_hidden_from_the_encoder_alone() -> None:
    drawn = sequence()
    hidden = drawn._replace(affinity_input=False)
    absent = drawn._replace(offline={k: v for k, v in drawn.offline.items() if k != "d"})
    without_filters, model = network(few_shot=False), network()
    torch.nn.init.normal_(model.gates.mix[-1].weight, 0, 0.1)  # type: ignore[arg-type]
    assert torch.equal(follow(without_filters, hidden), follow(without_filters, absent))
    assert not torch.equal(follow(model, hidden), follow(model, absent))
    assert not torch.equal(follow(model, hidden), follow(model, drawn))


@pytest.mark.parametrize(
    "arguments",
    [
        {"last_masks": 0, "affinity_input": False},
        {"types": ("p", "d", "m")},
        {"few_shot": False},
        {"last_masks": 1, "regularisation": "square"},
    ],
)
def test_variants_are_configurations(arguments: dict[str, object]) -> None:
    drawn = sequence()
    logits = follow(network(**arguments), drawn)
    assert logits.shape == drawn.truth[1:].shape
    assert torch.isfinite(logits).all()


def test_dropped_types_are_not_read() -> None:
    model, drawn = network(), sequence()
    dropped = drawn._replace(offline={})
    changed = drawn._replace(offline={k: 1 - x for k, x in drawn.offline.items()})
    with torch.no_grad():
        assert torch.equal(follow(model, dropped), follow(model, drawn._replace(offline={})))
        assert not torch.equal(follow(model, changed), follow(model, drawn))


def test_loss_ignores_unknown_pixels() -> None:
    drawn = sequence()
    truth, known = drawn.truth[1:], drawn.known[1:]
    logits = torch.randn(truth.shape)
    hidden = known.clone()
    hidden[:, :, :8] = False
    changed = logits.clone()
    changed[:, :, :8] += 3
    assert torch.equal(
        mask_loss(logits, truth, hidden, 0.5), mask_loss(changed, truth, hidden, 0.5)
    )
    assert not torch.equal(
        mask_loss(logits, truth, known, 0.5), mask_loss(changed, truth, known, 0.5)
    )


def test_boxes_are_those_of_the_masks() -> None:
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, 2:4, 1:7] = masks[1, 5, 0] = True
    assert boxes_of(masks).tolist() == [[2, 1, 4, 7], [5, 0, 6, 1]]
    assert [box_around(mask.numpy()) for mask in masks] == [(2, 1, 4, 7), (5, 0, 6, 1)]


def test_box_extractor_gets_gradients() -> None:
    model, drawn = network(), sequence()
    logits = first_logits(model, drawn, boxes_of(drawn.truth[0]))
    assert logits.shape == drawn.truth[:1].shape
    mask_loss(logits, drawn.truth[:1], drawn.known[:1], 0.5).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.box.parameters())


def test_overlap_counts_objects_that_are_still_there() -> None:
    truth = np.zeros((3, 2, 1, 4), bool)
    truth[0] = truth[1, 0] = truth[2, 0] = True
    masks = truth.copy()
    masks[1, 0, 0, 2:] = False
    masks[2, 1, 0, 0] = True  # the object has ended: not counted
    assert overlap_after(masks, truth, (1, 2, 5)) == {1: 0.5, 2: 1.0}


def test_follower_that_repeats_the_mask_scores_as_copied() -> None:
    each = trial(volume(), objects=4, least_area=4)
    masks = follow_alone(SameMask(), sections_of(each.volume), each.truth[0])
    np.testing.assert_array_equal(masks, copied(each))
    assert masks.shape[1] == 4
    overlaps = overlap_after(masks, each.truth, (1, 4))
    assert overlaps[1] == pytest.approx(4 / 6, abs=0.08)  # blocks of 5 pixels that drift by 1
    assert overlaps[4] < overlaps[1]
