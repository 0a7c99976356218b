from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.train.sequences.test_draw import SHAPE, volume
from volflow.models.iicats.network import IICats
from volflow.track.baselines import SameMask
from volflow.train.sequences.draw import draw_sequence
from volflow.train.sequences.follow import Sections, follow, sequence_loss
from volflow.train.sequences.validation import (
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
    sequence_loss(follow(model, drawn), drawn, 0.5).backward()
    without = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    }
    # The volume has no layer `syn`, and boxes are trained on their own.
    idle = ("box.", "extract.syn.", "rho.syn", "gates.linear.syn.")
    assert {name for name in without if not name.startswith(idle)} == set()


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
    logits = torch.randn(drawn.truth[1:].shape)
    known = drawn.known.clone()
    known[:, :, :8] = False
    hidden = drawn._replace(known=known)
    changed = logits.clone()
    changed[:, :, :8] += 3
    assert torch.equal(sequence_loss(logits, hidden, 0.5), sequence_loss(changed, hidden, 0.5))
    assert not torch.equal(sequence_loss(logits, drawn, 0.5), sequence_loss(changed, drawn, 0.5))


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
