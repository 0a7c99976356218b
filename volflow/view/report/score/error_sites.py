"""The worst errors in the results of all scoring steps, with their positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from volflow.core.geometry import Box, zyx
from volflow.errors import StorageError
from volflow.io.volume import Volume
from volflow.view.report.score.detections import detections

Point = tuple[float, float, float]
Results = Mapping[str, Mapping[str, Any]]

SEARCH_RADII = (12, 48, 96)  # voxels around a centre of mass, searched for a voxel of the part
CONTACT_SEARCH = ((40, 1), (120, 4))  # radius in voxels around a part, and stride


@dataclass(frozen=True)
class ErrorPart:
    """One of the objects that an error involves.

    Attributes
    ----------
    ids : mapping of str to int
        Its labels, by the volume (`segmentation`, `truth`, `skeletons`, `found_clefts`,
        `true_clefts`) they belong to; empty if unknown.
    size : float
        In `unit`: voxels or nm; 0 if it has none.
    position : 3 float
        Voxels, z y x.
    """

    ids: Mapping[str, int]
    size: float
    unit: str
    position: Point


@dataclass(frozen=True)
class ErrorSite:
    """An error, its largest parts, and where to look at it.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    rank : int
        1 for the worst of its kind.
    label : int
        The segment, truth label, skeleton, cleft or table line that is wrong.
    size : float
        Its cost in `unit`: bits of VI, nm of run length, or voxels.
    others : int
        Total number of parts, including those that are not in `parts`.
    parts : tuple of ErrorPart
    place : 3 float
        Where to look, in voxels z y x: at the second part, the largest one that does not belong
        there; after `locate`, the point where it comes closest to the first part.
    note : str
        A remark.
    """

    kind: str
    rank: int
    label: int
    size: float
    unit: str
    others: int
    parts: tuple[ErrorPart, ...]
    place: Point
    note: str = ""

    @property
    def name(self) -> str:
        """The name of its link, such as `merger-3`."""
        return f"{self.kind.replace(' ', '-')}-{self.rank}"

    def ids(self, part: ErrorPart | None = None) -> dict[str, tuple[int, ...]]:
        """The labels to show, by volume: those of a part, or of the two largest parts."""
        shown = self.parts[:2] if part is None else (part,)
        by_volume: dict[str, dict[int, None]] = {}
        for each in shown:
            for volume, label in each.ids.items():
                by_volume.setdefault(volume, {})[label] = None
        return {volume: tuple(labels) for volume, labels in by_volume.items()}


KINDS = {
    "merger": "Segments that merge objects",
    "split": "Objects that are split",
    "skeleton merger": "Segments that merge skeletons",
    "skeleton split": "Skeletons that are split",
    "missed partners": "Missed synaptic partners",
    "spurious partners": "False synaptic partners",
    "missed cleft": "Missed clefts",
    "spurious cleft": "False clefts",
}
SIDES = {"false_negatives": "missed", "false_positives": "spurious"}  # key of a result, our word


def worst_errors(results: Results, resolution: Point) -> list[ErrorSite]:
    """The worst errors of all steps, by kind, the worst first.

    Parameters
    ----------
    results : mapping
        JSON results by step; those without errors are skipped.
    resolution : 3 float
        Nanometres per voxel, z y x: positions of skeleton errors are stored in nm.
    """
    sites: list[ErrorSite] = []
    for result in results.values():
        worst = result.get("worst")
        if isinstance(worst, Mapping):
            sites += _voxel_errors("merger", worst.get("mergers", ()))
            sites += _voxel_errors("split", worst.get("splits", ()))
        if "erl" in result:
            sites += _merged_skeletons(result.get("worst_merges", ()), resolution)
            sites += _split_skeletons(result.get("worst_splits", ()), resolution)
        for detected in detections(result):
            if detected.key == "":
                sites += _partners(result.get("errors", {}), resolution)
            elif detected.key == "overlap":
                sites += _clefts(result.get("errors", {}), resolution)
    return sites


def _voxel_errors(kind: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[ErrorSite]:
    """Rows of `score`: a merger is a segment that covers several objects, a split the reverse."""
    whole, other, bits = (
        ("segment", "truth", "merge_bits")
        if kind == "merger"
        else ("truth", "segment", "split_bits")
    )
    volumes = {"segment": "segmentation", "truth": "truth"}
    for rank, row in enumerate(rows, 1):
        parts = tuple(
            ErrorPart(
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
            yield ErrorSite(kind, rank, label, size, "bits", others, parts, place)


def _merged_skeletons(rows: Sequence[Mapping[str, Any]], resolution: Point) -> Iterator[ErrorSite]:
    """Segments with several skeletons; the cost is the run length of all but the longest."""
    for rank, row in enumerate(rows, 1):
        segment = int(row["label"])
        parts = tuple(
            ErrorPart(
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
            yield ErrorSite(
                "skeleton merger", rank, segment, size, "nm", len(parts), parts, place, note
            )


def _split_skeletons(rows: Sequence[Mapping[str, Any]], resolution: Point) -> Iterator[ErrorSite]:
    """Edges between two segments; the cost is the shorter of the two runs that they separate."""
    for rank, row in enumerate(rows, 1):
        name, size = int(row["skeleton"]), float(row["length_nm"])
        place = _voxels(row["position_nm"], resolution)
        parts = tuple(
            ErrorPart({"segmentation": int(segment), "skeletons": name}, 0.0, "nm", place)
            for segment in row["labels"]
        )
        yield ErrorSite("skeleton split", rank, name, size, "nm", len(parts), parts, place)


def _partners(
    errors: Mapping[str, Sequence[Mapping[str, Any]]], resolution: Point
) -> Iterator[ErrorSite]:
    """Pairs of one table without a match in the other, with both of their sites."""
    for side, word in SIDES.items():
        for rank, row in enumerate(errors.get(side, ()), 1):
            parts = tuple(
                ErrorPart(
                    {"truth": int(row[f"{end}_neuron"])} if f"{end}_neuron" in row else {},
                    0.0,
                    "nm",
                    _voxels(row[end], resolution),
                )
                for end in ("pre", "post")
            )
            length = float(np.linalg.norm(np.subtract(row["pre"], row["post"])))
            note, line = f"{length:,.0f} nm between the sites", int(row["line"])
            kind, place = f"{word} partners", parts[0].position
            yield ErrorSite(kind, rank, line, 0.0, "", len(parts), parts, place, note)


def _clefts(
    errors: Mapping[str, Sequence[Mapping[str, Any]]], resolution: Point
) -> Iterator[ErrorSite]:
    """Clefts of one volume without a match in the other."""
    volumes = {"false_negatives": "true_clefts", "false_positives": "found_clefts"}
    for side, word in SIDES.items():
        for rank, row in enumerate(errors.get(side, ()), 1):
            label, size = int(row["label"]), float(row["voxels"])
            middle = zip(row["position"], resolution, strict=True)
            place = _point([nm / side_nm - 0.5 for nm, side_nm in middle])
            part = ErrorPart({volumes[side]: label}, size, "voxels", place)
            yield ErrorSite(f"{word} cleft", rank, label, size, "voxels", 1, (part,), place)


def _point(values: Sequence[float]) -> Point:
    z, y, x = (float(value) for value in values)
    return (z, y, x)


def _voxels(nanometres: Sequence[float], resolution: Point) -> Point:
    """The voxel nearest to a point; voxel i of a skeleton is centred at i times its side."""
    return _point([np.floor(n / r + 0.5) for n, r in zip(nanometres, resolution, strict=True)])


# --- from a centre of mass to a voxel -------------------------------------------------------------


def locate(sites: Sequence[ErrorSite], volumes: Mapping[str, Volume]) -> list[ErrorSite]:
    """Move parts of errors onto voxels of their own, and errors to the contact of two parts.

    The centre of mass of a bent object may be outside it, where a viewer would show nothing. It is
    replaced by the nearest voxel of the part, if there is one within `SEARCH_RADII`. An error is
    moved to where its second part comes closest to the first, if that is within the radii of
    `CONTACT_SEARCH`.

    Parameters
    ----------
    sites : sequence of ErrorSite
    volumes : mapping of str to Volume
        Opened volumes, by input; errors whose ids belong to other volumes stay unchanged.
    """
    return [_located(site, volumes) if _searchable(site, volumes) else site for site in sites]


def _searchable(site: ErrorSite, volumes: Mapping[str, Volume]) -> bool:
    return all(part.unit == "voxels" and set(part.ids) <= set(volumes) for part in site.parts)


def _located(site: ErrorSite, volumes: Mapping[str, Volume]) -> ErrorSite:
    try:
        parts = tuple(_on_own_voxel(part, volumes) for part in site.parts)
        place = parts[:2][-1].position
        if len(parts) > 1:
            place = _contact(parts[0], parts[1], volumes)
        return replace(site, parts=parts, place=place)
    except StorageError:  # a chunk is missing; the positions are only less precise
        return site


def _on_own_voxel(part: ErrorPart, volumes: Mapping[str, Volume]) -> ErrorPart:
    """The part, positioned at the nearest of its own voxels."""
    for radius in SEARCH_RADII:
        box = _search_box(part.position, radius, volumes)
        own = np.argwhere(_masks([part], box, volumes)[0])
        if len(own):
            distance = np.square(own + box.start - np.array(part.position)).sum(axis=1)
            return replace(part, position=_point(own[int(np.argmin(distance))] + box.start))
    return part


def _contact(one: ErrorPart, other: ErrorPart, volumes: Mapping[str, Volume]) -> Point:
    """The voxel of `other` that is nearest to `one`; its own position if they are far apart."""
    from scipy.ndimage import distance_transform_edt  # takes longer than a short command

    for radius, stride in CONTACT_SEARCH:
        box = _search_box(other.position, radius, volumes)
        first, second = _masks([one, other], box, volumes)
        first, second = (mask[::stride, ::stride, ::stride] for mask in (first, second))
        if first.any() and second.any():
            sides = next(iter(volumes.values())).resolution or (1.0, 1.0, 1.0)
            distance = distance_transform_edt(~first, sampling=sides)
            distance = np.where(second, distance, np.inf)
            nearest = np.unravel_index(int(np.argmin(distance)), distance.shape)
            return _point(box.start + zyx(int(n) for n in nearest) * stride)
    return other.position


def _search_box(position: Point, radius: int, volumes: Mapping[str, Volume]) -> Box:
    """The box around a position, clipped to all volumes."""
    start = zyx([int(np.floor(value)) - radius for value in position])
    box = Box(start, start + (2 * radius + 1))
    for volume in volumes.values():
        box = box.clip(volume.bounds)
    return box


def _masks(parts: Sequence[ErrorPart], box: Box, volumes: Mapping[str, Volume]) -> list[np.ndarray]:
    """The voxels of each part within a box."""
    arrays = {name: volumes[name].read(box) for name in parts[0].ids}
    return [
        np.logical_and.reduce([arrays[name] == label for name, label in part.ids.items()])
        for part in parts
    ]
