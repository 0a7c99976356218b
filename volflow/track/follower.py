"""The interface between the loop over sections and a network that follows objects through them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np


class Section(NamedTuple):
    """One plane of constant z of a tile, and what the offline networks predict for it.

    Attributes
    ----------
    image : uint8, (Y, X)
    offline : mapping
        Predictions by type; a type that is absent is not in the mapping. `d`: uint8 (3, Y, X), the
        affinities along z, y and x, 255 = together; channel 0 joins this section with the one that
        the loop comes from, which is z-1 forward and z+1 backward. `m`: uint8 (1, Y, X),
        mitochondria. `syn`: uint8 (1, Y, X), synaptic clefts.
    after_blank : bool
        Whether the section that the loop comes from is blank, so that the affinities along z join
        this section with nothing.
    """

    image: np.ndarray
    offline: Mapping[str, np.ndarray]
    after_blank: bool = False


class Remembered(NamedTuple):
    """One object as a follower sees it: its newest masks, the newest last.

    Attributes
    ----------
    id : int
    origin : (int, int)
        y and x of the window in the tile; a window may reach beyond the tile.
    masks : uint8, (n, H, W)
        `round(255 p)` in the window, one per section seen; n is at least 1, and at most the
        follower's `memory`.
    ages : int64, (n,)
        Sections since each mask, without blank ones, which are never seen; 1 is the one before the
        section that is asked for. Masks from before what the follower has seen are left out, unless
        the newest is one of them.
    """

    id: int
    origin: tuple[int, int]
    masks: np.ndarray
    ages: np.ndarray


class Follower(Protocol):
    """A method that follows objects into the next section.

    At the start of a part the loop calls `forget`, then `see` for the last `memory` sections before
    the part, which are read again. After that, for each section: `see`, `masks`, overlaps resolved,
    memories updated. Blank sections, and those without an object, are not seen.
    """

    memory: int
    """The number of past sections that are used."""
    stride: int
    """Windows are multiples of this, in voxels."""

    def forget(self) -> None:
        """Drop all state; filters are fitted again from the memories."""

    def see(self, section: Section) -> None:
        """Do the work that all objects of a section share; it is the current section afterwards."""

    def masks(self, objects: Sequence[Remembered]) -> list[np.ndarray]:
        """Probabilities of each object in the current section, in its window.

        Returns
        -------
        list of float32, (H, W)
            Deterministic, and independent of the order of the objects and of the batch.
        """

    def first_masks(self, boxes: Sequence[tuple[int, int, int, int]]) -> list[np.ndarray]:
        """Probabilities of the object in each box of the current section, float32 (Y, X).

        Parameters
        ----------
        boxes : sequence of (int, int, int, int)
            y and x of the first voxel, y and x after the last.

        Raises
        ------
        NotImplementedError
            If the method has no box extractor.
        """
