"""The connectome as edges: synapses between the same two neurons as one row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Columns = dict[str, np.ndarray]

EDGES = (
    ("pre", "uint64"),
    ("post", "uint64"),
    ("synapses", "int64"),
    ("size_vox", "float64"),
    ("area_nm2", "float64"),
    ("score", "float64"),
)
"""Columns of the table of edges, and their types."""
SUMMED = ("size_vox", "area_nm2", "score")


def edge_rows(synapses: Mapping[str, np.ndarray]) -> Columns:
    """The synapses between two neurons, one row each; columns that are missing are 0."""
    pre, post = (np.asarray(synapses[name]).astype(np.uint64) for name in ("pre", "post"))
    chosen = (pre > 0) & (post > 0)
    rows: Columns = {"pre": pre[chosen], "post": post[chosen]}
    for name in SUMMED:
        column = np.asarray(synapses.get(name, np.zeros(len(pre))), np.float64)
        rows[name] = column[chosen]
    return rows


def edge_table(rows: Columns) -> Columns:
    """The columns of EDGES: numbers of synapses, sums of sizes and areas, and mean scores.

    Rows are summed in the order of their content, so the sums do not depend on that of the rows.
    """
    if not rows:
        return {name: np.zeros(0, dtype) for name, dtype in EDGES}
    order = np.lexsort([rows[name] for name in (*reversed(SUMMED), "post", "pre")])
    rows = {name: column[order] for name, column in rows.items()}
    pre, post = rows["pre"], rows["post"]
    new = np.ones(len(pre), bool)
    new[1:] = (pre[1:] != pre[:-1]) | (post[1:] != post[:-1])
    starts = np.flatnonzero(new)
    count = np.diff(np.append(starts, len(pre)))
    sums = {n: np.add.reduceat(rows[n], starts) if len(starts) else rows[n] for n in SUMMED}
    return {
        "pre": pre[starts],
        "post": post[starts],
        "synapses": count.astype(np.int64),
        "size_vox": sums["size_vox"],
        "area_nm2": sums["area_nm2"],
        "score": sums["score"] / np.maximum(1, count),
    }
