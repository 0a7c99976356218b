"""What is found against what is there, one to one: pairs chosen by gain, precision and recall."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching

DENSE = 1 << 18  # cells of a dense matrix; groups that need more are solved sparsely


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """Which of `truths` are found by which of `founds`, each at most once.

    Attributes
    ----------
    truth, found : int64 array, (K,)
        Rows of the pairs, ascending in `truth`.
    value : float64 array, (K,)
        What each pair was chosen by: a distance in nanometres, or an overlap in voxels.
    truths, founds : int
        How many there are to find, and how many were found.
    """

    truth: np.ndarray
    found: np.ndarray
    value: np.ndarray
    truths: int
    founds: int

    @property
    def missed(self) -> np.ndarray:
        """Rows of the truth that nothing found, ascending: the false negatives."""
        return np.setdiff1d(np.arange(self.truths), self.truth)

    @property
    def spurious(self) -> np.ndarray:
        """Rows of what was found where nothing is, ascending: the false positives."""
        return np.setdiff1d(np.arange(self.founds), self.found)

    def scores(self) -> dict[str, float | int | None]:
        """Counts and rates by name, ready for JSON; `mean` is of the pairs' values."""
        return {
            **rates(len(self.truth), self.truths, self.founds),
            "mean": float(self.value.mean()) if len(self.value) else None,
        }


def rates(matched: int, truths: int, founds: int) -> dict[str, float | int | None]:
    """Precision, recall and F1 of counts, ready for JSON; None where it would be 0 / 0.

    Raises
    ------
    ValueError
        If more are matched than there are.
    """
    if not 0 <= matched <= min(truths, founds):
        raise ValueError(f"{matched} of {truths} and {founds} cannot be matched one to one")
    return {
        "true_positives": matched,
        "false_positives": founds - matched,
        "false_negatives": truths - matched,
        "precision": matched / founds if founds else None,
        "recall": matched / truths if truths else None,
        "f1": 2 * matched / (truths + founds) if truths + founds else None,
    }


def best_pairs(truth: np.ndarray, found: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """The candidates that pair rows one to one with the largest sum of gains.

    Candidates fall into groups that share no row with one another. Of a group in which all share
    one row the best is taken, small groups go to the Hungarian method as a dense matrix, large
    ones to a sparse solver: memory grows with the candidates, never with rows times rows. Where
    two choices gain the same, either may be taken.

    Parameters
    ----------
    truth, found : integer array, (N,)
        Rows that may be paired, each pair once.
    gain : float array, (N,), above 0

    Returns
    -------
    int64 array, (K,)
        Positions of the chosen candidates, ordered by `truth`.

    References
    ----------
    Crouse, On implementing 2D rectangular assignment algorithms, IEEE TAES 2016 (dense), and
    Jonker and Volgenant, Computing 1987 (sparse), both as in scipy.
    """
    if not len(gain):
        return np.zeros(0, np.int64)
    if not (np.isfinite(gain).all() and gain.min() > 0):
        raise ValueError(f"gains must be finite and above 0; the least is {gain.min()}")
    rows = np.unique(truth, return_inverse=True)[1]
    columns = np.unique(found, return_inverse=True)[1]
    chosen = [
        _solved(group, rows[group], columns[group], gain[group]) for group in _groups(rows, columns)
    ]
    at = np.concatenate(chosen)
    return at[np.argsort(truth[at], kind="stable")]


def _groups(rows: np.ndarray, columns: np.ndarray) -> Iterator[np.ndarray]:
    """Positions of the candidates of each connected component, in order of row and column."""
    first = rows.max() + 1
    nodes = first + columns.max() + 1
    links = coo_array((np.ones(len(rows), np.int8), (rows, columns + first)), (nodes, nodes))
    component = connected_components(links, directed=False)[1][rows]
    order = np.lexsort((columns, rows, component))
    ends = np.flatnonzero(np.diff(component[order])) + 1
    yield from np.split(order, ends)


def _solved(
    group: np.ndarray, rows: np.ndarray, columns: np.ndarray, gain: np.ndarray
) -> np.ndarray:
    """The chosen candidates of one component."""
    if (rows == rows[0]).all() or (columns == columns[0]).all():
        return group[[np.argmax(gain)]]
    rows = np.unique(rows, return_inverse=True)[1]
    columns = np.unique(columns, return_inverse=True)[1]
    shape = (int(rows.max()) + 1, int(columns.max()) + 1)
    if shape[0] * shape[1] > DENSE:
        at, to = _sparse(rows, columns, gain, shape)
    else:
        from scipy.optimize import linear_sum_assignment  # half a second to import

        matrix = np.zeros(shape)
        matrix[rows, columns] = gain
        at, to = linear_sum_assignment(matrix, maximize=True)
        real = matrix[at, to] > 0
        at, to = at[real], to[real]
    keys = rows * shape[1] + columns  # ascending, as the group is in order
    chosen: np.ndarray = group[np.searchsorted(keys, at * shape[1] + to)]
    return chosen


def _sparse(
    rows: np.ndarray, columns: np.ndarray, gain: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the best pairs of a large component.

    The solver wants every row matched, at least cost, and takes a cost of 0 for no candidate. So
    each row is given a column of its own that gains nothing, and all costs are lifted above 0.
    """
    count, width = shape
    top = 2 * gain.max()
    own = np.arange(count)
    cost = np.concatenate([top - gain, np.full(count, top)])
    at, to = np.concatenate([rows, own]), np.concatenate([columns, width + own])
    graph = csr_array((cost, (at, to)), (count, width + count))
    first, second = min_weight_full_bipartite_matching(graph)
    real = second < width
    return first[real], second[real]
