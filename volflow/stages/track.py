"""The `track` stage: objects followed from section to section."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PrivateAttr, model_validator

from volflow.checkpoints.section_header import SectionHeader
from volflow.core.geometry import Block, BlockGrid, Box, Triple
from volflow.core.stage import AREA, Chain, Columns, Layer, Onward, Record
from volflow.stages.followers import (
    DETECTOR,
    input_range,
    make_detector,
    make_follower,
    marks_objects,
    memory_of,
    missing_types,
    network_header,
    network_problems,
)
from volflow.track.cells import Cell, cells_of_points, cells_outside, read_cells
from volflow.track.cells_result import cell_warnings, cells_result
from volflow.track.detection.box_seeds import Boxed
from volflow.track.detection.by_detection import BoxTracker
from volflow.track.follower import Follower, Section
from volflow.track.loop import Rules, Tracker
from volflow.track.part import Followed, Place, follow_part, link_part
from volflow.track.seams import ROWS
from volflow.track.seeds import Seed
from volflow.track.volume_sections import (
    Chosen,
    EverySegment,
    NamedAlike,
    Painted,
    Segments,
    Stained,
    VolumeSections,
)

Count = Annotated[int, Field(ge=1)]
Seeding = Callable[[int, Section, np.ndarray], list[Seed]]

log = logging.getLogger(__name__)

BYTES_PER_VOXEL = 20  # labels, their copies and chunks, without the inputs
INPUT_BYTES = {
    **{"em": 1, "affinity": 3, "mitochondria": 1, "clefts": 1},
    **{"other_way": 8, "seeds": 8, "stain": 4},  # of a stain: 1 to 8
}
"""Bytes per voxel of each input that is connected."""
BYTES_PER_PIXEL = 160  # of a section; measured: 63 with few objects, 176 where they are everywhere
NETWORK_BYTES = 200 << 20, 640  # of a process, and per pixel; measured: the light one, memory 4


class Track(Chain):
    """Objects of `em` followed from section to section, forward or, with `reverse`, backward.

    Without chosen cells, every segment of the affinities in the first section of a slab starts a
    track, and so does each one later on that no track has claimed. Cells are chosen by `points`,
    by a CSV file (`cells`), by painted labels (`seeds`), or by a `stain`; then only they are
    followed, in whole sections and in one slab.

    Inputs
    ------
    em : uint8, (Z, Y, X), optional
        The image; networks need it.
    affinity : uint8, (3, Z, Y, X), optional
        `round(255 p)`; `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.
        Needed for seeds, except `seeds` and `stain`.
    mitochondria, clefts : uint8, (Z, Y, X), optional
        `round(255 p)`; used by networks that were trained with them.
    seeds : integers, (Z, Y, X), optional
        Painted labels: each begins where it first occurs, and keeps its number.
    stain : integers, (Z, Y, X), optional
        Not 0 in stained cells: each connected component of a section begins a track.
    other_way : uint64, (Z, Y, X), optional
        Labels of the same cells in the other direction. They are written where they are not 0, and
        a seed gets the label that it has there.
    quantiles : table, optional
        Quantiles of the image, from the stage `intensity` on blocks of the same shape (`part`,
        `tile`); for networks that were trained on images normalised by quantiles.

    Outputs
    -------
    tracks : uint64, (Z, Y, X)
        0 is background. The label of a track is 1 + the C-order index, within the bounds, of the
        first voxel of it that is written; with `reverse`, the voxels of the volume are added.
        Chosen cells have the labels that they were given.
    beyond : table
        Labels in the margin of the tile and in the next slab, for `link_tracks`.
    cells : table
        Each chosen cell that begins in a part, as `cell`, and `label`: its own; that of the cell in
        which it is; or 0, if no object is there.

    References
    ----------
    II-CATS (Zhai et al., MIDL 2023), the loop of inference; see `docs/iicats.md`.
    """

    version: ClassVar[int] = 2
    pool: ClassVar[str] = "gpu"
    anchored: ClassVar[bool] = True
    wants: ClassVar[dict[str, Layer]] = {
        "em": Layer("uint8", 0, "image"),
        "affinity": Layer("uint8", 3, "affinity"),
        "mitochondria": Layer("uint8", 0),
        "clefts": Layer("uint8", 0),
        "seeds": Layer(kind="segmentation", channels=0, not_empty=True),
        "stain": Layer(channels=0, not_empty=True),
        "other_way": Layer("uint64", 0, "segmentation"),
    }

    follower: str = "affinity"
    """`affinity`: the affinities' segments under the last mask; `same`: the last mask again; or the
    name of a bundled network, or the path of a checkpoint of your own."""
    detector: str | None = None
    """Name of a bundled detector, or path of a checkpoint: its boxes start tracks, with the masks
    that a network follower has of boxes, instead of the segments of the affinities."""
    linked: Literal["masks", "boxes"] = "masks"
    """What an object is continued by: `masks`, which the follower carries from section to section,
    or `boxes` and embeddings of the detector, linked; then each box becomes a mask by itself (the
    variant TS of the paper)."""
    types: tuple[Literal["p", "d", "m", "syn"], ...] | None = None
    """Types of support that a network uses, of its own masks (p), affinities (d), mitochondria (m)
    and clefts (syn); default: all that it has. What is not among the inputs is left out."""
    additions: bool = True
    """Whether a network gets previous masks and affinities as plain inputs, too, which are ours;
    false: as in the paper, of a network that was trained with both and without."""
    range: tuple[float, float] | None = None
    """The intensities [LOW, HIGH] that are mapped to the ends of a network's input range; default:
    those of its training."""
    voxel_tolerance: Annotated[float, Field(ge=0)] = 0.2
    """Largest relative difference between the voxel size and that of a network's training, per
    axis; 0.2 is 20 %."""
    threads: Count = 1
    """Threads of a network per worker; another number gives other bytes."""
    slab_overlap: Annotated[int, Field(ge=0)] = 8
    """Sections of the next slab that a chain labels, too, for `link_tracks`."""
    margin: Annotated[int, Field(ge=0)] = 32
    """Voxels around a tile that a chain labels, too, for `link_tracks`."""
    points: tuple[tuple[int, int, int], ...] = ()
    """Cells to follow: a point z y x of each, in voxels of the volume; labels are 1, 2, ..."""
    cells: str | None = None
    """Path of a CSV file with a cell to follow in each row: z, y, x, or z, y0, x0, y1, x1 of a box
    whose ends are excluded; optional `id`, its label."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Mean affinity of a contact within a section, 0 to 1, below which segments do not merge."""
    low: Annotated[int, Field(ge=0, le=255)] = 1
    """Affinity, 0 to 255; pixels whose strongest affinity within the section is below this belong
    to no segment."""
    min_area: Annotated[int, Field(ge=1), AREA] = 30
    """Smallest area of an object in a section, in pixels or in units."""
    patience: Count = 2
    """Sections in a row without the object after which its track ends."""
    claimed: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Largest share of a segment, 0 to 1, that belongs to tracks if it starts a new one."""
    reach: Annotated[int, Field(ge=0)] = 16
    """Pixels around the last mask in which an object is searched."""

    _cells: tuple[Cell, ...] = PrivateAttr(())
    _header: SectionHeader | None = PrivateAttr(None)
    _detector: SectionHeader | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _find(self) -> Track:
        self._header = network_header(self.follower)
        self._detector = network_header(self.detector, DETECTOR, "detector")
        if self.detector is not None and self._header is None:
            raise ValueError("detector: expected a network as follower, for the masks of boxes")
        if self.linked == "boxes" and self.detector is None:
            raise ValueError("linked: boxes; expected a detector")
        if self._header is not None and not marks_objects(self._header, self.types, self.additions):
            raise ValueError(
                f"types, additions: nothing marks an object for '{self.follower}'; expected "
                f"additions: true, or type p"
            )
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"range: expected [LOW, HIGH] with LOW below HIGH; got {self.range}")
        return self

    @model_validator(mode="after")
    def _read_cells(self) -> Track:
        if self.points and self.cells is not None:
            raise ValueError("points and cells: expected one of them")
        self._cells = cells_of_points(self.points)
        if self.cells is not None:
            try:
                self._cells = read_cells(Path(self.cells).expanduser().read_text("utf-8-sig"))
            except (OSError, ValueError) as error:
                raise ValueError(f"cells: {self.cells}: {error}") from error
        return self

    def identity(self) -> dict[str, Any]:
        excluded = {"cells", "points", "follower", "detector", "voxel_tolerance"}
        dumped = self.model_dump(mode="json", exclude=excluded)
        chosen = [[cell.id, cell.z, *cell.box] for cell in self._cells]
        if self._header is None:
            return {**dumped, "follower": self.follower, "chosen": chosen}
        networks = [
            header.model_dump(mode="json", exclude={"card", "voxel_size_nm"})
            for header in (self._header, self._detector)
            if header is not None
        ]
        return {**dumped, "networks": networks, "chosen": chosen}

    @property
    def halo(self) -> Triple:
        margin = self.margin if self.tile else 0
        return (memory_of(self._header), margin, margin)

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {
            "tracks": Layer("uint64", 0, "segmentation"),
            "beyond": Columns(ROWS),
            "cells": Columns((("cell", "uint64"), ("label", "uint64"))),
        }

    def memory(self, shape: Triple) -> int:
        return self.part_memory(shape, ("em", "affinity"))

    def part_memory(self, shape: Triple, inputs: Collection[str]) -> int:
        base, per_pixel = NETWORK_BYTES if self._header is not None else (0, BYTES_PER_PIXEL)
        per_voxel = BYTES_PER_VOXEL + sum(INPUT_BYTES.get(name, 0) for name in inputs)
        return base + per_voxel * int(np.prod(shape)) + per_pixel * shape[1] * shape[2]

    def check(self, grid: BlockGrid) -> list[str]:
        problems = super().check(grid) + list(cells_outside(self._cells, grid.whole))
        return problems + (list(self._in_one_piece("points and cells")) if self._cells else [])

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        problems = []
        chosen = [name for name in ("seeds", "stain") if name in inputs]
        chosen += ["points" if self.points else "cells"] if self._cells else []
        if len(chosen) > 1:
            problems.append(f"expected one kind of chosen cells; got {' and '.join(chosen)}")
        if self._needs_affinity(chosen) and "affinity" not in inputs:
            problems.append("affinity: missing; it is needed for seeds and by follower: affinity")
        if chosen and self.linked == "boxes":
            problems.append(
                f"linked: boxes are of all objects; expected masks to follow {chosen[0]}"
            )
        problems += self._in_one_piece(chosen[0]) if chosen and not self._cells else []
        if "em" not in inputs and (self._header is not None or "affinity" not in inputs):
            problems.append("em: missing; expected an image, or affinities and no network")
        if self._header is not None:
            ranged = self.range is not None or "quantiles" in inputs
            options = resolution, self.voxel_tolerance, ranged
            problems += network_problems(
                f"follower: network '{self.follower}'", self._header, *options
            )
            if self._detector is not None:
                problems += network_problems(
                    f"detector: network '{self.detector}'", self._detector, *options
                )
            for name in missing_types(self._header, self.types, inputs):
                log.warning("track: there is no '%s'; '%s' does without", name, self.follower)
        return problems

    @property
    def names_sections(self) -> bool:
        return bool(self._cells)

    def result_tables(self, inputs: Collection[str]) -> tuple[str, ...]:
        return ("cells",) if self._cells or "seeds" in inputs else ()

    def result(self, tables: Mapping[str, Record]) -> dict[str, Any]:
        return cells_result(tables["cells"]["cell"], tables["cells"]["label"])

    def warnings(self, result: Mapping[str, Any]) -> list[str]:
        return list(cell_warnings(self._cells, result))

    def _needs_affinity(self, chosen: list[str]) -> bool:
        by_segments = not {"seeds", "stain"} & set(chosen) and self.detector is None
        return self.follower == "affinity" or by_segments

    def _in_one_piece(self, chosen: str) -> Iterator[str]:
        if self.tile or self.slab:
            yield f"slab, tile: {chosen} are followed in one slab of whole sections; leave both out"

    def step(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        state: Record | None,
        *,
        em: np.ndarray | None = None,
        affinity: np.ndarray | None = None,
        mitochondria: np.ndarray | None = None,
        clefts: np.ndarray | None = None,
        seeds: np.ndarray | None = None,
        stain: np.ndarray | None = None,
        other_way: np.ndarray | None = None,
        quantiles: Record | None = None,
    ) -> Onward:
        place = self._place(block)
        inside = place.read.within(block.read)
        offline = {"d": affinity, "m": _channel(mitochondria), "syn": _channel(clefts)}
        segments = Segments(self.threshold, self.low)
        follower = self._follower(segments, quantiles)
        if self.linked == "boxes":
            return self._linked(block, state, follower, em, offline, quantiles)
        tracker = Tracker.resumed(follower, self._rules, state)
        chosen = _part(seeds, inside), _part(stain, inside), quantiles
        seeding = self._seeding(tracker, segments, place.read, *chosen)
        if other_way is not None:
            seeding = NamedAlike(seeding, other_way[inside], place.read.start[0])
        sections = self._sections(place, block, em, offline, seeding)
        followed = follow_part(tracker, sections, place)
        self._check_seeds(block, tracker, seeds is not None, stain is not None)
        names = self._cell_names(block, seeds)
        return Onward(self._outputs(block, followed, seeding, other_way, names), tracker.state())

    def _linked(
        self,
        block: Block,
        state: Record | None,
        follower: Follower,
        em: np.ndarray | None,
        offline: Mapping[str, np.ndarray | None],
        quantiles: Record | None,
    ) -> Onward:
        """A part of the variant TS: boxes of every section, linked."""
        assert self.detector is not None
        assert self._detector is not None
        ends = input_range(self._detector, self.range, quantiles)
        detect = make_detector(self.detector, self._detector, ends)
        tracker = BoxTracker.resumed(detect, follower, state)
        place = self._place(block)
        sections = self._sections(place, block, em, offline, nothing)
        followed = link_part(tracker, sections, place)
        return Onward(self._outputs(block, followed, nothing, None, []), tracker.state())

    def _sections(
        self,
        place: Place,
        block: Block,
        em: np.ndarray | None,
        offline: Mapping[str, np.ndarray | None],
        begin: Seeding,
    ) -> VolumeSections:
        inside = place.read.within(block.read)
        known = {
            name: array[(..., *inside)] for name, array in offline.items() if array is not None
        }
        return VolumeSections(place.read, _part(em, inside), known, back=self.reverse, begin=begin)

    @property
    def _rules(self) -> Rules:
        return Rules(self.min_area, self.patience, self.claimed, self.reach)

    def _follower(self, segments: Segments, quantiles: Record | None) -> Follower:
        return make_follower(
            self.follower,
            self._header,
            segments,
            types=self.types,
            additions=self.additions,
            intensity=input_range(self._header, self.range, quantiles),
            threads=self.threads,
        )

    def _place(self, block: Block) -> Place:
        slab, tile = self.slab or max(block.bounds.shape[0], 1), self.tile or block.bounds.shape[1:]
        grid = BlockGrid(block.bounds, (slab, *tile))
        read = block.read.clip(block.bounds)
        return Place(
            read=read,
            write=block.write,
            bounds=block.bounds,
            order=self.sections(block),
            context=self.context(block),
            run=grid.number(grid.touching(block.write)[0]) + len(grid) * self.reverse,
            back=self.reverse,
        )

    def _seeding(
        self,
        tracker: Tracker,
        segments: Segments,
        box: Box,
        seeds: np.ndarray | None,
        stain: np.ndarray | None,
        quantiles: Record | None,
    ) -> Seeding:
        if self._cells:
            return Chosen(self._cells, (box.start[1], box.start[2]), segments, tracker)
        if seeds is not None:
            return Painted(seeds, box.start[0])
        if stain is not None:
            return Stained(stain, box.start[0], self._rules)
        if self.detector is not None and self._detector is not None:
            ends = input_range(self._detector, self.range, quantiles)
            return Boxed(make_detector(self.detector, self._detector, ends), tracker)
        return EverySegment(segments, self._rules)

    def _check_seeds(self, block: Block, tracker: Tracker, painted: bool, stained: bool) -> None:
        """Raise an error at the end of a chain that was to follow something, and found nothing."""
        last = self.sections(block)[-1]
        end = block.bounds.start[0] if self.reverse else block.bounds.stop[0] - 1
        if last == end and not tracker.born and (painted or stained):
            name = "seeds" if painted else "stain"
            raise ValueError(
                f"{name}: no section of {block.bounds} has an object of at least {self.min_area} "
                f"pixels (min_area); expected voxels that are not 0"
            )

    def _cell_names(self, block: Block, seeds: np.ndarray | None) -> list[int]:
        """The chosen cells that a part has a place of, or the labels painted in it."""
        if seeds is not None:
            return [int(name) for name in np.unique(block.crop(seeds)) if name]
        sections = range(block.write.start[0], block.write.stop[0])
        return [cell.id for cell in self._cells if cell.z in sections]

    def _outputs(
        self,
        block: Block,
        followed: Followed,
        seeding: Seeding,
        other_way: np.ndarray | None,
        started: list[int],
    ) -> dict[str, np.ndarray | Record]:
        labels = followed.labels
        if other_way is not None:
            other = block.crop(other_way)
            np.copyto(labels, other, where=other != 0)
        renamed = seeding.names if isinstance(seeding, NamedAlike) else {}
        names = [followed.taken.get(renamed.get(cell, cell), 0) for cell in started]
        cells = {"cell": np.array(started, np.uint64), "label": np.array(names, np.uint64)}
        return {"tracks": labels, "beyond": followed.beyond, "cells": cells}


def nothing(z: int, section: Section, keys: np.ndarray) -> list[Seed]:
    """No seeds."""
    return []


def _part(array: np.ndarray | None, inside: tuple[slice, slice, slice]) -> np.ndarray | None:
    return None if array is None else array[(..., *inside)]


def _channel(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else array[None]
