"""Scores from parts of the table of overlaps, grouped by truth label, then by segment.

    partial_scores_by_truth     all rows of some truth labels   sizes of pairs and labels, splits
    partial_scores_by_segment   all rows of some segments       sizes of segments, mergers

The sum of the parts equals the score of the whole table, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from volflow.metrics.voxels.contingency import GroupSizes, SizeHistogram

Record = Mapping[str, np.ndarray]

PARTS = 5  # largest parts that are listed of each label
PLACES = ("z", "y", "x")


def partial_scores_by_truth(rows: Record, worst: int) -> dict[str, np.ndarray]:
    """Sizes and worst splits from all rows of some truth labels; label 0 does not count.

    Parameters
    ----------
    rows : columns of `Overlaps`, sorted by truth label and segment
    worst : int
        Number of labels to list, those with the largest split errors in bits.

    Returns
    -------
    columns
        `joint.size`, `joint.times`, `truth.size`, `truth.times` and those of `worst_labels`.
    """
    known = _rows(rows, rows["truth"] != 0)
    joint = SizeHistogram.of(known["count"])
    columns = {"joint.size": joint.size, "joint.times": joint.times, **_sizes_of(known, "truth")}
    return columns | worst_labels(known["truth"], known["segment"], known, worst)


def partial_scores_by_segment(rows: Record, worst: int) -> dict[str, np.ndarray]:
    """Sizes and worst mergers from all rows of some segments; truth label 0 does not count.

    Parameters
    ----------
    rows : columns of `Overlaps`, sorted by segment and truth label
    worst : int
        Number of segments to list, those with the largest merge errors in bits.

    Returns
    -------
    columns
        `segment.size`, `segment.times` and those of `worst_labels`.
    """
    known = _rows(rows, rows["truth"] != 0)
    return _sizes_of(known, "segment") | worst_labels(
        known["segment"], known["truth"], known, worst
    )


def with_label_sizes(rows: Record, name: str) -> dict[str, np.ndarray]:
    """Rows with another column: the number of voxels in all rows of the same label.

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
    size, times = SizeHistogram.of(rows["segment_size"][starts])
    return {"object.size": size, "object.times": times}


def join_sizes(parts: Iterable[Record], name: str) -> SizeHistogram:
    """The histogram of several parts; `name` is joint, truth, segment or object."""
    return SizeHistogram.merged(
        SizeHistogram(part[f"{name}.size"], part[f"{name}.times"]) for part in parts
    )


def join_group_sizes(truths: Sequence[Record], segments: Sequence[Record]) -> GroupSizes:
    """All size histograms of a volume, from its parts by truth label and by segment."""
    return GroupSizes(
        join_sizes(truths, "joint"), join_sizes(truths, "truth"), join_sizes(segments, "segment")
    )


def worst_labels(
    label: np.ndarray, other: np.ndarray, rows: Record, most: int
) -> dict[str, np.ndarray]:
    """The labels that contribute most to the variation of information, with their main parts.

    A label of n voxels, n_i of which have the other label i, contributes
    (n log2 n - sum n_i log2 n_i) / N bits in a volume of N voxels. `worst.bits` is N times that.

    Parameters
    ----------
    label, other : uint64 array, (N,)
        Sorted by label.
    rows : columns count, z, y, x of `Overlaps`
    most : int

    Returns
    -------
    columns
        `worst.label`, `worst.bits`, `worst.others` (number of parts), worst first; and for their
        parts, largest first, `part.label`, `part.other`, `part.count`, `part.z`, `part.y` and
        `part.x`.
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
    columns = {"worst.label": names[chosen], "worst.bits": bits[chosen]}
    columns |= {"worst.others": (ends - starts)[chosen].astype(np.int64)}
    columns |= {"part.label": label[at], "part.other": other[at]}
    return columns | {f"part.{name}": rows[name][at] for name in ("count", *PLACES)}


def worst_errors(
    parts: Sequence[Record], most: int, voxels: int, names: tuple[str, str, str]
) -> list[dict[str, Any]]:
    """The worst labels of several parts, as JSON.

    Parameters
    ----------
    parts : sequence of records
        With the columns of `worst_labels`.
    most : int
        Number of labels.
    voxels : int
        Number of voxels counted in the whole volume.
    names : 3 str
        Keys of the label, of the other label, and of the bits.

    Returns
    -------
    list of dict
        Label, bits of the variation of information, number of others, and `parts`: the largest
        ones with voxels and their centre of mass (z y x in voxels).
    """
    label, other, bits = names
    table = {
        key: np.concatenate([part[key] for part in parts])
        for key in (parts[0] if parts else {})
        if key.startswith(("worst.", "part."))
    }
    if not table:
        return []
    order = np.lexsort((table["worst.label"], -table["worst.bits"]))[:most]
    errors = []
    for at in order:
        name = table["worst.label"][at]
        rows = [
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
        errors.append({**entry, f"{other}s": int(table["worst.others"][at]), "parts": rows})
    return errors


def _rows(rows: Record, chosen: np.ndarray) -> dict[str, np.ndarray]:
    return {name: column[chosen] for name, column in rows.items()}


def _sizes_of(rows: Record, name: str) -> dict[str, np.ndarray]:
    """The size histogram of the labels in the column by which the rows are sorted."""
    starts = _starts(rows[name])
    counts = np.add.reduceat(rows["count"], starts) if len(starts) else rows["count"]
    sizes = SizeHistogram.of(counts)
    return {f"{name}.size": sizes.size, f"{name}.times": sizes.times}


def _starts(label: np.ndarray) -> np.ndarray:
    """Index of the first row of each label."""
    first = np.ones(len(label), bool)
    first[1:] = label[1:] != label[:-1]
    return np.flatnonzero(first)
