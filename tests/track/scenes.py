"""Small volumes of discs that move from section to section, with their affinities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from volflow.track.follower import Section

Path = Sequence[tuple[float, float] | None]
"""Centre y x of a disc in each section; None where there is none."""


def discs(shape: tuple[int, int, int], paths: Sequence[Path], radius: float = 5) -> np.ndarray:
    """Labels (Z, Y, X), uint64, of discs numbered from 1; later ones are drawn on top."""
    labels = np.zeros(shape, np.uint64)
    y, x = np.indices(shape[1:])
    for number, path in enumerate(paths, 1):
        for z, centre in enumerate(path):
            if centre is not None:
                near = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2
                labels[z][near] = number
    return labels


def affinities(labels: np.ndarray, high: int = 230, low: int = 20) -> np.ndarray:
    """Affinities (3, Z, Y, X) of labels: high within an object, low across and in background."""
    affinity = np.full((3, *labels.shape), low, np.uint8)
    for axis in range(3):
        here = np.moveaxis(labels, axis, 0)
        same = (here[1:] == here[:-1]) & (here[1:] > 0)
        np.moveaxis(affinity[axis], axis, 0)[1:][same] = high
        np.moveaxis(affinity[axis], axis, 0)[0] = 0
    return affinity


def sections(labels: np.ndarray) -> list[Section]:
    """The sections of labels, with their affinities."""
    affinity = affinities(labels)
    return [
        Section((labels[z] > 0).astype(np.uint8) * 255, {"d": affinity[:, z]})
        for z in range(len(labels))
    ]


def straight(start: tuple[float, float], step: tuple[float, float], count: int) -> Path:
    """The centres of a disc that moves by the same step in each section."""
    return [(start[0] + z * step[0], start[1] + z * step[1]) for z in range(count)]
