"""Synthetic neuropil as three volumes: truth, image, affinities.

Everything is a function of the seed, the bounds and absolute coordinates, so a voxel's value does
not depend on the block, and the cost of a block does not depend on the size of the volume.

1. The axes of neurites are branching trees on a warped lattice (`forest`).
2. Each voxel is assigned to the axis with the smallest power distance (thick neurites extend
   further), measured from a smoothly displaced position, so that membranes are curved
   (`power_diagram`).
3. From each voxel, a path of steepest descent across faces leads to the core of an axis. The voxel
   belongs to the neurite of *that* axis, so a neurite is one face-connected object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from volflow.core.geometry import Box, zyx
from volflow.synth.bodies import add_body, bodies_near, distances, least_side
from volflow.synth.forest import axes_near, body_name, lattice_of
from volflow.synth.noise import smooth
from volflow.synth.organelles import mitochondria_of
from volflow.synth.painting import grey_values, synapse_shade, synthetic_affinity
from volflow.synth.power_diagram import BOTTOM, REACH, descend_to_cores, power_diagram
from volflow.synth.sections import Sections, damaged, draw_sections
from volflow.synth.skeletons import Skeletons, skeletons_in
from volflow.synth.synapses import Candidates, candidates_near, cloud_radius, place_synapses

STEPS = 1.5  # of a cell: longest path from a voxel to a core; a voxel without one is label 0
RIM, RIM_STEPS = 1.5, 2.5  # of a cell: near the faces of the bounds, axes are rare and paths longer


class Rendered(NamedTuple):
    """The three volumes of a box.

    Attributes
    ----------
    truth : uint64 array, (z, y, x)
        Labels of neurites; 0 belongs to none (rare).
    image : uint8 array, (z, y, x)
        As in an electron micrograph: dark membranes, mitochondria, noise.
    affinity : uint8 array, (3, z, y, x)
        255 times the probability that a voxel and the one before it along z, y, x are in the same
        neurite, as predicted by a network of medium quality; 0 at the start of the bounds.
    """

    truth: np.ndarray
    image: np.ndarray
    affinity: np.ndarray


class Synapses(NamedTuple):
    """A table of synapses, one row each.

    Attributes
    ----------
    names : int64 array, (N,)
        Labels in the volume of synapses.
    pre, post : uint64 arrays, (N,)
        Labels of the presynaptic and the postsynaptic neurite; always different.
    centres : float64 array, (N, 3)
        z, y, x in voxels.
    """

    names: np.ndarray
    pre: np.ndarray
    post: np.ndarray
    centres: np.ndarray


class Scene(NamedTuple):
    """All volumes of a box; those that were not requested are None.

    Attributes
    ----------
    rendered : Rendered
        Truth, image, affinities.
    mitochondria : uint64 array, (z, y, x)
        Labels of mitochondria, each within one neurite; 0 elsewhere.
    synapses : uint64 array, (z, y, x)
        Labels of synapses; 0 elsewhere.
    sides : uint8 array, (z, y, x)
        The part of a synapse: 1 cleft, 2 presynaptic side with vesicles, 3 postsynaptic side.
    table : Synapses
        The synapses whose centre is in the box.
    nuclei : uint64 array, (z, y, x)
        The label of the neurite to which the nucleus belongs; 0 outside nuclei.
    """

    rendered: Rendered
    mitochondria: np.ndarray | None
    synapses: np.ndarray | None
    sides: np.ndarray | None
    table: Synapses | None
    nuclei: np.ndarray | None


class _Tissue(NamedTuple):
    """The contents of a box, before image and affinities are rendered."""

    truth: np.ndarray
    wall: np.ndarray
    organ: np.ndarray
    mitochondria: np.ndarray | None = None
    synapses: np.ndarray | None = None
    sides: np.ndarray | None = None
    nuclei: np.ndarray | None = None

    def cut(self, key: tuple[slice, slice, slice]) -> _Tissue:
        """The contents of a part of the box."""
        extra = (self.mitochondria, self.synapses, self.sides, self.nuclei)
        parts = (None if volume is None else volume[key] for volume in extra)
        return _Tissue(self.truth[key], self.wall[key], self.organ[key], *parts)


@dataclass(frozen=True, slots=True)
class Neuropil:
    """A synthetic volume of neurites, computed box by box.

    Parameters
    ----------
    bounds : Box
        The volume. Neurites end at its faces, so other bounds give another volume.
    seed : int
        Seed of all random numbers.
    cell : int
        Mean distance between neighbouring axes in voxels, at least 8; the mean width of a neurite.
    noise : float
        Standard deviation of the image's noise in grey values.
    doubt : float
        Amplitude of the errors of the affinities; at 0 they are only blurred.
    synapses : bool
        Whether there are synapses, which the image then shows.
    section_noise : float
        Standard deviation of the brightness of sections in grey values.
    drift : int
        Largest shift of a section of the image along y and x in voxels; consecutive sections
        differ by at most one voxel.
    missing, repeated : float
        Fractions of the sections whose image is black, or that of the section before.
    nucleus : int
        Radius of the nuclei of cell bodies in voxels along y and x, at least `cell`; 0: no bodies.
        With bodies, neurites take other paths.
    every : int
        Only one section in this many is kept, so voxels are longer along z by this factor.
        `bounds` and boxes are in these voxels, `cell` in voxels along y and x.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or the bounds are too small for a body.
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
            raise ValueError(f"cell: expected at least 8 voxels; got {self.cell}")
        if self.nucleus and self.nucleus < self.cell:
            raise ValueError(
                f"nucleus: expected 0, or at least {self.cell} voxels, the width of a neurite; "
                f"got {self.nucleus}"
            )
        side = least_side(self.cell, self.nucleus)
        if self.nucleus and min(self.bounds.zoom_in((self.every, 1, 1)).shape) < side:
            raise ValueError(
                f"nucleus: bodies with a nucleus of {self.nucleus} voxels need bounds of at least "
                f"{side} voxels along each axis; got {self.bounds.shape}"
            )
        if self.every < 1 or self.drift < 0:
            raise ValueError(
                f"expected every >= 1 and drift >= 0; got every={self.every}, drift={self.drift}"
            )
        if min(self.missing, self.repeated) < 0.0 or self.missing + self.repeated > 1.0:
            raise ValueError(
                f"expected missing and repeated to be fractions with a sum of at most 1; got "
                f"{self.missing} and {self.repeated}"
            )

    def truth(self, box: Box) -> np.ndarray:
        """The label of each voxel's neurite, uint64 (z, y, x)."""
        return self.render(box).truth

    def image(self, box: Box) -> np.ndarray:
        """Grey values, uint8 (z, y, x)."""
        return self.render(box).image

    def affinity(self, box: Box) -> np.ndarray:
        """Affinities to the voxel before along each axis, uint8 (3, z, y, x)."""
        return self.render(box).affinity

    def render(self, box: Box) -> Rendered:
        """Truth, image and affinities of a box.

        Raises
        ------
        ValueError
            If the box is empty or extends beyond the bounds.
        """
        return self.scene(box, mitochondria=False).rendered

    def scene(self, box: Box, mitochondria: bool = True) -> Scene:
        """All volumes of a box; labels of mitochondria only if requested.

        Raises
        ------
        ValueError
            If the box is empty or extends beyond the bounds.
        """
        self._check(box)
        # Affinities and repeated sections need the voxels before the box, shifted sections more.
        shown = Box(box.start - 1, box.stop)
        shown = shown.grow((0, self.drift, self.drift)).clip(self.bounds)
        tissue, candidates = self._tissue(shown, mitochondria)
        inner_slices = box.within(shown)
        affinity = self._affinity(shown, tissue)[(slice(None), *inner_slices)]
        image = self._image(box, shown, tissue)
        part = tissue.cut(inner_slices)
        rendered = Rendered(*map(np.ascontiguousarray, (part.truth, image, affinity)))
        extra = (part.mitochondria, part.synapses, part.sides, part.nuclei)
        organs, names, sides, nuclei = (
            None if volume is None else np.ascontiguousarray(volume) for volume in extra
        )
        table = None if candidates is None else self._table(box, candidates)
        return Scene(rendered, organs, names, sides, table, nuclei)

    def skeletons(self, box: Box) -> Skeletons:
        """The skeletons of the neurites in a box.

        Each node is in a voxel of its own neurite if `every` is 1; otherwise the voxel's section
        may be half a voxel away.

        Raises
        ------
        ValueError
            If the box is empty or extends beyond the bounds.
        """
        self._check(box)
        fine = (self.every, 1, 1)
        skeletons = skeletons_in(
            self._bits, self.bounds.zoom_in(fine), self.cell, self.nucleus, box.zoom_in(fine)
        )
        return skeletons._replace(places=skeletons.places / np.array(fine))

    def sections(self) -> Sections:
        """The shift, brightness and defects of each section of the bounds."""
        return draw_sections(
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

    def _check(self, box: Box) -> None:
        if not box.size or not self.bounds.covers(box):
            raise ValueError(f"expected a box with voxels within {self.bounds}; got {box}")

    def _tissue(self, box: Box, mitochondria: bool) -> tuple[_Tissue, Candidates | None]:
        """The contents of a box, one section in `every`, and the synapses near it, if any."""
        one_in_every = (slice(None, None, self.every), slice(None), slice(None))
        fine = (self.every, 1, 1)
        bounds, cubes = self.bounds.zoom_in(fine), box.zoom_in(fine)
        if not self.synapses:
            # Sections after the last one that is kept are not computed.
            cubes = Box(cubes.start, (cubes.stop[0] - self.every + 1, *cubes.stop[1:]))
            return self._grown(bounds, cubes, mitochondria).cut(one_in_every), None
        # A synapse needs its whole surroundings, also to decide whether it has a cleft.
        surroundings = cubes.grow(zyx(2 * cloud_radius(self.cell) + 1)).clip(bounds)
        tissue = self._grown(bounds, surroundings, mitochondria)
        candidates = candidates_near(self._bits, bounds, self.cell, self.nucleus, cubes)
        names, sides, has_cleft = place_synapses(
            candidates, tissue.truth, tissue.wall, surroundings.start, self.cell
        )
        tissue = tissue._replace(synapses=names, sides=sides).cut(cubes.within(surroundings))
        return tissue.cut(one_in_every), Candidates(*(column[has_cleft] for column in candidates))

    def _grown(self, bounds: Box, box: Box, mitochondria: bool) -> _Tissue:
        """Neurites and mitochondria in a box of cubic voxels."""
        seed, steps = self._bits, int(STEPS * self.cell)
        rim = int(RIM * self.cell)
        core = bounds.grow(zyx(-rim))
        far = steps if core.covers(box) else int(RIM_STEPS * self.cell)
        if self.nucleus:  # axes are rare around bodies, too
            far = steps = int(RIM_STEPS * self.cell)
        outer = box.grow(zyx(far)).clip(bounds)
        reach = REACH * self.cell
        axes = axes_near(seed, bounds, self.cell, self.nucleus, outer, reach + 4.0)
        lattice = lattice_of(bounds, self.cell, self.nucleus)
        centres, numbers = bodies_near(seed, lattice.bodies, outer)
        body_names = np.array([body_name(lattice.sides, number) for number in numbers], np.int64)
        names = np.unique(np.concatenate([axes.owner, body_names]))
        owner = np.searchsorted(names, axes.owner)
        tags: np.ndarray | None = None
        if mitochondria:
            organs = mitochondria_of(seed, lattice, axes)
            organs, number = np.unique(np.concatenate([[0], organs]), return_inverse=True)
            tags = number[1:].astype(np.int32)
        diagram = power_diagram(seed, axes, owner.astype(np.int32), tags, outer, reach)
        for centre, body in zip(centres, np.searchsorted(names, body_names), strict=True):
            fields = (diagram.neurite, diagram.height, diagram.wall, diagram.organ)
            add_body(np.array(outer.start), centre, lattice.bodies.radius, body, BOTTOM, *fields)
        slices = box.within(outer)
        start = np.array([part.start for part in slices])
        interior = np.array([core.start, core.stop]) - np.array(box.start)
        limits = np.array([steps, far])
        label = descend_to_cores(
            diagram.neurite, diagram.height, start, np.array(box.shape), interior, limits
        )
        truth = np.concatenate([[0], names]).astype(np.uint64)[label + 1]
        wall, organ = diagram.wall[slices], diagram.organ[slices]
        nuclei = self._nuclei(box, truth, centres, body_names) if self.nucleus else None
        if not mitochondria:
            return _Tissue(truth, wall, organ, nuclei=nuclei)
        # A voxel may belong to another neurite than the one whose axis is nearest.
        own = (organ > 0.0) & (label == diagram.neurite[slices])
        mitochondria_labels = np.where(own, organs[diagram.tag[slices]], 0).astype(np.uint64)
        return _Tissue(truth, wall, organ, mitochondria_labels, nuclei=nuclei)

    def _nuclei(
        self, box: Box, truth: np.ndarray, centres: np.ndarray, names: np.ndarray
    ) -> np.ndarray:
        """The names of the bodies within their nuclei, uint64 (z, y, x); 0 elsewhere."""
        out = np.zeros(truth.shape, np.uint64)
        for centre, name in zip(centres, names, strict=True):
            distance = distances(box, centre)
            out[(distance < self.nucleus) & (truth == name)] = name
        return out

    def _image(self, box: Box, shown: Box, tissue: _Tissue) -> np.ndarray:
        """Grey values of a box, with the shifts and defects of its sections."""
        seed = self._bits
        fine, rough = self._smooth(51, shown, 3), self._smooth(52, shown, 9)
        shade = np.empty((0, 0, 0), np.float32)
        if tissue.sides is not None:
            cubes = np.array(shown.zoom_in((self.every, 1, 1)).start)
            shade = synapse_shade(seed, cubes, tissue.sides, self.every)
        if tissue.nuclei is not None:
            shade = shade if shade.size else np.zeros(shown.shape, np.float32)
            shade += self._chromatin(shown, tissue.nuclei)
        fields = (tissue.truth, tissue.wall, tissue.organ, fine, rough, shade)
        image = grey_values(seed, np.array(shown.start), *fields, self.noise)
        if not (self.section_noise or self.drift or self.missing or self.repeated):
            return image[box.within(shown)]
        window = np.array([(part.start, part.stop) for part in box.within(shown)[1:]])
        rows = self.sections().rows(box.start[0], box.stop[0])
        return damaged(image, shown.start[0], window, rows)

    def _chromatin(self, box: Box, nuclei: np.ndarray) -> np.ndarray:
        """Grey values by which nuclei are darker, float32 (z, y, x): an envelope, and clumps."""
        fine = (self.every, 1, 1)
        cubes = box.zoom_in(fine)
        bodies = lattice_of(self.bounds.zoom_in(fine), self.cell, self.nucleus).bodies
        clumps = np.maximum(0.0, self._smooth(53, box, 7))
        out = np.where(nuclei > 0, np.float32(10.0) + np.float32(50.0) * clumps, np.float32(0.0))
        for centre in bodies_near(self._bits, bodies, cubes)[0]:
            rim = np.abs(distances(cubes, centre)[:: self.every] - self.nucleus)
            out += np.float32(60.0) * np.clip(2.0 - rim, 0.0, 1.0).astype(np.float32)
        return out

    def _affinity(self, box: Box, tissue: _Tissue) -> np.ndarray:
        """Affinities of a box; its first planes are valid only at the start of the bounds."""
        fine, rough = self._smooth(61, box, 4), self._smooth(62, box, 11)
        start = np.array(box.start)
        return synthetic_affinity(
            self._bits, start, tissue.truth, tissue.wall, fine, rough, self.doubt
        )

    def _smooth(self, salt: int, box: Box, spacing: int) -> np.ndarray:
        """A smooth field over a box of cubic voxels, one section in `every`."""
        return smooth(self._bits, salt, box.zoom_in((self.every, 1, 1)), spacing)[:: self.every]

    def _table(self, box: Box, synapses: Candidates) -> Synapses:
        """The table of the synapses whose centre is in a box."""
        fine = np.array((self.every, 1, 1))
        centres, voxels = synapses.centres / fine, np.rint(synapses.centres) // fine
        here = ((voxels >= box.start) & (voxels < box.stop)).all(axis=1)
        pre, post = (side[here].astype(np.uint64) for side in (synapses.pre, synapses.post))
        return Synapses(synapses.names[here], pre, post, centres[here])
