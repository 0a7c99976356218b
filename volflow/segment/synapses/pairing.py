"""Synapses from the rows of clefts: pre- and postsynaptic partners, and duplicates merged.

The partners of a cleft are the two distinct neurons with the largest sum of presynaptic
probability in the first and postsynaptic probability in the second. In a polyadic synapse, every
neuron with a given share of the postsynaptic probability is a postsynaptic partner.

References
----------
Turner et al., Synaptic Partner Assignment Using Attentional Voxel Association Networks, 2020, and
the sums per segment of Synaptor (assignment; here the two partners always differ). Buhmann et al.,
Automatic detection of synaptic partners in a whole-brain Drosophila electron microscopy data set,
Nature Methods 2021 (duplicates between the same neurons).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from volflow.core.geometry import Resolution
from volflow.segment.synapses.rows import AXES, FIRST, LAST, Columns

SITES = tuple(f"{site}_{axis}" for site in ("cleft", "pre", "post") for axis in AXES)
TABLE = (
    "synapse_id", "pre", "post", *SITES, "size_vox", "area_nm2", "score", "pre_score",
    "post_score", *FIRST, *LAST, "clefts",
)  # fmt: skip

COLUMNS = tuple(
    (name, "uint64" if name in ("synapse_id", "pre", "post") else "int64")
    if name in ("synapse_id", "pre", "post", "size_vox", *FIRST, *LAST, "clefts")
    else (name, "float64")
    for name in TABLE
)
"""Columns of `TABLE` and their types."""


def choose_partners(
    pre: np.ndarray, post: np.ndarray, least: float = 1.0, polyadic: float | None = None
) -> list[tuple[int, int]]:
    """Pairs of pre- and postsynaptic partners of a cleft, as positions of neurons.

    Parameters
    ----------
    pre, post : number arrays, (N,)
        Summed pre- and postsynaptic probability of each neuron near the cleft, in the order of
        the neurons' ids.
    least : float
        Smallest sum of the respective probability that a partner must have.
    polyadic : float or None
        Share, 0 to 1, of the postsynaptic probability outside the presynaptic neuron at which a
        neuron is a postsynaptic partner; None: only the strongest neuron is.

    Returns
    -------
    list of pairs (pre, post)
        The strongest first; ties go to the smaller id. The two neurons of a pair always differ.
        Empty if no two neurons qualify.
    """
    presynaptic = np.argsort(-pre, kind="stable")[:2]
    postsynaptic = np.argsort(-post, kind="stable")[:2]
    candidates = [
        (pre[i] + post[j], pre[i], int(i), int(j))
        for i in presynaptic
        for j in postsynaptic
        if i != j and pre[i] >= least and post[j] >= least
    ]
    if not candidates:
        return []
    _, _, best_pre, best_post = min(
        candidates, key=lambda pair: (-pair[0], -pair[1], pair[2], pair[3])
    )
    if polyadic is None:
        return [(best_pre, best_post)]
    total = post.sum() - post[best_pre]
    selected = (post >= least) & (post >= polyadic * total)
    selected[best_pre], selected[best_post] = False, True
    order = np.argsort(-post, kind="stable")
    return [(best_pre, int(j)) for j in order if selected[j]]


def synapse_table(
    rows: Columns, resolution: Resolution, least: float = 1.0, polyadic: float | None = None
) -> tuple[Columns, int]:
    """The table of synapses of clefts with complete rows, and the number without partners.

    Parameters
    ----------
    rows : columns of `pooled_rows`
        All rows of the clefts.
    resolution : three floats
        Voxel size z, y, x in nm.
    least : float
        Smallest summed probability of a partner, in voxels.
    polyadic : float or None
        As for `choose_partners`.

    Returns
    -------
    columns of TABLE, each (N,)
        One row per synapse.
    int
        Number of clefts without partners.
    """
    cleft = rows["cleft"]
    starts = np.flatnonzero(np.concatenate([[True], cleft[1:] != cleft[:-1]]))
    stops = np.append(starts[1:], len(cleft))
    cleft_rows, pre_rows, post_rows, unpaired = [], [], [], 0
    totals: dict[str, list[float]] = {"pre": [], "post": []}
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        if rows["segment"][start] != 0:  # the cleft is outside the bounds, or masked
            continue
        pre, post = (rows[side][start + 1 : stop].astype(np.float64) for side in ("pre", "post"))
        pairs = choose_partners(pre, post, 255 * least, polyadic)
        unpaired += not pairs
        for i, j in pairs:
            cleft_rows.append(start)
            pre_rows.append(start + 1 + i)
            post_rows.append(start + 1 + j)
            totals["pre"].append(float(pre.sum()))
            totals["post"].append(float(post.sum() - post[i]))
    table = cleft_table({name: column[cleft_rows] for name, column in rows.items()}, resolution)
    for side, at in (("pre", pre_rows), ("post", post_rows)):
        table[side] = rows["segment"][at]
        share = rows[side][at] / np.maximum(1.0, totals[side])
        table[f"{side}_score"] = share
        for axis, length in zip(AXES, resolution, strict=True):
            middle = rows[f"{side}_{axis}"][at] / np.maximum(1, rows[side][at])
            table[f"{side}_{axis}"] = middle * length
    return table, unpaired


def cleft_table(rows: Columns, resolution: Resolution) -> Columns:
    """Clefts in the columns of TABLE, without neurons and with all sites at the cleft's centre.

    Parameters
    ----------
    rows : columns of `pooled_rows`, those of segment 0
    resolution : three floats
        Voxel size z, y, x in nm.

    Returns
    -------
    columns of TABLE, each (N,)
        The area treats the cleft as a sheet: the length of the vector whose components are half
        the area of the faces perpendicular to each axis.
    """
    count = np.maximum(1, rows["voxels"])
    middle = [rows[axis] / count * side for axis, side in zip(AXES, resolution, strict=True)]
    volume = float(np.prod(resolution))
    sides = [
        rows[f"faces_{axis}"] / 2 * volume / length
        for axis, length in zip(AXES, resolution, strict=True)
    ]
    no_neuron, no_score = np.zeros(len(count), np.uint64), np.zeros(len(count))
    table: Columns = {"synapse_id": rows["cleft"], "pre": no_neuron, "post": no_neuron}
    table |= dict(zip(SITES, [*middle, *middle, *middle], strict=True))
    table["size_vox"] = rows["voxels"]
    table["area_nm2"] = np.sqrt(sum(side**2 for side in sides))
    table["score"] = rows["cleft_sum"] / (255 * count)
    table |= {"pre_score": no_score, "post_score": no_score}
    table |= {name: rows[name] for name in (*FIRST, *LAST)}
    table["clefts"] = np.ones(len(count), np.int64)
    return table


def merge_duplicates(table: Columns, distance_nm: float) -> Columns:
    """Synapses with those merged that are close together and connect the same two neurons.

    Synapses are processed by descending size, ties by ascending id. Each absorbs those within the
    distance that no larger one has absorbed, so a chain of synapses does not collapse into one.
    The remaining synapse keeps its id, its sites and its partners' scores; sizes and areas are
    summed, boxes united, and the score is the mean over all voxels.

    Parameters
    ----------
    table : columns of TABLE, each (N,)
    distance_nm : float
        Largest distance between the centres of two clefts in nm; 0: nothing is merged.

    Returns
    -------
    columns of TABLE, in the order of pre, post and id
    """
    size, ids = table["size_vox"], table["synapse_id"]
    order = np.lexsort((ids, -size, table["post"], table["pre"]))
    table = {name: column[order] for name, column in table.items()}
    middle = np.stack([table[f"cleft_{axis}"] for axis in AXES], axis=1)
    pair = np.stack([table["pre"], table["post"]], axis=1)
    new_pair = np.ones(len(order), bool)
    new_pair[1:] = (pair[1:] != pair[:-1]).any(axis=1)
    into = np.arange(len(order))
    remaining: list[int] = []
    for row in range(len(order)):
        remaining = [] if new_pair[row] else remaining
        distance = np.linalg.norm(middle[remaining] - middle[row], axis=1)
        if distance_nm > 0 and len(distance) and distance.min() <= distance_nm:
            into[row] = remaining[int(distance.argmin())]
        else:
            remaining.append(row)
    return _merge_rows(table, into)


def _merge_rows(table: Columns, into: np.ndarray) -> Columns:
    """The remaining rows with those merged `into` them, in the order of pre, post and id."""
    remaining, at = np.unique(into, return_inverse=True)
    merged = {name: column[remaining] for name, column in table.items()}
    weight = table["score"] * table["size_vox"]
    for name, column in (
        *((n, table[n]) for n in ("size_vox", "area_nm2", "clefts")),
        ("", weight),
    ):
        total = np.zeros(len(remaining), column.dtype)
        np.add.at(total, at, column)
        merged[name or "score"] = total
    merged["score"] = merged["score"] / np.maximum(1, merged["size_vox"])
    for names, pool in ((FIRST, np.minimum), (LAST, np.maximum)):
        for name in names:
            pool.at(merged[name], at, table[name])
    order = np.lexsort((merged["synapse_id"], merged["post"], merged["pre"]))
    return {name: merged[name][order] for name in TABLE}


def concatenated_tables(parts: Sequence[Columns]) -> Columns:
    """Several tables as one, in the order of ids and neurons."""
    table = {name: np.concatenate([part[name] for part in parts]) for name in TABLE}
    order = np.lexsort((table["post"], table["pre"], table["synapse_id"]))
    return {name: column[order] for name, column in table.items()}
