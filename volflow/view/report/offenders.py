"""The worst errors in the results of a scoring, of whichever step, as one kind of row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from volflow.core.geometry import Box, zyx
from volflow.errors import StorageError
from volflow.io.volume import Volume
from volflow.view.report.detections import detections

Point = tuple[float, float, float]
Results = Mapping[str, Mapping[str, Any]]

SEARCHED = (12, 48, 96)  # voxels around a centre of mass in which a part's own voxel is looked for
MEETING = ((40, 1), (120, 4))  # voxels around a part in which it is looked for; every how many


@dataclass(frozen=True)
class Part:
    """One of the pieces of an error.

    Attributes
    ----------
    ids : mapping of str to int
        Its labels, by the volume (`segmentation`, `truth`, `skeletons`, `found_clefts`,
        `true_clefts`) in which they are; none where they are not known.
    size : float
        In `unit`: voxels or nm; 0 where it has none.
    position : 3 float
        Voxels, z y x.
    """

    ids: Mapping[str, int]
    size: float
    unit: str
    position: Point


@dataclass(frozen=True)
class Offender:
    """An error, with the largest of its parts.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    rank : int
        1: the worst of its kind.
    label : int
        The segment, truth label, skeleton, cleft or line of a table that is wrong.
    size : float
        What it costs, in `unit`: bits of VI, nm of run length, or voxels.
    others : int
        How many parts it has, also those that are not told.
    parts : tuple of Part
    place : 3 float
        Where to look, in voxels z y x: at the second part, the largest that should not be there;
        once it is `placed`, where that comes closest to the first.
    note : str
        What else is to be known of it.
    """

    kind: str
    rank: int
    label: int
    size: float
    unit: str
    others: int
    parts: tuple[Part, ...]
    place: Point
    note: str = ""

    @property
    def name(self) -> str:
        """What its link is called: `merger-3`."""
        return f"{self.kind.replace(' ', '-')}-{self.rank}"

    def ids(self, part: Part | None = None) -> dict[str, tuple[int, ...]]:
        """The labels to look at, by volume: those of a part, or of the two largest."""
        shown = self.parts[:2] if part is None else (part,)
        found: dict[str, dict[int, None]] = {}
        for each in shown:
            for volume, label in each.ids.items():
                found.setdefault(volume, {})[label] = None
        return {volume: tuple(labels) for volume, labels in found.items()}


KINDS = {
    "merger": "Segments that merge objects",
    "split": "Objects that are split",
    "skeleton merger": "Segments that merge skeletons",
    "skeleton split": "Skeletons that are split",
    "missed partners": "Synaptic partners that were missed",
    "spurious partners": "Synaptic partners that are not there",
    "missed cleft": "Clefts that were missed",
    "spurious cleft": "Clefts that are not there",
}
SIDES = {"false_negatives": "missed", "false_positives": "spurious"}  # in results, and here


def offenders(results: Results, resolution: Point) -> list[Offender]:
    """The worst errors of all steps, by kind, the worst first.

    Parameters
    ----------
    results : mapping
        JSON results by step; those that tell of no errors are passed over.
    resolution : 3 float
        Nanometres per voxel, z y x: errors of skeletons are placed in nm.
    """
    found: list[Offender] = []
    for result in results.values():
        worst = result.get("worst")
        if isinstance(worst, Mapping):
            found += _of_voxels("merger", worst.get("mergers", ()))
            found += _of_voxels("split", worst.get("splits", ()))
        if "erl" in result:
            found += _merged_skeletons(result.get("worst_merges", ()), resolution)
            found += _split_skeletons(result.get("worst_splits", ()), resolution)
        for detected in detections(result):
            if detected.key == "":
                found += _partners(result.get("errors", {}), resolution)
            elif detected.key == "overlap":
                found += _clefts(result.get("errors", {}), resolution)
    return found


def _of_voxels(kind: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Offender]:
    """Rows of `score`: a merger is a segment over several truths, a split the other way round."""
    whole, other, bits = (
        ("segment", "truth", "merge_bits")
        if kind == "merger"
        else ("truth", "segment", "split_bits")
    )
    volumes = {"segment": "segmentation", "truth": "truth"}
    for rank, row in enumerate(rows, 1):
        parts = tuple(
            Part(
                {volumes[whole]: int(row[whole]), volumes[other]: int(part[other])},
                float(part["voxels"]),
                "voxels",
                _point(part["position"]),
            )
            for part in row["parts"]
        )
        if parts:
            others = int(row.get(f"{other}s", len(parts)))
            place = parts[:2][-1].position
            label, size = int(row[whole]), float(row[bits])
            yield Offender(kind, rank, label, size, "bits", others, parts, place)


def _merged_skeletons(rows: Sequence[Mapping[str, Any]], resolution: Point) -> Iterator[Offender]:
    """Segments that hold several skeletons, with the run of all but the longest."""
    for rank, row in enumerate(rows, 1):
        segment = int(row["label"])
        parts = tuple(
            Part(
                {"segmentation": segment, "skeletons": int(part["name"])},
                float(part["length_nm"]),
                "nm",
                _voxels(part["position_nm"], resolution),
            )
            for part in row["skeletons"]
        )
        if parts:
            size, place = float(row["length_nm"]), parts[:2][-1].position
            note = "" if row.get("counted", True) else "tolerated"
            yield Offender(
                "skeleton merger", rank, segment, size, "nm", len(parts), parts, place, note
            )


def _split_skeletons(rows: Sequence[Mapping[str, Any]], resolution: Point) -> Iterator[Offender]:
    """Edges between two segments, with the shorter of the two runs that they part."""
    for rank, row in enumerate(rows, 1):
        name, size = int(row["skeleton"]), float(row["length_nm"])
        place = _voxels(row["position_nm"], resolution)
        parts = tuple(
            Part({"segmentation": int(segment), "skeletons": name}, 0.0, "nm", place)
            for segment in row["labels"]
        )
        yield Offender("skeleton split", rank, name, size, "nm", len(parts), parts, place)


def _partners(
    errors: Mapping[str, Sequence[Mapping[str, Any]]], resolution: Point
) -> Iterator[Offender]:
    """Pairs of one table without a counterpart in the other, with both of their sites."""
    for side, word in SIDES.items():
        for rank, row in enumerate(errors.get(side, ()), 1):
            parts = tuple(
                Part(
                    {"truth": int(row[f"{end}_neuron"])} if f"{end}_neuron" in row else {},
                    0.0,
                    "nm",
                    _voxels(row[end], resolution),
                )
                for end in ("pre", "post")
            )
            length = float(np.linalg.norm(np.subtract(row["pre"], row["post"])))
            note, line = f"{length:,.0f} nm from end to end", int(row["line"])
            kind, place = f"{word} partners", parts[0].position
            yield Offender(kind, rank, line, 0.0, "", len(parts), parts, place, note)


def _clefts(
    errors: Mapping[str, Sequence[Mapping[str, Any]]], resolution: Point
) -> Iterator[Offender]:
    """Clefts of one volume that share no voxel with their own one of the other."""
    volumes = {"false_negatives": "true_clefts", "false_positives": "found_clefts"}
    for side, word in SIDES.items():
        for rank, row in enumerate(errors.get(side, ()), 1):
            label, size = int(row["label"]), float(row["voxels"])
            middle = zip(row["position"], resolution, strict=True)
            place = _point([nm / side_nm - 0.5 for nm, side_nm in middle])
            part = Part({volumes[side]: label}, size, "voxels", place)
            yield Offender(f"{word} cleft", rank, label, size, "voxels", 1, (part,), place)


def _point(values: Sequence[float]) -> Point:
    z, y, x = (float(value) for value in values)
    return (z, y, x)


def _voxels(nanometres: Sequence[float], resolution: Point) -> Point:
    """The voxel that is nearest to a place; skeletons have voxel i at i times its side."""
    return _point([np.floor(n / r + 0.5) for n, r in zip(nanometres, resolution, strict=True)])


# --- from a centre of mass to a voxel -------------------------------------------------------------


def placed(found: Sequence[Offender], volumes: Mapping[str, Volume]) -> list[Offender]:
    """The errors with every part on a voxel of its own, and their place where two parts meet.

    A centre of mass lies outside of what is bent, and a link to it would show nothing. The part's
    voxel that is nearest to it takes its place, where one is within `SEARCHED` voxels. An error
    is looked at where its second part comes closest to the first, if that is within `MEETING`.

    Parameters
    ----------
    found : sequence of Offender
    volumes : mapping of str to Volume
        Opened `segmentation` and `truth`; errors whose ids are in others are left as they are.
    """
    return [_placed(each, volumes) if _known(each, volumes) else each for each in found]


def _known(each: Offender, volumes: Mapping[str, Volume]) -> bool:
    parts = each.parts
    return all(part.unit == "voxels" and set(part.ids) <= set(volumes) for part in parts)


def _placed(each: Offender, volumes: Mapping[str, Volume]) -> Offender:
    try:
        parts = tuple(_on_itself(part, volumes) for part in each.parts)
        place = parts[:2][-1].position
        if len(parts) > 1:
            place = _meeting(parts[0], parts[1], volumes)
        return replace(each, parts=parts, place=place)
    except StorageError:  # a chunk is lost; the places are only less good
        return each


def _on_itself(part: Part, volumes: Mapping[str, Volume]) -> Part:
    """The part with the nearest of its voxels for its position."""
    for radius in SEARCHED:
        box = _around(part.position, radius, volumes)
        own = np.argwhere(_inside([part], box, volumes)[0])
        if len(own):
            away = np.square(own + box.start - np.array(part.position)).sum(axis=1)
            return replace(part, position=_point(own[int(np.argmin(away))] + box.start))
    return part


def _meeting(one: Part, other: Part, volumes: Mapping[str, Volume]) -> Point:
    """The voxel of `other` that is nearest to `one`; its position where they are far apart."""
    for radius, every in MEETING:
        box = _around(other.position, radius, volumes)
        first, second = _inside([one, other], box, volumes)
        first, second = (mask[::every, ::every, ::every] for mask in (first, second))
        if first.any() and second.any():
            sides = next(iter(volumes.values())).resolution or (1.0, 1.0, 1.0)
            away = np.where(second, distance_transform_edt(~first, sampling=sides), np.inf)
            at = np.unravel_index(int(np.argmin(away)), away.shape)
            return _point([a + every * int(n) for a, n in zip(box.start, at, strict=True)])
    return other.position


def _around(position: Point, radius: int, volumes: Mapping[str, Volume]) -> Box:
    start = [int(np.floor(value)) - radius for value in position]
    box = Box(zyx(start), zyx([side + 2 * radius + 1 for side in start]))
    for volume in volumes.values():
        box = box.clip(volume.bounds)
    return box


def _inside(parts: Sequence[Part], box: Box, volumes: Mapping[str, Volume]) -> list[np.ndarray]:
    """Where each of the parts has its voxels."""
    arrays = {name: volumes[name].read(box) for name in parts[0].ids}
    return [
        np.logical_and.reduce([arrays[name] == label for name, label in part.ids.items()])
        for part in parts
    ]
