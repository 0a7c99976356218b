"""The loss of the tracker on pairs of sections: proposals, boxes and embeddings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    smooth_l1_loss,
)

from volflow.models.detector.boxes import encode
from volflow.models.detector.heads import BOX_SPREAD
from volflow.models.detector.proposals import Scored, proposals
from volflow.models.detector.quasidense import QuasiDense
from volflow.train.config.tracker import SampleSpec
from volflow.train.tracker.assignment import NEGATIVE, assigned, balanced, sampled
from volflow.train.tracker.losses import embedding_loss
from volflow.train.tracker.pairs import Pairs

BETA = 1 / 9  # below it, the loss of a delta is quadratic
LEAST_BEST = 0.3  # overlap of the best anchor of an object, which is positive however small
DUPLICATE = 0.7  # overlap above which one of two proposals is dropped
BOX_OVERLAP = 0.5  # of a proposal with an object, to be one


class Losses(NamedTuple):
    """The parts of the loss, scalars: proposals, boxes (class and deltas), embeddings."""

    proposals: Tensor
    boxes: Tensor
    embeddings: Tensor


def tracker_losses(
    network: QuasiDense, pairs: Pairs, samples: SampleSpec, rng: np.random.Generator
) -> Losses:
    """The losses of pairs of sections.

    Proposals and boxes are trained on both sections of a pair; published: on the key section
    alone.

    Parameters
    ----------
    network : QuasiDense
    pairs : Pairs
    samples : SampleSpec
    rng : Generator
        Of all random samples.
    """
    levels, scored = network(pairs.sections)
    shape = (pairs.sections.shape[2], pairs.sections.shape[3])
    of_proposals, of_boxes, candidates = [], [], []
    for number, (anchors, objects) in enumerate(zip(scored, pairs.boxes, strict=True)):
        of_proposals.append(proposal_loss(anchors, objects, samples, rng))
        proposed = proposals(anchors, shape, network.density, DUPLICATE)
        proposed = torch.cat([proposed, objects])
        candidates.append(proposed)
        chosen = assigned(proposed, objects, BOX_OVERLAP, BOX_OVERLAP)
        positive, negative = sampled(chosen, samples.boxes, 0.25, rng)
        index = torch.cat([positive, negative])
        of_boxes.append(
            box_loss(
                network.judge(network.features(levels, number, proposed[index])),
                proposed[positive],
                objects[chosen[positive]],
            )
        )
    of_embeddings = [
        _pair_loss(network, levels, pairs, candidates, key, samples, rng)
        for key, linked in enumerate(pairs.linked)
        if linked
    ]
    return Losses(
        torch.stack(of_proposals).mean(),
        torch.stack(of_boxes).mean(),
        torch.stack(of_embeddings).mean() if of_embeddings else levels[0].sum() * 0,
    )


def proposal_loss(
    scored: Scored, objects: Tensor, samples: SampleSpec, rng: np.random.Generator
) -> Tensor:
    """The loss of objectness and deltas on a sample of the anchors of one section."""
    chosen = assigned(
        scored.anchors, objects, samples.positive, samples.negative, at_least=LEAST_BEST
    )
    positive, negative = sampled(chosen, samples.anchors, 0.5, rng)
    index = torch.cat([positive, negative])
    target = (chosen[index] >= 0).to(scored.logits.dtype)
    objectness = binary_cross_entropy_with_logits(scored.logits[index], target)
    wanted = encode(objects[chosen[positive]], scored.anchors[positive])
    moved = smooth_l1_loss(scored.deltas[positive], wanted, beta=BETA, reduction="sum")
    return objectness + moved / max(1, len(index))


def box_loss(judged: tuple[Tensor, Tensor], boxes: Tensor, objects: Tensor) -> Tensor:
    """The loss of classes and deltas.

    Parameters
    ----------
    judged : (R, 2) logits and (R, 4) deltas
        Positive boxes first.
    boxes, objects : float tensor, (P, 4)
        The positive boxes, and the object of each.
    """
    logits, deltas = judged
    target = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    target[: len(boxes)] = 1
    wanted = encode(objects, boxes, BOX_SPREAD)
    moved = smooth_l1_loss(deltas[: len(boxes)], wanted, beta=BETA, reduction="sum")
    return cross_entropy(logits, target) + moved / max(1, len(logits))


def _pair_loss(
    network: QuasiDense,
    levels: list[Tensor],
    pairs: Pairs,
    candidates: list[Tensor],
    key: int,
    samples: SampleSpec,
    rng: np.random.Generator,
) -> Tensor:
    """The loss of the embeddings of one pair of sections."""
    reference = key + len(pairs.linked)
    of_key = assigned(candidates[key], pairs.boxes[key], samples.positive, samples.negative)
    keys, _ = sampled(of_key, samples.keys, 1.0, rng)
    of_reference = assigned(
        candidates[reference], pairs.boxes[reference], samples.positive, samples.negative
    )
    half = samples.references // 2
    alike = balanced(of_reference, half, rng)
    _, background = sampled(of_reference, half, 0.0, rng)
    others = torch.cat([alike, background])
    identities = torch.full((len(others),), NEGATIVE, device=others.device)
    identities[: len(alike)] = pairs.identities[reference][of_reference[alike]]
    return embedding_loss(
        network.embed(network.features(levels, key, candidates[key][keys])),
        network.embed(network.features(levels, reference, candidates[reference][others])),
        pairs.identities[key][of_key[keys]],
        identities,
    )
