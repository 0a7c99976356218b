"""Fragments joined by a multicut of their region adjacency graph.

bioimage-cpp builds the graph and solves the multicut. The solution is global, not block by block.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import numpy as np

PREVIOUS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
LEAST = 0.001  # probabilities stay this far from 0 and 1, so that all costs are finite


class Contacts(NamedTuple):
    """Contacts between fragments, one row per pair of fragments that touch.

    pairs : uint64, (E, 2)
        The two fragments, the smaller id first; rows are in ascending order.
    boundary : float64, (E,), 0 to 1
        Mean boundary probability over the pairs of voxels across the contact.
    size : int64, (E,)
        Number of such pairs of voxels.
    """

    pairs: np.ndarray
    boundary: np.ndarray
    size: np.ndarray


def library(part: str) -> Any:
    """The submodule `part` of bioimage-cpp.

    Raises
    ------
    ImportError
        If bioimage-cpp is not installed; the message gives the command that installs it.
    """
    try:
        return importlib.import_module(f"bioimage_cpp.{part}")
    except ImportError as error:
        raise ImportError(
            "the multicut solver bioimage-cpp is not installed; pip install '.[multicut]'"
        ) from error


def contacts(fragments: np.ndarray, boundary: np.ndarray) -> Contacts:
    """The contacts of fragments, across sections and within them.

    Parameters
    ----------
    fragments : uint64, (Z, Y, X)
        0 is background and has no contacts.
    boundary : uint8, (3, Z, Y, X)
        `boundary[c, z, y, x]` is `round(255 p)`, p the probability of a boundary between a voxel
        and the one before it along axis c.

    Returns
    -------
    Contacts
        One row per pair of touching fragments.

    Raises
    ------
    ImportError
        If bioimage-cpp is not installed.
    ValueError
        If the dtype or the shape of `boundary` is wrong.
    """
    if boundary.dtype != np.uint8 or boundary.shape != (3, *fragments.shape):
        raise ValueError(
            f"expected uint8 boundaries of shape {(3, *fragments.shape)}; "
            f"got {boundary.dtype} of {boundary.shape}"
        )
    graph = library("graph")
    regions = graph.region_adjacency_graph(fragments, number_of_threads=1)
    pairs = np.asarray(regions.uv_ids(), np.uint64).reshape(-1, 2)
    # Integer values: sums in float32 are exact in any order of summation.
    features = graph.features.affinity_features(
        regions, fragments, boundary.astype(np.float32), PREVIOUS, number_of_threads=1
    ).reshape(-1, 2)
    labelled = (pairs != 0).all(axis=1)
    return Contacts(
        pairs[labelled], features[labelled, 0] / 255, features[labelled, 1].astype(np.int64)
    )


def edge_costs(boundary: np.ndarray, size: np.ndarray, beta: float) -> np.ndarray:
    """Cost of cutting each edge; negative where cutting lowers the total.

    Parameters
    ----------
    boundary : float64, (E,), 0 to 1
        Mean probability of a boundary between the two fragments.
    size : integer, (E,), at least 1
        Size of their contact in pairs of voxels; the largest contact has weight 1.
    beta : float, between 0 and 1, exclusive
        Bias: below 0.5 joins more, above 0.5 less.

    Returns
    -------
    float64, (E,)
        `(ln((1 - p) / p) + ln((1 - beta) / beta)) size / max(size)`, where p is `boundary`
        rescaled to 0.001 to 0.999.

    Raises
    ------
    ValueError
        If beta is not between 0 and 1.

    References
    ----------
    Costs: Andres et al., Globally Optimal Closed-Surface Segmentation for Connectomics, ECCV 2012.
    Rescaling and weighting by contact size follow python-elf, which SegNeuron uses.
    """
    if not 0 < beta < 1:
        raise ValueError(f"expected beta between 0 and 1, exclusive; got {beta}")
    if not len(boundary):
        return np.zeros(0)
    p = LEAST + (1 - 2 * LEAST) * boundary.astype(np.float64)
    costs: np.ndarray = (np.log((1 - p) / p) + np.log((1 - beta) / beta)) * (size / size.max())
    return costs


def multicut(nodes: int, pairs: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """A partition of a graph with a low total cost of the edges that it cuts.

    Edges are contracted greedily, the most expensive first; Kernighan-Lin moves between pairs of
    parts then improve the partition. The problem is NP-hard, so the result is a good partition
    and not necessarily the optimal one.

    Parameters
    ----------
    nodes : int
        Number of nodes.
    pairs : uint64, (E, 2)
        Edges between nodes 0 to `nodes` - 1, each once.
    costs : float64, (E,)
        Cost of cutting each edge, finite.

    Returns
    -------
    uint64, (nodes,)
        The part of each node.

    Raises
    ------
    ImportError
        If bioimage-cpp is not installed.
    ValueError
        If a cost is not finite, or the number of costs is not that of the edges.

    References
    ----------
    Keuper et al., Efficient Decomposition of Image and Mesh Graphs by Lifted Multicuts, ICCV 2015:
    greedy additive edge contraction, and the extended Kernighan-Lin algorithm.
    """
    if len(costs) != len(pairs) or not np.isfinite(costs).all():
        raise ValueError(f"expected {len(pairs)} finite costs, one per edge; got {len(costs)}")
    if not len(pairs):
        return np.arange(nodes, dtype=np.uint64)
    graph = library("graph")
    adjacency = graph.UndirectedGraph.from_edges(nodes, np.ascontiguousarray(pairs, np.uint64))
    objective = graph.multicut.MulticutObjective(adjacency, np.asarray(costs, np.float64))
    graph.multicut.GreedyAdditiveMulticut().optimize(objective)
    return np.asarray(graph.multicut.KernighanLinMulticut().optimize(objective), np.uint64)


def named_by_last_voxel(labels: np.ndarray) -> np.ndarray:
    """Labels renamed after their last voxel, independently of the given numbering.

    Parameters
    ----------
    labels : unsigned integer, (Z, Y, X)
        Small integers; 0 stays 0.

    Returns
    -------
    uint64, (Z, Y, X)
        1 + the C-order index of the last voxel of the same label.
    """
    last = np.zeros(int(labels.max(initial=0)) + 1, np.uint64)
    last[labels.ravel()] = np.arange(1, labels.size + 1, dtype=np.uint64)  # the last write wins
    last[0] = 0
    return np.asarray(last[labels])
