"""Fragments joined by a multicut of their adjacency graph: all contacts weighed at once.

bioimage-cpp makes the graph and cuts it. The cut is global: it knows no blocks.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import numpy as np

PREVIOUS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
LEAST = 0.001  # probabilities are kept this far from 0 and 1, so that no cost is infinite


class Contacts(NamedTuple):
    """What fragments share.

    pairs : uint64, (E, 2)
        Two fragments that touch, the smaller first; in ascending order.
    boundary : float64, (E,), 0 to 1
        Mean boundary of all pairs of voxels that join the two.
    size : int64, (E,)
        How many such pairs there are.
    """

    pairs: np.ndarray
    boundary: np.ndarray
    size: np.ndarray


def library(part: str) -> Any:
    """A module of bioimage-cpp.

    Raises
    ------
    ImportError
        If it is not installed; says how to.
    """
    try:
        return importlib.import_module(f"bioimage_cpp.{part}")
    except ImportError as error:
        raise ImportError(
            "multicut is solved by bioimage-cpp, which is not installed: pip install '.[multicut]'"
        ) from error


def contacts(fragments: np.ndarray, boundary: np.ndarray) -> Contacts:
    """The contacts of fragments, across sections and within them.

    Parameters
    ----------
    fragments : uint64, (Z, Y, X)
        0 is no fragment and touches nothing.
    boundary : uint8, (3, Z, Y, X)
        `boundary[c, z, y, x]`, 0 to 255, lies between a voxel and the one before it along axis c.

    Raises
    ------
    ImportError
        If bioimage-cpp is not installed.
    ValueError
        If the arrays do not belong together.
    """
    if boundary.dtype != np.uint8 or boundary.shape != (3, *fragments.shape):
        raise ValueError(
            f"boundaries must be uint8 of shape {(3, *fragments.shape)}; "
            f"got {boundary.dtype} of {boundary.shape}"
        )
    graph = library("graph")
    regions = graph.region_adjacency_graph(fragments, number_of_threads=1)
    pairs = np.asarray(regions.uv_ids(), np.uint64).reshape(-1, 2)
    # whole numbers: their sums are exact, in whichever order the library takes them
    found = graph.features.affinity_features(
        regions, fragments, boundary.astype(np.float32), PREVIOUS, number_of_threads=1
    ).reshape(-1, 2)
    real = (pairs != 0).all(axis=1)
    return Contacts(pairs[real], found[real, 0] / 255, found[real, 1].astype(np.int64))


def edge_costs(boundary: np.ndarray, size: np.ndarray, beta: float) -> np.ndarray:
    """What it costs to cut each edge; negative where cutting is gain.

    Parameters
    ----------
    boundary : float64, (E,), 0 to 1
        How surely a boundary lies between two fragments.
    size : integer, (E,), at least 1
        Their contact; the largest counts in full.
    beta : float, between 0 and 1
        Below 0.5 joins more, above less.

    Returns
    -------
    float64, (E,)
        `(ln((1 - p) / p) + ln((1 - beta) / beta)) size / max(size)`, p the boundary scaled into
        0.001 to 0.999.

    Raises
    ------
    ValueError
        If beta is not between 0 and 1.

    References
    ----------
    Andres et al., Globally Optimal Closed-Surface Segmentation for Connectomics, ECCV 2012, for the
    costs; the scale and the weight by contact are those of python-elf, which SegNeuron calls.
    """
    if not 0 < beta < 1:
        raise ValueError(f"beta must lie between 0 and 1; got {beta}")
    if not len(boundary):
        return np.zeros(0)
    p = LEAST + (1 - 2 * LEAST) * boundary.astype(np.float64)
    found: np.ndarray = (np.log((1 - p) / p) + np.log((1 - beta) / beta)) * (size / size.max())
    return found


def multicut(nodes: int, pairs: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """A partition of a graph of small total cost of the edges that it cuts.

    Greedy joining of the dearest edge first, then moves between two parts as of Kernighan and
    Lin. The least cost is hard to find (NP-hard); what is found need not be it.

    Parameters
    ----------
    nodes : int
    pairs : uint64, (E, 2)
        Edges between nodes 0 to `nodes` - 1, each once.
    costs : float64, (E,)
        What it costs to cut each.

    Returns
    -------
    uint64, (nodes,)
        The part of each node; edges lead between parts or within one.

    Raises
    ------
    ImportError
        If bioimage-cpp is not installed.
    ValueError
        If a cost is not finite, or there is not one for each edge.

    References
    ----------
    Keuper et al., Efficient Decomposition of Image and Mesh Graphs by Lifted Multicuts, ICCV 2015:
    greedy additive edge contraction, and the extended Kernighan-Lin algorithm.
    """
    if len(costs) != len(pairs) or not np.isfinite(costs).all():
        raise ValueError(f"{len(pairs)} edges need as many finite costs; got {len(costs)}")
    if not len(pairs):
        return np.arange(nodes, dtype=np.uint64)
    graph = library("graph")
    made = graph.UndirectedGraph.from_edges(nodes, np.ascontiguousarray(pairs, np.uint64))
    aim = graph.multicut.MulticutObjective(made, np.asarray(costs, np.float64))
    graph.multicut.GreedyAdditiveMulticut().optimize(aim)
    return np.asarray(graph.multicut.KernighanLinMulticut().optimize(aim), np.uint64)


def named_by_last_voxel(labels: np.ndarray) -> np.ndarray:
    """Labels under names that do not depend on how they were counted.

    Parameters
    ----------
    labels : unsigned integer, (Z, Y, X)
        Small numbers; 0 stays 0.

    Returns
    -------
    uint64, (Z, Y, X)
        1 + the C-order index of the last voxel of the same label.
    """
    last = np.zeros(int(labels.max(initial=0)) + 1, np.uint64)
    last[labels.ravel()] = np.arange(1, labels.size + 1, dtype=np.uint64)  # the last one stays
    last[0] = 0
    return np.asarray(last[labels])
