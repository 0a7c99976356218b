"""Masks followed through held-out sections from the truth of the first, and what else could do so.

A follower is compared with the mask of the first section, unchanged, and with the segment of the
affinities that has most pixels under that mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from volflow.track.follower import Follower, Section
from volflow.track.memory import HALF, Track, cropped
from volflow.track.overlaps import windows
from volflow.train.sequences.draw import _towards_previous
from volflow.train.sequences.objects import followed, section_objects
from volflow.train.sequences.volumes import FollowedVolume
from volflow.train.validation.evaluate import InMemoryPipeline

REACH = 16  # pixels around the newest mask in which an object is searched
THRESHOLD, MIN_SIZE = 0.4, 200  # of the segmentation that followers are compared with


@dataclass(frozen=True)
class Trial:
    """A volume and the objects that are followed through it.

    volume : FollowedVolume
    truth : bool (S, B, Y, X)
        Objects; all have pixels in the first section.
    """

    volume: FollowedVolume
    truth: np.ndarray


def trial(volume: FollowedVolume, objects: int, least_area: int, seed: int = 0) -> Trial:
    """At most so many objects of the first section of a volume, drawn once and for all."""
    labels = volume.source.truth
    pieces = section_objects(labels[0], least_area)
    chosen = np.random.default_rng(seed).permutation(len(pieces))[:objects]
    return Trial(volume, np.stack([followed(labels, pieces[n]) for n in sorted(chosen)], 1))


def sections_of(volume: FollowedVolume) -> list[Section]:
    """The sections of a volume, forward; images are uint8, -1 to 1 stored as 64 to 192."""
    image = np.rint(np.clip(volume.source.image, -2, 2) * 64 + 128).clip(0, 255).astype(np.uint8)
    depth, whole = len(image), (slice(None), slice(None))
    offline = dict(volume.offline)
    if "d" in offline:
        along = _towards_previous(offline["d"][0], range(depth), whole)
        offline["d"] = np.concatenate([along[None], offline["d"][1:]])
    return [
        Section(image[z], {k: layer[:, z] for k, layer in offline.items()}) for z in range(depth)
    ]


INTENSITY = (64.0, 192.0)
"""Intensities of `sections_of` that stand for -1 and 1."""


def follow_alone(follower: Follower, sections: Sequence[Section], first: np.ndarray) -> np.ndarray:
    """Masks of objects that are each followed alone, from their first masks.

    Parameters
    ----------
    follower : Follower
    sections : sequence of Section
    first : bool (B, Y, X)

    Returns
    -------
    bool (S, B, Y, X)
    """
    shape = (first.shape[1], first.shape[2])
    tracks = [
        Track(n + 1, crops=(cropped(mask.view(np.uint8) * np.uint8(255), (0, 0)),))
        for n, mask in enumerate(first)
    ]
    masks = np.zeros((len(sections), *first.shape), bool)
    masks[0] = first
    follower.forget()
    follower.see(sections[0])
    for number, section in enumerate(sections[1:], 1):
        follower.see(section)
        tracks = [track.older() for track in tracks]
        alive = [n for n, track in enumerate(tracks) if track.crops[-1].mask.size]
        objects = [tracks[n].remembered(REACH, follower.stride, shape, number) for n in alive]
        for n, each, mask in zip(alive, objects, follower.masks(objects), strict=True):
            stored = np.rint(mask * 255).astype(np.uint8)
            here, inside = windows(each.origin, stored.shape, shape)
            masks[number, n][here] = stored[inside] >= HALF
            clipped = np.zeros_like(stored)
            clipped[inside] = stored[inside]
            tracks[n] = tracks[n].seen(cropped(clipped, each.origin), follower.memory)
    return masks


def overlap_after(masks: np.ndarray, truth: np.ndarray, after: Sequence[int]) -> dict[int, float]:
    """Mean IoU after some sections, over the objects that are still there.

    Parameters
    ----------
    masks, truth : bool (S, B, Y, X)
    after : sequence of int
        Numbers of sections; those beyond the last one are left out.
    """
    scores = {}
    for number in after:
        if number >= len(truth):
            continue
        there = truth[number].any((1, 2))
        both = (masks[number] & truth[number]).sum((1, 2))[there]
        either = (masks[number] | truth[number]).sum((1, 2))[there]
        if there.any():
            scores[number] = float((both / either).mean())
    return scores


def overlap_of_boxes(follower: Follower, trial: Trial) -> float:
    """Mean IoU of the masks of boxes with the objects of the first section, B."""
    follower.forget()
    follower.see(sections_of(trial.volume)[0])
    boxes = [box_around(mask) for mask in trial.truth[0]]
    masks = [mask >= HALF / 255 for mask in follower.first_masks(boxes)]
    return overlap_after(np.stack(masks)[None], trial.truth[:1], (0,))[0]


def box_around(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The box y0 x0 y1 x1 of a mask, bool (Y, X), that is not empty; half-open."""
    rows, across = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(across[0]), int(rows[-1]) + 1, int(across[-1]) + 1


def copied(trial: Trial) -> np.ndarray:
    """The masks of the first section in all sections, bool (S, B, Y, X)."""
    return np.broadcast_to(trial.truth[:1], trial.truth.shape)


def segments_under(trial: Trial) -> np.ndarray:
    """The affinities' segments with most pixels under the first masks, bool (S, B, Y, X)."""
    segments = InMemoryPipeline(trial.volume.offline["d"]).segmentation(THRESHOLD, MIN_SIZE)
    masks = np.zeros(trial.truth.shape, bool)
    for n, mask in enumerate(trial.truth[0]):
        names, counts = np.unique(segments[0][mask], return_counts=True)
        masks[:, n] = segments == names[counts.argmax()]
    return masks
