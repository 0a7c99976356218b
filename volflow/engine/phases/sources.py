"""The kinds of sources: volumes, records of another step, skeletons, tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import NO_GAPS, Block, Box, Gaps, Resolution
from volflow.core.stage import Columns, Grouping, HaloRegion, Phase, Record, Stage
from volflow.engine.job import Source
from volflow.engine.phases.empty_volume import is_empty
from volflow.engine.phases.step_records import records_of
from volflow.engine.phases.volume_views import ClosedVolume, MirroredVolume
from volflow.io.skeletons.placed_nodes import placed_nodes
from volflow.io.tables.read import read_table
from volflow.io.volume import Volume, open_cached

Opened: TypeAlias = Volume | MirroredVolume | ClosedVolume
"""A volume, as it is or as a step sees it."""

HALO_FACES: dict[str, tuple[bool, bool]] = {
    "faces": (True, True),
    "before": (True, False),
    "after": (False, True),
}
"""Which faces of a block a halo region includes: those before it, those after it."""


@dataclass(frozen=True)
class VolumeSource(Source):
    """A volume that a step reads.

    Attributes
    ----------
    spec : VolumeSpec
    own : bool
        Whether this run wrote the volume: then a missing chunk is an error, not zeros.
    whole : Box, optional
        In a trial, which writes only a part of its volumes: the bounds beyond that part over
        which they are read as their mirror image.
    gaps : Gaps
        Sections of a volume of another program that are not read; boxes have closed z.
    """

    spec: VolumeSpec
    own: bool = False
    whole: Box | None = None
    gaps: Gaps = NO_GAPS

    def read(
        self, run: str, phase: Phase, block: Block, region: HaloRegion, blank: bool
    ) -> np.ndarray:
        volume = self.open()
        if blank:
            return _zeros(volume, _read_box(phase, block, region))
        if region in HALO_FACES and phase.zoom == (1, 1, 1):
            return _read_boxes(volume, block, block.star(*HALO_FACES[region]))
        return volume.read(_read_box(phase, block, region))

    def open(self) -> Opened:
        """The volume, opened once for each process."""
        volume = open_cached(self.spec, self.own)
        if self.gaps:
            return ClosedVolume(volume, self.gaps)
        return volume if self.whole is None else MirroredVolume(volume, self.whole)

    def is_empty(self, bounds: Box) -> bool:
        return self.own and self.whole is None and bool(is_empty(self.open(), bounds))

    @property
    def foreign_volume(self) -> VolumeSpec | None:
        return None if self.own else self.spec

    def mirrored(self, whole: Box) -> VolumeSource:
        return replace(self, whole=whole) if self.own else self


@dataclass(frozen=True)
class RecordSource(Source):
    """The records that another step wrote, block by block, under its digest.

    With `in_halo`, those of all blocks in the read box, one after the other.
    """

    step: str
    digest: str
    output: str
    in_halo: bool = False

    def read(self, run: str, phase: Phase, block: Block, region: HaloRegion, blank: bool) -> Record:
        records = records_of(run, self.step, self.digest, self.output)
        if not self.in_halo:
            return records.read(block.index)
        parts = [records.read(index) for index in phase.grid.touching(block.read)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class SkeletonSource(Source):
    """Skeletons that a step reads, placed in the run's voxels.

    `content` is the digest of their bytes, which a worker checks; `nodes` is their number.
    `warnings` are those of the files.
    """

    path: str
    content: str
    bounds: Box
    resolution: Resolution
    nodes: int
    warnings: tuple[str, ...] = ()

    def read(self, run: str, phase: Phase, block: Block, region: HaloRegion, blank: bool) -> Record:
        return placed_nodes(self.path, self.content, self.bounds, self.resolution).near(block)


@dataclass(frozen=True)
class TableOfStep(Source):
    """The table of the whole volume that a grouping leaves.

    It is stored in the partial results of the last round's partitions. They are dealt to the blocks
    in turn, so that each row is read in one block.
    """

    step: str
    digest: str
    stage: Stage
    bounds: Box

    def read(self, run: str, phase: Phase, block: Block, region: HaloRegion, blank: bool) -> Record:
        assert isinstance(self.stage, Grouping)
        last = self.stage.rounds[-1]
        records = records_of(run, self.step, self.digest, f"found/{last}")
        number, blocks = phase.grid.number(block.index), len(phase.grid)
        own = range(number, self.stage.partitions(self.bounds), blocks)
        nothing: dict[str, list[Record]] = {name: [] for name in self.stage.rounds}
        return self.stage.table({**nothing, last: [records.read((part, 0, 0)) for part in own]})


@dataclass(frozen=True)
class TableFile(Source):
    """A table of another program, all of which the first block reads.

    `content` is the digest of its bytes, which a worker checks; `columns` are those with numbers.
    `warnings` are those of the file.
    """

    path: str
    content: str
    columns: Columns
    warnings: tuple[str, ...] = ()

    def read(self, run: str, phase: Phase, block: Block, region: HaloRegion, blank: bool) -> Record:
        if phase.grid.number(block.index):
            return {name: np.zeros(0, dtype) for name, dtype in self.columns.dtypes}
        return read_table(self.path, self.content).columns


def _read_box(phase: Phase, block: Block, region: HaloRegion) -> Box:
    return (block.write if region == "nothing" else block.read).zoom_in(phase.zoom)


def _zeros(volume: Opened, box: Box) -> np.ndarray:
    leading = (volume.channels,) if volume.channels else ()
    return np.zeros((*leading, *box.shape), volume.dtype)


def _read_boxes(volume: Opened, block: Block, boxes: Sequence[Box]) -> np.ndarray:
    """An array over the read box with the voxels of some boxes in it; 0 elsewhere."""
    array = _zeros(volume, block.read)
    for box in boxes:
        box = box.clip(volume.bounds)
        if box.size:
            volume.read(box, out=array[(..., *box.within(block.read))])
    return array
