"""Synthetic neuropil as three volumes: truth, image, affinities.

Everything is a function of the seed, the bounds and absolute coordinates, so a voxel is the same
whatever block it is asked for in, and a block costs the same in a volume of any size.

1. Axes of neurites are branching trees on a bent lattice (`forest`).
2. A voxel leans to the axis with the least power distance (thick neurites reach further),
   measured from a smoothly displaced place, so that membranes are curved.
3. From each voxel a path of steepest descent over faces leads to the core of an axis, and the
   voxel belongs to the neurite of *that* axis. So a neurite is one face-connected object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from volflow.core.geometry import Box, zyx
from volflow.synth.bodies import bodies_near, distances, embody, least_side
from volflow.synth.forest import axes_near, body_name, lattice_of
from volflow.synth.noise import smooth
from volflow.synth.organelles import mitochondria_of
from volflow.synth.painting import joined, painted, shaded
from volflow.synth.power_diagram import BOTTOM, REACH, descended, leaning_of
from volflow.synth.sections import Sections, damaged, sections_of
from volflow.synth.skeletons import Skeletons, skeletons_in
from volflow.synth.synapses import Candidates, candidates_near, cloud, placed

STEPS = 1.5  # of a cell: longest path from a voxel to a core; a voxel without one is label 0
RIM, RIM_STEPS = 1.5, 2.5  # of a cell: near the faces of the bounds axes are rare, paths longer


class Rendered(NamedTuple):
    """The three volumes of a box.

    Attributes
    ----------
    truth : uint64 array, (z, y, x)
        Neurites; 0 is nobody's (rare).
    image : uint8 array, (z, y, x)
        As an electron microscope would show it: dark membranes, mitochondria, noise.
    affinity : uint8 array, (3, z, y, x)
        255 times how sure it is that a voxel belongs with its previous neighbour along z, y, x,
        as a network of middling quality would say; 0 at the start of the bounds.
    """

    truth: np.ndarray
    image: np.ndarray
    affinity: np.ndarray


class Synapses(NamedTuple):
    """A table of synapses, one row each.

    Attributes
    ----------
    names : int64 array, (N,)
        As in the volume of synapses.
    pre, post : uint64 arrays, (N,)
        Labels of the neurites that give and that take; never the same.
    centres : float64 array, (N, 3)
        z, y, x in voxels.
    """

    names: np.ndarray
    pre: np.ndarray
    post: np.ndarray
    centres: np.ndarray


class Scene(NamedTuple):
    """Everything known of a box; what was not asked for is None.

    Attributes
    ----------
    rendered : Rendered
        Truth, image, affinities.
    mitochondria : uint64 array, (z, y, x)
        Each within one neurite; 0 elsewhere.
    synapses : uint64 array, (z, y, x)
        Names of synapses, 0 elsewhere.
    sides : uint8 array, (z, y, x)
        Which part of a synapse: 1 cleft, 2 pre side with vesicles, 3 post side.
    table : Synapses
        Those whose centre is in the box.
    nuclei : uint64 array, (z, y, x)
        The label of the neurite whose nucleus a voxel is in; 0 elsewhere.
    """

    rendered: Rendered
    mitochondria: np.ndarray | None
    synapses: np.ndarray | None
    sides: np.ndarray | None
    table: Synapses | None
    nuclei: np.ndarray | None


class _Tissue(NamedTuple):
    """What is in a box of cubic voxels, before anyone looks at it."""

    truth: np.ndarray
    wall: np.ndarray
    organ: np.ndarray
    mitochondria: np.ndarray | None = None
    synapses: np.ndarray | None = None
    sides: np.ndarray | None = None
    nuclei: np.ndarray | None = None

    def cut(self, key: tuple[slice, slice, slice]) -> _Tissue:
        """The same of a part of the box."""
        extra = (self.mitochondria, self.synapses, self.sides, self.nuclei)
        parts = (None if volume is None else volume[key] for volume in extra)
        return _Tissue(self.truth[key], self.wall[key], self.organ[key], *parts)


@dataclass(frozen=True, slots=True)
class Neuropil:
    """A volume of neurites that is computed where it is looked at.

    Parameters
    ----------
    bounds : Box
        The volume. Neurites end at its faces, so other bounds are another volume.
    seed : int
    cell : int
        Mean distance of neighbouring axes, in voxels, at least 8; a neurite is about as wide.
    noise : float
        Standard deviation of the image's noise, in grey values.
    doubt : float
        How wrong the affinities are; at 0 they are only blurred.
    synapses : bool
        Whether there are synapses, and the image shows them.
    section_noise : float
        Standard deviation of the sections' brightness, in grey values.
    drift : int
        How far a section of the image may be shifted along y and x, in voxels; neighbours by one
        against each other at most.
    missing, repeated : float
        Shares of sections whose image is black, or that of the section before.
    nucleus : int
        Radius of the nuclei of cell bodies, in voxels along y and x, at least `cell`; 0: there
        are no bodies. Where there are, neurites run otherwise.
    every : int
        One section in how many is kept: voxels are that much longer along z. `bounds` and boxes
        are in these voxels, and `cell` in voxels along y and x.
    """

    bounds: Box
    seed: int = 0
    cell: int = 14
    noise: float = 14.0
    doubt: float = 1.0
    synapses: bool = False
    section_noise: float = 0.0
    drift: int = 0
    missing: float = 0.0
    repeated: float = 0.0
    nucleus: int = 0
    every: int = 1

    def __post_init__(self) -> None:
        if self.cell < 8:
            raise ValueError(f"axes of neurites must be 8 voxels apart or more; got {self.cell}")
        if self.nucleus and self.nucleus < self.cell:
            raise ValueError(
                f"a nucleus is as wide as a neurite or wider: 0, or {self.cell} or more; got "
                f"{self.nucleus}"
            )
        side = least_side(self.cell, self.nucleus)
        if self.nucleus and min(self.bounds.zoom_in((self.every, 1, 1)).shape) < side:
            raise ValueError(
                f"a nucleus of {self.nucleus} voxels needs bounds of {side} voxels along each "
                f"axis; got {self.bounds.shape}"
            )
        if self.every < 1 or self.drift < 0:
            raise ValueError(
                f"expected every >= 1 and drift >= 0; got every={self.every}, drift={self.drift}"
            )
        if min(self.missing, self.repeated) < 0.0 or self.missing + self.repeated > 1.0:
            raise ValueError(
                f"missing and repeated are shares of sections, 1 together at most; got "
                f"{self.missing} and {self.repeated}"
            )

    def truth(self, box: Box) -> np.ndarray:
        """The neurite of each voxel, uint64 (z, y, x)."""
        return self.render(box).truth

    def image(self, box: Box) -> np.ndarray:
        """Grey values, uint8 (z, y, x)."""
        return self.render(box).image

    def affinity(self, box: Box) -> np.ndarray:
        """Affinities to the previous neighbour, uint8 (3, z, y, x)."""
        return self.render(box).affinity

    def render(self, box: Box) -> Rendered:
        """Truth, image and affinities of a box.

        Raises
        ------
        ValueError
            If the box is empty or does not lie in the bounds.
        """
        return self.scene(box, mitochondria=False).rendered

    def scene(self, box: Box, mitochondria: bool = True) -> Scene:
        """Everything of a box; mitochondria by name only if they are asked for.

        Raises
        ------
        ValueError
            If the box is empty or does not lie in the bounds.
        """
        self._refuse(box)
        # affinities and repeated sections need the voxels before the box, shifted ones more
        shown = Box(box.start - 1, box.stop)
        shown = shown.grow((0, self.drift, self.drift)).clip(self.bounds)
        tissue, found = self._tissue(shown, mitochondria)
        kept = box.within(shown)
        affinity = self._affinity(shown, tissue)[(slice(None), *kept)]
        image = self._image(box, shown, tissue)
        inner = tissue.cut(kept)
        rendered = Rendered(*map(np.ascontiguousarray, (inner.truth, image, affinity)))
        extra = (inner.mitochondria, inner.synapses, inner.sides, inner.nuclei)
        organs, names, sides, nuclei = (
            None if part is None else np.ascontiguousarray(part) for part in extra
        )
        table = None if found is None else self._table(box, found)
        return Scene(rendered, organs, names, sides, table, nuclei)

    def skeletons(self, box: Box) -> Skeletons:
        """The skeletons of the neurites in a box.

        Each node lies in a voxel of its own neurite (where `every` is 1; else the voxel's
        section may be half a voxel away).

        Raises
        ------
        ValueError
            If the box is empty or does not lie in the bounds.
        """
        self._refuse(box)
        fine = (self.every, 1, 1)
        found = skeletons_in(
            self._bits, self.bounds.zoom_in(fine), self.cell, self.nucleus, box.zoom_in(fine)
        )
        return found._replace(places=found.places / np.array(fine))

    def sections(self) -> Sections:
        """What happened to each section of the bounds."""
        return sections_of(
            self._bits,
            self.bounds.start[0],
            self.bounds.stop[0],
            section_noise=self.section_noise,
            drift=self.drift,
            missing=self.missing,
            repeated=self.repeated,
        )

    @property
    def _bits(self) -> np.uint64:
        """The seed as 64 bits."""
        return np.uint64(self.seed & 0xFFFFFFFFFFFFFFFF)

    def _refuse(self, box: Box) -> None:
        if not box.size or not self.bounds.covers(box):
            raise ValueError(f"box {box} does not lie in the bounds {self.bounds}")

    def _tissue(self, box: Box, mitochondria: bool) -> tuple[_Tissue, Candidates | None]:
        """What is in a box, one section in `every`; and the synapses near it, if there are any."""
        kept = (slice(None, None, self.every), slice(None), slice(None))
        fine = (self.every, 1, 1)
        bounds, cubes = self.bounds.zoom_in(fine), box.zoom_in(fine)
        if not self.synapses:
            # what follows the last section that is kept is not looked at
            cubes = Box(cubes.start, (cubes.stop[0] - self.every + 1, *cubes.stop[1:]))
            return self._grown(bounds, cubes, mitochondria).cut(kept), None
        # all of each synapse in the box, and whether it has a cleft
        room = cubes.grow(zyx(2 * cloud(self.cell) + 1)).clip(bounds)
        tissue = self._grown(bounds, room, mitochondria)
        found = candidates_near(self._bits, bounds, self.cell, self.nucleus, cubes)
        names, sides, there = placed(found, tissue.truth, tissue.wall, room.start, self.cell)
        tissue = tissue._replace(synapses=names, sides=sides).cut(cubes.within(room))
        return tissue.cut(kept), Candidates(*(column[there] for column in found))

    def _grown(self, bounds: Box, box: Box, mitochondria: bool) -> _Tissue:
        """Neurites and mitochondria in a box of cubic voxels."""
        seed, steps = self._bits, int(STEPS * self.cell)
        rim = int(RIM * self.cell)
        core = bounds.grow(zyx(-rim))
        far = steps if core.covers(box) else int(RIM_STEPS * self.cell)
        if self.nucleus:  # around bodies, too, axes are rare
            far = steps = int(RIM_STEPS * self.cell)
        outer = box.grow(zyx(far)).clip(bounds)
        reach = REACH * self.cell
        axes = axes_near(seed, bounds, self.cell, self.nucleus, outer, reach + 4.0)
        lattice = lattice_of(bounds, self.cell, self.nucleus)
        middles, numbers = bodies_near(seed, lattice.ground, outer)
        bodies = np.array([body_name(lattice.sides, number) for number in numbers], np.int64)
        names = np.unique(np.concatenate([axes.owner, bodies]))
        owner = np.searchsorted(names, axes.owner)
        tags = np.empty(0, np.int32)
        if mitochondria:
            organs = mitochondria_of(seed, lattice, axes)
            organs, number = np.unique(np.concatenate([[0], organs]), return_inverse=True)
            tags = number[1:].astype(np.int32)
        leaning = leaning_of(seed, axes, owner.astype(np.int32), tags, outer, reach)
        for middle, body in zip(middles, np.searchsorted(names, bodies), strict=True):
            fields = (leaning.who, leaning.height, leaning.wall, leaning.organ)
            embody(np.array(outer.start), middle, lattice.ground.radius, body, BOTTOM, *fields)
        kept = box.within(outer)
        here = np.array([part.start for part in kept])
        calm = np.array([core.start, core.stop]) - np.array(box.start)
        limits = np.array([steps, far])
        label = descended(leaning.who, leaning.height, here, np.array(box.shape), calm, limits)
        truth = np.concatenate([[0], names]).astype(np.uint64)[label + 1]
        wall, organ = leaning.wall[kept], leaning.organ[kept]
        nuclei = self._nuclei(box, truth, middles, bodies) if self.nucleus else None
        if not mitochondria:
            return _Tissue(truth, wall, organ, nuclei=nuclei)
        # a voxel may belong to another neurite than the one whose axis is nearest
        own = (organ > 0.0) & (label == leaning.who[kept])
        found = np.where(own, organs[leaning.tag[kept]], 0).astype(np.uint64)
        return _Tissue(truth, wall, organ, found, nuclei=nuclei)

    def _nuclei(
        self, box: Box, truth: np.ndarray, middles: np.ndarray, bodies: np.ndarray
    ) -> np.ndarray:
        """Balls in bodies, uint64 (z, y, x): the bodies' names."""
        out = np.zeros(truth.shape, np.uint64)
        for middle, body in zip(middles, bodies, strict=True):
            away = distances(box, middle)
            out[(away < self.nucleus) & (truth == body)] = body
        return out

    def _image(self, box: Box, shown: Box, tissue: _Tissue) -> np.ndarray:
        """Grey values of a box, with what happened to its sections."""
        seed = self._bits
        fine, rough = self._smooth(51, shown, 3), self._smooth(52, shown, 9)
        shade = np.empty((0, 0, 0), np.float32)
        if tissue.sides is not None:
            cubes = np.array(shown.zoom_in((self.every, 1, 1)).start)
            shade = shaded(seed, cubes, tissue.sides, self.every)
        if tissue.nuclei is not None:
            shade = shade if shade.size else np.zeros(shown.shape, np.float32)
            shade += self._chromatin(shown, tissue.nuclei)
        parts = (tissue.truth, tissue.wall, tissue.organ, fine, rough, shade)
        image = painted(seed, np.array(shown.start), *parts, self.noise)
        if not (self.section_noise or self.drift or self.missing or self.repeated):
            return image[box.within(shown)]
        here = np.array([(part.start, part.stop) for part in box.within(shown)[1:]])
        rows = self.sections().rows(box.start[0], box.stop[0])
        return damaged(image, shown.start[0], here, rows)

    def _chromatin(self, box: Box, nuclei: np.ndarray) -> np.ndarray:
        """How much darker nuclei are, float32 (z, y, x): an envelope, and clumps inside."""
        fine = (self.every, 1, 1)
        cubes = box.zoom_in(fine)
        ground = lattice_of(self.bounds.zoom_in(fine), self.cell, self.nucleus).ground
        clumps = np.maximum(0.0, self._smooth(53, box, 7))
        out = np.where(nuclei > 0, np.float32(10.0) + np.float32(50.0) * clumps, np.float32(0.0))
        for middle in bodies_near(self._bits, ground, cubes)[0]:
            rim = np.abs(distances(cubes, middle)[:: self.every] - self.nucleus)
            out += np.float32(60.0) * np.clip(2.0 - rim, 0.0, 1.0).astype(np.float32)
        return out

    def _affinity(self, box: Box, tissue: _Tissue) -> np.ndarray:
        """Affinities of a box whose first planes are not trusted unless the bounds start there."""
        fine, rough = self._smooth(61, box, 4), self._smooth(62, box, 11)
        start = np.array(box.start)
        return joined(self._bits, start, tissue.truth, tissue.wall, fine, rough, self.doubt)

    def _smooth(self, salt: int, box: Box, spacing: int) -> np.ndarray:
        """A smooth field over cubic voxels, one section in `every`."""
        return smooth(self._bits, salt, box.zoom_in((self.every, 1, 1)), spacing)[:: self.every]

    def _table(self, box: Box, found: Candidates) -> Synapses:
        """The synapses whose centre is in a box."""
        fine = np.array((self.every, 1, 1))
        centres, voxels = found.centres / fine, np.rint(found.centres) // fine
        here = ((voxels >= box.start) & (voxels < box.stop)).all(axis=1)
        pre, post = (side[here].astype(np.uint64) for side in (found.pre, found.post))
        return Synapses(found.names[here], pre, post, centres[here])
