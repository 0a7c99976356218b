"""Synapses from what is known of clefts: who gives, who takes, and which are one and the same.

A cleft's partners are the two neurons, not one and the same, with the largest sum of presynaptic
probability in the one and postsynaptic probability in the other. Of a polyadic synapse every
neuron with a share of the postsynaptic probability takes part.

References
----------
Turner et al., Synaptic Partner Assignment Using Attentional Voxel Association Networks, 2020, and
the sums per segment of Synaptor (the assignment; ours never gives a pair of one neuron). Buhmann et
al., Automatic detection of synaptic partners in a whole-brain Drosophila electron microscopy data
set, Nature Methods 2021 (duplicates between the same neurons).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from volflow.segment.synapses.rows import AXES, FIRST, LAST, Columns, Resolution

SITES = tuple(f"{site}_{axis}" for site in ("cleft", "pre", "post") for axis in AXES)
TABLE = (
    "synapse_id", "pre", "post", *SITES, "size_vox", "area_nm2", "score", "pre_score",
    "post_score", *FIRST, *LAST, "clefts",
)  # fmt: skip


def choose_partners(
    pre: np.ndarray, post: np.ndarray, least: float = 1.0, polyadic: float | None = None
) -> list[tuple[int, int]]:
    """The neurons of a cleft, as positions: one pair, or one to each that takes, or none.

    Parameters
    ----------
    pre, post : number arrays, (N,)
        Of each neuron near the cleft; neurons in the order of their ids.
    least : float
        What a partner has at the least of its side.
    polyadic : float or None
        The share of all postsynaptic probability outside of the one that gives, with which a
        neuron takes part; None: only the strongest does.

    Returns
    -------
    list of pairs
        The strongest first; of equal ones that of smaller ids. Both of a pair always differ.
    """
    givers = np.argsort(-pre, kind="stable")[:2]
    takers = np.argsort(-post, kind="stable")[:2]
    able = [
        (pre[i] + post[j], pre[i], int(i), int(j))
        for i in givers
        for j in takers
        if i != j and pre[i] >= least and post[j] >= least
    ]
    if not able:
        return []
    _, _, giver, taker = min(able, key=lambda pair: (-pair[0], -pair[1], pair[2], pair[3]))
    if polyadic is None:
        return [(giver, taker)]
    total = post.sum() - post[giver]
    enough = (post >= least) & (post >= polyadic * total)
    enough[giver], enough[taker] = False, True
    order = np.argsort(-post, kind="stable")
    return [(giver, int(j)) for j in order if enough[j]]


def synapses_of(
    rows: Columns, resolution: Resolution, least: float = 1.0, polyadic: float | None = None
) -> tuple[Columns, int]:
    """The synapses of clefts all of whose rows are given, and how many clefts found no partners.

    Parameters
    ----------
    rows : columns of `pooled`
    resolution : three floats, zyx, nm
    least : float
        Voxels: what the probabilities of a partner sum up to at the least.
    polyadic
        As for `choose_partners`.

    Returns
    -------
    columns of TABLE, each (N,)
    int
    """
    cleft = rows["cleft"]
    starts = np.flatnonzero(np.concatenate([[True], cleft[1:] != cleft[:-1]]))
    stops = np.append(starts[1:], len(cleft))
    whole, giver, taker, alone = [], [], [], 0
    totals: dict[str, list[float]] = {"pre": [], "post": []}
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        if rows["segment"][start] != 0:  # beyond what is looked at, or masked
            continue
        pre, post = (rows[side][start + 1 : stop].astype(np.float64) for side in ("pre", "post"))
        pairs = choose_partners(pre, post, 255 * least, polyadic)
        alone += not pairs
        for i, j in pairs:
            whole.append(start)
            giver.append(start + 1 + i)
            taker.append(start + 1 + j)
            totals["pre"].append(float(pre.sum()))
            totals["post"].append(float(post.sum() - post[i]))
    found = clefts_of({name: column[whole] for name, column in rows.items()}, resolution)
    for side, at in (("pre", giver), ("post", taker)):
        found[side] = rows["segment"][at]
        share = rows[side][at] / np.maximum(1.0, totals[side])
        found[f"{side}_score"] = share
        for axis, length in zip(AXES, resolution, strict=True):
            middle = rows[f"{side}_{axis}"][at] / np.maximum(1, rows[side][at])
            found[f"{side}_{axis}"] = middle * length
    return found, alone


def clefts_of(rows: Columns, resolution: Resolution) -> Columns:
    """Clefts alone in the columns of TABLE: no neurons, and all sites in the middle.

    Parameters
    ----------
    rows : columns of `pooled`, of segment 0
    resolution : three floats, zyx, nm

    Returns
    -------
    columns of TABLE, each (N,)
        The area is that of a sheet: half of the faces that look along each axis, as a vector.
    """
    count = np.maximum(1, rows["voxels"])
    middle = [rows[axis] / count * side for axis, side in zip(AXES, resolution, strict=True)]
    volume = float(np.prod(resolution))
    sides = [
        rows[f"faces_{axis}"] / 2 * volume / length
        for axis, length in zip(AXES, resolution, strict=True)
    ]
    nobody, none = np.zeros(len(count), np.uint64), np.zeros(len(count))
    found: Columns = {"synapse_id": rows["cleft"], "pre": nobody, "post": nobody}
    found |= dict(zip(SITES, [*middle, *middle, *middle], strict=True))
    found["size_vox"] = rows["voxels"]
    found["area_nm2"] = np.sqrt(sum(side**2 for side in sides))
    found["score"] = rows["cleft_sum"] / (255 * count)
    found |= {"pre_score": none, "post_score": none}
    found |= {name: rows[name] for name in (*FIRST, *LAST)}
    found["clefts"] = np.ones(len(count), np.int64)
    return found


def merge_duplicates(table: Columns, distance_nm: float) -> Columns:
    """Synapses between the same two neurons whose clefts are near to one another, made one.

    The largest comes first (of equal ones the one of the smaller id), and takes in those within a
    distance of it that no larger one took: a chain of many does not become one. The one that stays
    keeps its id, its sites and its partners' scores; sizes and areas are added, boxes joined, and
    the score is the mean over all voxels.

    Parameters
    ----------
    table : columns of TABLE, each (N,)
    distance_nm : float
        Between the middles of clefts; 0: nothing is merged.

    Returns
    -------
    columns of TABLE, in the order of pre, post and id
    """
    size, id = table["size_vox"], table["synapse_id"]
    order = np.lexsort((id, -size, table["post"], table["pre"]))
    table = {name: column[order] for name, column in table.items()}
    middle = np.stack([table[f"cleft_{axis}"] for axis in AXES], axis=1)
    pair = np.stack([table["pre"], table["post"]], axis=1)
    fresh = np.ones(len(order), bool)
    fresh[1:] = (pair[1:] != pair[:-1]).any(axis=1)
    into = np.arange(len(order))
    kept: list[int] = []
    for row in range(len(order)):
        kept = [] if fresh[row] else kept
        away = np.linalg.norm(middle[kept] - middle[row], axis=1)
        if distance_nm > 0 and len(away) and away.min() <= distance_nm:
            into[row] = kept[int(away.argmin())]
        else:
            kept.append(row)
    return _taken_in(table, into)


def _taken_in(table: Columns, into: np.ndarray) -> Columns:
    """The rows that stay, with what they took in, in the order of pre, post and id."""
    stays, at = np.unique(into, return_inverse=True)
    found = {name: column[stays] for name, column in table.items()}
    weight = table["score"] * table["size_vox"]
    for name, column in (
        *((n, table[n]) for n in ("size_vox", "area_nm2", "clefts")),
        ("", weight),
    ):
        total = np.zeros(len(stays), column.dtype)
        np.add.at(total, at, column)
        found[name or "score"] = total
    found["score"] = found["score"] / np.maximum(1, found["size_vox"])
    for names, pool in ((FIRST, np.minimum), (LAST, np.maximum)):
        for name in names:
            pool.at(found[name], at, table[name])
    order = np.lexsort((found["synapse_id"], found["post"], found["pre"]))
    return {name: found[name][order] for name in TABLE}


def joined_tables(parts: Sequence[Columns]) -> Columns:
    """Tables as one, in the order of ids and neurons."""
    table = {name: np.concatenate([part[name] for part in parts]) for name in TABLE}
    order = np.lexsort((table["post"], table["pre"], table["synapse_id"]))
    return {name: column[order] for name, column in table.items()}
