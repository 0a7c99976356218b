"""Small chains, and the plain loop over whole slabs that it is to equal."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from volflow.core.geometry import Block, Box, Triple, zyx
from volflow.core.stage import Chain, Columns, Layer, Onward, Record, Stage

OVERLAPS = (("voxel", "int64"), ("label", "uint32"))


def cells(index: np.ndarray) -> np.ndarray:
    """Objects of a section, 1 .. N, of the toy `Index`; nothing where nothing is written."""
    covered = (index > 0) & (index.astype(np.uint64) * 2654435761 >> 29 & 7 < 4)
    labels: np.ndarray = ndimage.label(covered)[0]
    return labels


def followed(objects: np.ndarray, before: np.ndarray, fresh: int) -> tuple[np.ndarray, int]:
    """Labels of a section's objects: that of the one below with most voxels in common, or fresh."""
    names = np.zeros(objects.max() + 1, "uint32")
    for number in range(1, len(names)):
        below = before[(objects == number) & (before > 0)]
        if below.size:
            names[number] = np.bincount(below).argmax()
        else:
            names[number], fresh = fresh, fresh + 1
    return names[objects], fresh


class Follow(Chain):
    """Objects followed through the sections of `index`, and a table of those in the overlap."""

    sections_before: int = 0
    margin: int = 0
    killed_at: Triple | None = None
    killed_once: str = ""

    @property
    def halo(self) -> Triple:
        return (self.sections_before, self.margin, self.margin)

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"tracks": Layer("uint32", 0, "segmentation"), "overlaps": Columns(OVERLAPS)}

    def step(  # type: ignore[override]
        self, block: Block, state: Record | None, *, index: np.ndarray
    ) -> Onward:
        if tuple(block.index) == self.killed_at and not Path(self.killed_once).exists():
            Path(self.killed_once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        first, sides = block.read.start[0], block.read.shape[1:]
        if state is None:
            below, fresh, last = np.zeros(sides, "uint32"), 1, np.zeros((0, *sides), "uint32")
        else:
            below, fresh, last = state["below"], int(state["fresh"][0]), state["last"]
        context = index[[z - first for z in self.context(block)]]
        np.testing.assert_array_equal(context, last)
        tracks, beyond = np.zeros(block.read.shape, "uint32"), []
        for z in self.sections(block):
            below, fresh = followed(cells(index[z - first]), below, fresh)
            tracks[z - first] = below
            if not block.write.start[0] <= z < block.write.stop[0]:
                beyond.append(rows(below, z, block.read.start, block.bounds))
        last = np.concatenate([last, index[[z - first for z in self.sections(block)]]])
        last = last[max(0, len(last) - self.sections_before) :]
        state = {"below": below, "fresh": np.array([fresh]), "last": last}
        return Onward({"tracks": tracks, "overlaps": joined(beyond)}, state)


class Careless(Follow):
    """Returns something that cannot be a part's outcome."""

    lie: str = "onward"

    def step(self, block: Block, state: Record | None, *, index: np.ndarray) -> Any:  # type: ignore[override]
        onward = super().step(block, None, index=index)
        lies: dict[str, Any] = {
            "onward": tuple(onward),
            "state": onward._replace(state=[1]),
            "column": onward._replace(state={"names": np.array(["a", None], object)}),
            "output": onward._replace(outputs={}),
        }
        return lies[self.lie]


class CountRows(Stage):
    """Counts the rows of the overlaps of each block."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"rows": Layer("uint32", 0, "image")}

    def run(self, block: Block, *, overlaps: Record) -> dict[str, Any]:  # type: ignore[override]
        return {"rows": np.full(block.write.shape, len(overlaps["voxel"]), "uint32")}


def rows(labels: np.ndarray, z: int, start: Triple, bounds: Box) -> tuple[np.ndarray, np.ndarray]:
    """The voxels of a section with a label, by their index within the bounds, and their labels.

    `start` is the place of the section's first voxel; voxels outside the bounds are left out.
    """
    y, x = np.nonzero(labels)
    label = labels[y, x]
    _, height, width = bounds.shape
    y, x = y + start[1] - bounds.start[1], x + start[2] - bounds.start[2]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    voxel = ((z - bounds.start[0]) * height + y) * width + x
    return voxel[inside].astype("int64"), label[inside]


def joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> Record:
    """The table of the overlaps from its sections."""
    empty = np.zeros(0, "int64"), np.zeros(0, "uint32")
    voxels, labels = zip(empty, *parts, strict=True)
    return {"voxel": np.concatenate(voxels), "label": np.concatenate(labels)}


Rows = list[tuple[int, int]]


def plain_loop(stage: Follow, index: np.ndarray, bounds: Box) -> tuple[np.ndarray, Rows]:
    """The tracks, and the sorted rows of all overlaps, by a loop over slabs, tiles and sections."""
    tracks, table = np.zeros(bounds.shape, "uint32"), []
    depth, height, width = bounds.shape
    slab, margin = stage.slab or depth, stage.margin
    tile_y, tile_x = stage.tile or (height, width)
    padded = np.pad(index, ((0, 0), (margin, margin), (margin, margin)))
    places = itertools.product(
        range(0, depth, slab), range(0, height, tile_y), range(0, width, tile_x)
    )
    for z0, y0, x0 in places:
        z1, y1, x1 = min(z0 + slab, depth), min(y0 + tile_y, height), min(x0 + tile_x, width)
        order = [*range(z0, min(z1 + stage.slab_overlap, depth))]
        if stage.reverse:
            order = [*range(max(z0 - stage.slab_overlap, 0), z1)][::-1]
        below, fresh = np.zeros((y1 - y0 + 2 * margin, x1 - x0 + 2 * margin), "uint32"), 1
        for z in order:
            seen = padded[z, y0 : y1 + 2 * margin, x0 : x1 + 2 * margin]
            below, fresh = followed(cells(seen), below, fresh)
            if z0 <= z < z1:
                inner = below[margin : margin + y1 - y0, margin : margin + x1 - x0]
                tracks[z, y0:y1, x0:x1] = inner
            else:
                start = bounds.start + zyx((z, y0 - margin, x0 - margin))
                voxels, labels = rows(below, start[0], start, bounds)
                table += zip(voxels.tolist(), labels.tolist(), strict=True)
    return tracks, sorted(table)
