"""Sequences followed by a network in training: its predictions are its next support pairs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from volflow.models.iicats.extractors import box_masks
from volflow.models.iicats.gates import OWN
from volflow.models.iicats.network import IICats, OfflineFilters, Pair, joined_support
from volflow.models.iicats.target_model import columns
from volflow.train.lovasz import lovasz
from volflow.train.sequences.draw import Sequence


class Sections(NamedTuple):
    """A sequence as tensors, see `draw.Sequence`.

    image : float32 (S, 1, Y, X)
    offline : dict of str to float32 (S, C, Y, X)
    truth : bool (S, B, Y, X)
    known : bool (S, 1, Y, X)
    first : float32 (B, 1, Y, X)
    """

    image: Tensor
    offline: dict[str, Tensor]
    truth: Tensor
    known: Tensor
    first: Tensor
    masks: bool
    filters: bool
    affinity_input: bool = True

    @classmethod
    def of(cls, sequence: Sequence) -> Sections:
        """The tensors of a sequence."""
        image, truth, known, first = (
            torch.from_numpy(np.ascontiguousarray(array))
            for array in (sequence.image, sequence.truth, sequence.known, sequence.first)
        )
        offline = {k: torch.from_numpy(layer) for k, layer in sequence.offline.items()}
        tensors = image[:, None], offline, truth, known[:, None], first[:, None]
        return cls(*tensors, sequence.masks, sequence.filters, sequence.affinity_input)

    def to(self, device: str) -> Sections:
        """The same sequence on a device."""
        offline = {kind: layer.to(device) for kind, layer in self.offline.items()}
        tensors = (part.to(device) for part in (self.image, self.truth, self.known, self.first))
        image, truth, known, first = tensors
        return self._replace(image=image, offline=offline, truth=truth, known=known, first=first)


def follow(network: IICats, sequence: Sections) -> Tensor:
    """The logits of all objects in all sections but the first, (S - 1, B, Y, X).

    Predictions are fed back as masks, without gradients.
    """
    affinities = sequence.offline.get("d") if sequence.affinity_input else None
    shared = network.sections(_last(sequence.image), _optional(affinities))
    offline = _offline_terms(network, shared.target, sequence.offline)
    objects, size = len(sequence.first), (shared.target.shape[2], shared.target.shape[3])
    mask, memory, recent, logits = sequence.first, list[Pair](), [sequence.first] * 2, []
    by_masks = sequence.masks or not network.few_shot
    by_filters = sequence.filters or not network.last_masks
    for number in range(1, len(sequence.image)):
        encoding = None
        if network.few_shot:
            own = None
            if by_filters:
                before = shared.target[number - 1 : number]
                memory.append((columns(before), *network.pairs(OWN, mask)))
                support = joined_support(
                    memory[-network.memory :], range(min(len(memory), network.memory), 0, -1)
                )
                own = network.own_response(support, shared.target[number : number + 1])
            encoding = network.gates(own, offline[number], objects, size)
        given = recent if by_masks else [torch.full_like(mask, 0.5)] * 2
        masks = torch.cat(given, 1)[:, 2 - network.last_masks :]
        logits.append(network.decode(shared.section(number), encoding, masks)[:, 0])
        mask = logits[-1].detach().sigmoid()[:, None]
        recent = [recent[1], mask]
    return torch.stack(logits)


def first_logits(network: IICats, sequence: Sections, boxes: Tensor) -> Tensor:
    """The logits of objects in the first section, from their boxes alone, (1, B, Y, X).

    Parameters
    ----------
    network : IICats
    sequence : Sections
    boxes : int (B, 4)
        y0 x0 y1 x1, half-open.
    """
    affinities = sequence.offline.get("d")
    section = network.sections(
        _last(sequence.image[:1]), _optional(None if affinities is None else affinities[:1])
    )
    size = (section.size[0], section.size[1])
    masks = box_masks(boxes, size)
    encoding = network.box(section.target.expand(len(boxes), -1, -1, -1), masks)
    nothing = torch.full((len(boxes), network.last_masks, *size), 0.5)
    return network.decode(section, encoding, nothing)[:, 0][None]


def boxes_of(masks: Tensor) -> Tensor:
    """The boxes y0 x0 y1 x1 around masks, bool (B, Y, X), none of which is empty; int (B, 4)."""
    rows, across = masks.any(2).int(), masks.any(1).int()
    height, width = masks.shape[1:]
    first = [rows.argmax(1), across.argmax(1)]
    last = [height - rows.flip(1).argmax(1), width - across.flip(1).argmax(1)]
    return torch.stack([*first, *last], 1)


def mask_loss(logits: Tensor, truth: Tensor, known: Tensor, cross_entropy: float) -> Tensor:
    """The Lovász loss, averaged over objects and sections, plus weighted cross entropy.

    Parameters
    ----------
    logits : (S, B, Y, X)
    truth : bool (S, B, Y, X)
    known : bool (S, 1, Y, X)
    cross_entropy : float
        Weight of the cross entropy, averaged over known pixels.
    """
    everywhere = known.expand_as(logits)
    # A pixel that is not known has no error: it is predicted as it is.
    probabilities = torch.where(everywhere, logits.sigmoid(), truth.float())
    loss = lovasz(probabilities.flatten(2), truth.flatten(2)).mean()
    if cross_entropy:
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, truth.float(), everywhere.float(), reduction="sum"
        )
        loss = loss + cross_entropy * entropy / everywhere.sum().clamp(min=1)
    return loss


def _offline_terms(
    network: IICats, target: Tensor, layers: dict[str, Tensor]
) -> list[Tensor | None]:
    """The offline term of each section, (1, encoding, y, x)."""
    if not network.few_shot:
        return [None] * len(target)
    encoded = {
        kind: network.pairs(kind, layer) for kind, layer in layers.items() if kind in network.types
    }
    filters = OfflineFilters(network)
    terms = []
    for number in range(len(target)):
        at = slice(number, number + 1)
        pairs = {kind: (target_[at], weight[at]) for kind, (target_, weight) in encoded.items()}
        terms.append(filters.see(target[at], pairs))
    return terms


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _optional(x: Tensor | None) -> Tensor | None:
    return None if x is None else _last(x)
