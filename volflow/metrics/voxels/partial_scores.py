"""Scores from overlaps that lie apart: every truth label whole in one place, then every segment.

    by_truth     all rows of some truth labels    sizes of pairs and labels, the worst splits
    by_segment   all rows of some segments        sizes of segments, the worst mergers

What the parts find adds up to what one table of the whole volume would say, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from volflow.metrics.voxels.contingency import Groups, Sizes

Record = Mapping[str, np.ndarray]

PARTS = 5  # of a worst offender that are told
PLACES = ("z", "y", "x")


def by_truth(rows: Record, worst: int) -> dict[str, np.ndarray]:
    """What all rows of some truth labels say; label 0 is nobody.

    Parameters
    ----------
    rows : columns of `Overlaps`, sorted by truth label and segment
    worst : int
        How many of the labels that lose most bits by splits are told.

    Returns
    -------
    columns
        `joint.size`, `joint.times`, `truth.size`, `truth.times` and those of `offenders`.
    """
    known = _rows(rows, rows["truth"] != 0)
    joint = Sizes.of(known["count"])
    found = {"joint.size": joint.size, "joint.times": joint.times, **_sizes_of(known, "truth")}
    return found | offenders(known["truth"], known["segment"], known, worst)


def by_segment(rows: Record, worst: int) -> dict[str, np.ndarray]:
    """What all rows of some segments say, with the worst mergers; voxels of truth 0 are nobody's.

    Parameters
    ----------
    rows : columns of `Overlaps`, sorted by segment and truth label
    worst : int
        How many of the segments that lose most bits by mergers are told.

    Returns
    -------
    columns
        `segment.size`, `segment.times` and those of `offenders`.
    """
    known = _rows(rows, rows["truth"] != 0)
    return _sizes_of(known, "segment") | offenders(known["segment"], known["truth"], known, worst)


def with_sizes(rows: Record, name: str) -> dict[str, np.ndarray]:
    """Rows with one column more: the voxels of all rows of the same label.

    Parameters
    ----------
    rows : columns of `Overlaps`, sorted by the label
    name : {"truth", "segment"}
        The new column is `truth_size` or `segment_size`, int64.
    """
    starts = _starts(rows[name])
    size = np.add.reduceat(rows["count"], starts)
    return {**rows, f"{name}_size": np.repeat(size, np.diff(np.append(starts, len(rows[name]))))}


def object_sizes(rows: Record) -> dict[str, np.ndarray]:
    """The sizes of segments other than 0, voxels of truth 0 included.

    Parameters
    ----------
    rows : columns segment and segment_size, sorted by segment
    """
    starts = _starts(rows["segment"])
    starts = starts[rows["segment"][starts] != 0]
    size, times = Sizes.of(rows["segment_size"][starts])
    return {"object.size": size, "object.times": times}


def sizes(found: Iterable[Record], name: str) -> Sizes:
    """The sizes of one kind in what several parts found."""
    return Sizes.merged(Sizes(part[f"{name}.size"], part[f"{name}.times"]) for part in found)


def groups(truths: Sequence[Record], segments: Sequence[Record]) -> Groups:
    """All sizes of a volume, from what its parts found."""
    return Groups(sizes(truths, "joint"), sizes(truths, "truth"), sizes(segments, "segment"))


def offenders(
    label: np.ndarray, other: np.ndarray, rows: Record, most: int
) -> dict[str, np.ndarray]:
    """The labels whose voxels are spread most over others, each with its largest parts.

    A label of n voxels, of which n_i carry the other label i, loses n log2 n - sum n_i log2 n_i
    bits: what it adds to the variation of information, times all voxels.

    Parameters
    ----------
    label, other : uint64 array, (N,)
        Sorted by label.
    rows : columns count, z, y, x of `Overlaps`
    most : int

    Returns
    -------
    columns
        `worst.label`, `worst.bits`, `worst.others` (how many), worst first; and of their parts,
        largest first, `part.label`, `part.other`, `part.count`, `part.z`, `part.y`, `part.x`.
    """
    starts = _starts(label)
    counts = rows["count"].astype(np.float64)
    names = label[starts]
    ends = np.append(starts[1:], len(label))
    if len(starts):
        total = np.add.reduceat(counts, starts)
        bits = total * np.log2(total) - np.add.reduceat(counts * np.log2(counts), starts)
    else:
        bits = counts
    spread = np.flatnonzero((ends - starts > 1) & (bits > 0))
    chosen = spread[np.lexsort((names[spread], -bits[spread]))][:most]
    parts = [
        first + np.lexsort((other[first:last], -rows["count"][first:last]))[:PARTS]
        for first, last in zip(starts[chosen], ends[chosen], strict=True)
    ]
    at = np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)
    found = {"worst.label": names[chosen], "worst.bits": bits[chosen]}
    found |= {"worst.others": (ends - starts)[chosen].astype(np.int64)}
    found |= {"part.label": label[at], "part.other": other[at]}
    return found | {f"part.{name}": rows[name][at] for name in ("count", *PLACES)}


def worst(
    found: Sequence[Record], most: int, voxels: int, names: tuple[str, str, str]
) -> list[dict[str, Any]]:
    """The worst of what several parts found, ready for JSON.

    Parameters
    ----------
    found : sequence of what `offenders` made
    most : int
    voxels : int
        Counted in the whole volume.
    names : 3 str
        What the label, the others, and the bits are called.

    Returns
    -------
    list of dict
        Label, bits of the variation of information, number of others, and `parts`: the largest
        ones with voxels and their centre of mass (z y x in voxels).
    """
    label, other, bits = names
    table = {
        key: np.concatenate([part[key] for part in found])
        for key in (found[0] if found else {})
        if key.startswith(("worst.", "part."))
    }
    if not table:
        return []
    order = np.lexsort((table["worst.label"], -table["worst.bits"]))[:most]
    told = []
    for at in order:
        name = table["worst.label"][at]
        parts = [
            {
                other: int(table["part.other"][row]),
                "voxels": int(table["part.count"][row]),
                "position": [
                    round(int(table[f"part.{axis}"][row]) / int(table["part.count"][row]), 1)
                    for axis in PLACES
                ],
            }
            for row in np.flatnonzero(table["part.label"] == name)
        ]
        entry = {label: int(name), bits: float(table["worst.bits"][at]) / voxels}
        told.append({**entry, f"{other}s": int(table["worst.others"][at]), "parts": parts})
    return told


def _rows(rows: Record, chosen: np.ndarray) -> dict[str, np.ndarray]:
    return {name: column[chosen] for name, column in rows.items()}


def _sizes_of(rows: Record, name: str) -> dict[str, np.ndarray]:
    """The sizes of the labels of a column by which the rows are sorted."""
    starts = _starts(rows[name])
    found = Sizes.of(np.add.reduceat(rows["count"], starts) if len(starts) else rows["count"])
    return {f"{name}.size": found.size, f"{name}.times": found.times}


def _starts(label: np.ndarray) -> np.ndarray:
    """Where each label's rows begin."""
    first = np.ones(len(label), bool)
    first[1:] = label[1:] != label[:-1]
    return np.flatnonzero(first)
