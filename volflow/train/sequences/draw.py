"""Random sequences of sections with objects to follow: the same for the same random generator."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from volflow.train.config.sequences import SequenceShape
from volflow.train.sequences.objects import followed, section_objects
from volflow.train.sequences.volumes import FollowedVolume

TRIES = 50  # places drawn before a volume is given up


@dataclass(frozen=True)
class Sequence:
    """Sections of a crop, in the order in which they are followed.

    image : float32 (S, Y, X)
    offline : dict of str to float32 (S, C, Y, X)
        Probabilities; the first channel of d joins a section with the one before in the sequence.
    truth : bool (S, B, Y, X)
        Objects; all have pixels in the first section.
    known : bool (S, Y, X)
        Pixels whose label is known.
    first : float32 (B, Y, X)
        The masks that following begins with.
    masks, filters, affinity_input : bool
        Whether the network gets previous masks, filters of own masks, and affinities next to the
        image.
    """

    image: np.ndarray
    offline: dict[str, np.ndarray]
    truth: np.ndarray
    known: np.ndarray
    first: np.ndarray
    masks: bool = True
    filters: bool = True
    affinity_input: bool = True


def draw_sequence(
    volumes: SequenceOf[FollowedVolume], shape: SequenceShape, rng: np.random.Generator
) -> Sequence:
    """A random sequence, without damage.

    Raises
    ------
    ValueError
        If no place of the drawn volume shows an object.
    """
    weights = np.array([volume.source.weight for volume in volumes], float)
    volume = volumes[int(rng.choice(len(volumes), p=weights / weights.sum()))]
    for _ in range(TRIES):
        sections = _sections(volume, shape, rng)
        side = int(rng.choice(shape.sides))
        key = _place(volume.source.truth[sections[0]], side, rng)
        pieces = section_objects(volume.source.truth[sections[0]][key], shape.least_area)
        if pieces:
            chosen = rng.permutation(len(pieces))[: shape.objects]
            return symmetric(cut(volume, sections, key, [pieces[n] for n in chosen]), rng)
    raise ValueError(
        f"{volume.source.name}: no object of {shape.least_area} pixels in {TRIES} random places"
    )


def _sections(volume: FollowedVolume, shape: SequenceShape, rng: np.random.Generator) -> list[int]:
    """Sections in ascending or descending order, every n-th one, with gaps."""
    depth = len(volume.source.image)
    low, high = volume.source.sections
    step = int(rng.integers(low, high + 1))
    count = int(rng.integers(shape.sections[0], shape.sections[1] + 1))
    gaps = rng.integers(1, shape.gap + 1, count - 1) if shape.gap else np.zeros(count - 1, int)
    gaps = np.where(rng.random(count - 1) < shape.gap_probability, gaps, 0)
    offsets = step * np.concatenate([[0], np.cumsum(1 + gaps)])
    offsets = offsets[offsets < depth]
    chosen = int(rng.integers(0, depth - offsets[-1])) + offsets
    return [int(z) for z in (chosen if rng.random() < 0.5 else chosen[::-1])]


def _place(labels: np.ndarray, side: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """A square that contains a random pixel of an object, inside the section."""
    pixels = np.flatnonzero(labels > 0)
    if not len(pixels):
        pixels = np.arange(labels.size)
    at = divmod(int(rng.choice(pixels)), labels.shape[1])
    starts = [
        min(max(0, a - side // 2 + int(rng.integers(-side // 4, side // 4 + 1))), n - side)
        for a, n in zip(at, labels.shape, strict=True)
    ]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def cut(
    volume: FollowedVolume,
    sections: SequenceOf[int],
    key: tuple[slice, slice],
    pieces: SequenceOf[np.ndarray],
) -> Sequence:
    """The sequence of some sections of a volume, with objects that begin with given pieces.

    Parameters
    ----------
    volume : FollowedVolume
    sections : sequence of int
        Ascending or descending.
    key : two slices
        Of y and x.
    pieces : sequence of bool (Y, X)
        Connected pieces of labels in the first section.
    """
    at = list(sections)
    step = 1 if at[-1] >= at[0] else -1
    between = volume.source.truth[np.arange(at[0], at[-1] + step, step)][(slice(None), *key)]
    picked = [abs(z - at[0]) for z in at]
    objects = [followed(between, piece)[picked] for piece in pieces]
    offline = {
        kind: layer[:, at][(slice(None), slice(None), *key)].swapaxes(0, 1) / np.float32(255)
        for kind, layer in volume.offline.items()
    }
    if "d" in offline:
        offline["d"][:, 0] = _towards_previous(volume.offline["d"][0], at, key) / np.float32(255)
    labels = volume.source.truth[at][(slice(None), *key)]
    truth = np.stack(objects, 1)
    return Sequence(
        volume.source.image[at][(slice(None), *key)],
        offline,
        truth,
        labels >= 0,
        truth[0].astype(np.float32),
    )


def _towards_previous(
    along_z: np.ndarray, at: SequenceOf[int], key: tuple[slice, slice]
) -> np.ndarray:
    """The affinity of each section with the one before in a sequence, uint8 (S, Y, X).

    `along_z[z]` joins z with z - 1. Across more than one section it is the least on the way; for
    the first section, it is that with the section which would come before.
    """
    joined = []
    step = 1 if at[-1] >= at[0] else -1
    for n, z in enumerate(at):
        before = at[n - 1] if n else z - step
        low, high = min(before, z) + 1, max(before, z) + 1
        way = along_z[low : min(high, len(along_z))][(slice(None), *key)]
        joined.append(way.min(axis=0) if len(way) else np.zeros_like(along_z[0][key]))
    return np.stack(joined)


def symmetric(sequence: Sequence, rng: np.random.Generator) -> Sequence:
    """The sequence, flipped along y and x and with y and x exchanged, at random."""
    turns = rng.random(3) < 0.5
    for number, axis in enumerate((-2, -1)):
        if turns[number]:
            sequence = _each(sequence, partial(np.flip, axis=axis))
            if "d" in sequence.offline:
                _rejoin(sequence.offline["d"][:, 1 + number], axis)
    if turns[2]:
        sequence = _each(sequence, lambda a: a.swapaxes(-1, -2))
        if "d" in sequence.offline:
            sequence.offline["d"][:, 1:] = sequence.offline["d"][:, :0:-1].copy()
    return sequence


def _rejoin(along: np.ndarray, axis: int) -> None:
    """Shift affinities along a flipped axis, in place: they join a pixel with the one before."""
    lines = np.moveaxis(along, axis, 0)
    lines[1:] = lines[:-1].copy()


def _each(sequence: Sequence, function: Callable[[np.ndarray], np.ndarray]) -> Sequence:
    """The sequence with a function applied to the pixels of all its arrays."""

    def changed(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(function(array))

    return replace(
        sequence,
        image=changed(sequence.image),
        offline={kind: changed(layer) for kind, layer in sequence.offline.items()},
        truth=changed(sequence.truth),
        known=changed(sequence.known),
        first=changed(sequence.first),
    )
