"""One-to-one matching of detections with a ground truth, and precision, recall and F1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching

DENSE = 1 << 18  # cells of a dense matrix; larger components are solved sparsely


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """Pairs of true objects and detections; each is in one pair at most.

    Attributes
    ----------
    truth, detected : int64 array, (K,)
        Rows of the pairs in the ground truth and among the detections, ascending in `truth`.
    value : float64 array, (K,)
        The quantity that the pairs were chosen by: distance in nanometres, or overlap in voxels.
    truths, detections : int
        Numbers of true objects and of detections.
    """

    truth: np.ndarray
    detected: np.ndarray
    value: np.ndarray
    truths: int
    detections: int

    @property
    def missed(self) -> np.ndarray:
        """Rows of the ground truth without a match, ascending: the false negatives."""
        return np.setdiff1d(np.arange(self.truths), self.truth)

    @property
    def spurious(self) -> np.ndarray:
        """Rows of the detections without a match, ascending: the false positives."""
        return np.setdiff1d(np.arange(self.detections), self.detected)

    def scores(self) -> dict[str, float | int | None]:
        """Counts and rates by name, as JSON; `mean` is the mean of the pairs' values."""
        return {
            **rates(len(self.truth), self.truths, self.detections),
            "mean": float(self.value.mean()) if len(self.value) else None,
        }


def rates(matched: int, truths: int, detections: int) -> dict[str, float | int | None]:
    """Precision, recall and F1 from counts, as JSON; None where a rate would be 0 / 0.

    Parameters
    ----------
    matched, truths, detections : int
        Numbers of pairs, of true objects and of detections.

    Raises
    ------
    ValueError
        If there are more pairs than objects or detections.
    """
    if not 0 <= matched <= min(truths, detections):
        raise ValueError(
            f"expected at most {min(truths, detections)} one-to-one matches of {truths} objects "
            f"and {detections} detections; got {matched}"
        )
    return {
        "true_positives": matched,
        "false_positives": detections - matched,
        "false_negatives": truths - matched,
        "precision": matched / detections if detections else None,
        "recall": matched / truths if truths else None,
        "f1": 2 * matched / (truths + detections) if truths + detections else None,
    }


def best_pairs(truth: np.ndarray, detected: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """The one-to-one choice of candidate pairs with the largest sum of gains.

    Candidates form connected components that share no row. In a component in which all share one
    row the best is taken; small components are solved by the Hungarian method as a dense matrix,
    large ones by a sparse solver. Memory grows with the number of candidates, never with rows
    times rows. Of two choices with the same sum, either may be taken.

    Parameters
    ----------
    truth, detected : integer array, (N,)
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
        raise ValueError(f"expected finite gains above 0; got a smallest gain of {gain.min()}")
    rows = np.unique(truth, return_inverse=True)[1]
    columns = np.unique(detected, return_inverse=True)[1]
    chosen = [
        _solve(component, rows[component], columns[component], gain[component])
        for component in _components(rows, columns)
    ]
    at = np.concatenate(chosen)
    return at[np.argsort(truth[at], kind="stable")]


def _components(rows: np.ndarray, columns: np.ndarray) -> Iterator[np.ndarray]:
    """Positions of the candidates of each connected component, in order of row and column."""
    first = rows.max() + 1
    nodes = first + columns.max() + 1
    links = coo_array((np.ones(len(rows), np.int8), (rows, columns + first)), (nodes, nodes))
    component = connected_components(links, directed=False)[1][rows]
    order = np.lexsort((columns, rows, component))
    ends = np.flatnonzero(np.diff(component[order])) + 1
    yield from np.split(order, ends)


def _solve(
    component: np.ndarray, rows: np.ndarray, columns: np.ndarray, gain: np.ndarray
) -> np.ndarray:
    """The chosen candidates of one component."""
    if (rows == rows[0]).all() or (columns == columns[0]).all():
        return component[[np.argmax(gain)]]
    rows = np.unique(rows, return_inverse=True)[1]
    columns = np.unique(columns, return_inverse=True)[1]
    shape = (int(rows.max()) + 1, int(columns.max()) + 1)
    if shape[0] * shape[1] > DENSE:
        at, to = _solve_sparse(rows, columns, gain, shape)
    else:
        from scipy.optimize import linear_sum_assignment  # half a second to import

        matrix = np.zeros(shape)
        matrix[rows, columns] = gain
        at, to = linear_sum_assignment(matrix, maximize=True)
        real = matrix[at, to] > 0
        at, to = at[real], to[real]
    keys = rows * shape[1] + columns  # ascending, as the component is sorted
    chosen: np.ndarray = component[np.searchsorted(keys, at * shape[1] + to)]
    return chosen


def _solve_sparse(
    rows: np.ndarray, columns: np.ndarray, gain: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the best pairs of a large component.

    The solver minimises the cost, matches every row, and takes a cost of 0 for no candidate. So
    each row gets a column of its own without gain, and all costs are raised above 0.
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
