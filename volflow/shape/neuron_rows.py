"""Rows of segments: size, box, and the numbers of synapses and objects; rows add up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from volflow.core.geometry import Box, Resolution
from volflow.shape.object_rows import AXES, FIRST, LAST, object_rows, pooled

Columns = dict[str, np.ndarray]

COUNTS = ("pre_synapses", "post_synapses", "objects")
NEURONS = (
    ("segment", "uint64"),
    ("size_vox", "int64"),
    ("volume_um3", "float64"),
    *((axis, "float64") for axis in AXES),
    *((name, "int64") for name in (*FIRST, *LAST)),
    *((name, "int64") for name in COUNTS),
)
"""Columns of the table of neurons, and their types."""
TAGS = {"pre_synapses": "presynaptic", "post_synapses": "postsynaptic", "objects": "with_objects"}
KEPT = ("voxels", *AXES, *FIRST, *LAST)


def neuron_rows(
    write: Box,
    segments: np.ndarray,
    synapses: Mapping[str, np.ndarray] | None,
    objects: Mapping[str, np.ndarray] | None,
) -> Columns:
    """A row for each segment of a block, or of the rows of tables that the block reads.

    Parameters
    ----------
    write : Box
        The voxels of the array.
    segments : integers, (Z, Y, X)
        0 is none.
    synapses : columns, optional
        `pre` and `post`: a synapse per row.
    objects : columns, optional
        `segment`: an object per row.
    """
    rows = object_rows(write, segments, None)
    rows["segment"] = rows.pop("object")
    parts = [_counted(rows, None, np.zeros(0, np.uint64))]
    for name, ids in (
        ("pre_synapses", None if synapses is None else synapses["pre"]),
        ("post_synapses", None if synapses is None else synapses["post"]),
        ("objects", None if objects is None else objects["segment"]),
    ):
        if ids is not None and len(ids):
            parts.append(_counted({}, name, ids))
    return pooled_neurons({key: np.concatenate([part[key] for part in parts]) for key in parts[0]})


def pooled_neurons(rows: Columns) -> Columns:
    """One row per segment, in the order of their ids."""
    return pooled(rows, ("segment",))


def neuron_table(rows: Columns, resolution: Resolution) -> Columns:
    """The columns of NEURONS from pooled rows with voxels; middles in nm."""
    there = rows["voxels"] > 0
    rows = {name: column[there] for name, column in rows.items()}
    size, sides = rows["voxels"], zip(AXES, resolution, strict=True)
    return {
        "segment": rows["segment"],
        "size_vox": size,
        "volume_um3": size * (float(np.prod(resolution)) * 1e-9),
        **{axis: rows[axis] / np.maximum(1, size) * side for axis, side in sides},
        **{name: rows[name] for name in (*FIRST, *LAST, *COUNTS)},
    }


def segment_properties(table: Columns, most: int) -> tuple[dict[str, Any], int]:
    """Neuroglancer's properties of the largest segments, and how many segments have none.

    Segments with synapses or objects come first, then the largest. A browser loads all of them at
    once, so there are at most `most`.
    """
    related = np.sum([table[name] for name in COUNTS], axis=0) > 0
    order = np.lexsort((table["segment"], -table["size_vox"], ~related))[:most]
    order = order[np.argsort(table["segment"][order])]
    some = {name: column[order] for name, column in table.items()}
    numbers = [
        {
            "id": name,
            "type": "number",
            "data_type": "float32" if name in ("volume_um3", "size_vox") else "int32",
            "values": _plain(name, some[name]),
        }
        for name in ("volume_um3", "size_vox", *COUNTS, *FIRST, *LAST)
    ]
    present = [(some[name] > 0).tolist() for name in TAGS]
    tags = {
        "id": "tags",
        "type": "tags",
        "tags": list(TAGS.values()),
        "values": [[n for n, has in enumerate(row) if has] for row in zip(*present, strict=True)],
    }
    ids = [str(segment) for segment in some["segment"].tolist()]
    inline = {"ids": ids, "properties": [tags, *numbers]}
    left = len(table["segment"]) - len(ids)
    return {"@type": "neuroglancer_segment_properties", "inline": inline}, left


def _plain(name: str, column: np.ndarray) -> list[float]:
    return list((column.round(6) if name == "volume_um3" else column).tolist())


def _counted(rows: Columns, name: str | None, ids: np.ndarray) -> Columns:
    """Rows of a block with counts of 0, or rows of ids that are counted under a name."""
    if name is None:
        count, segment = len(rows["segment"]), rows["segment"]
    else:
        segment, number = np.unique(ids[ids > 0].astype(np.uint64), return_counts=True)
        count = len(segment)
        empty = {key: np.zeros(count, np.int64) for key in ("voxels", *AXES)}
        rows = empty | {key: np.full(count, np.iinfo(np.int64).max) for key in FIRST}
        rows |= {key: np.full(count, np.iinfo(np.int64).min) for key in LAST}
    counts = {key: np.zeros(count, np.int64) for key in COUNTS}
    if name is not None:
        counts[name] = number.astype(np.int64)
    return {"segment": segment, **{key: rows[key] for key in KEPT}, **counts}
