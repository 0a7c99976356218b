"""Segments of single sections from affinities: the first masks of objects, and a baseline."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from volflow.segment.agglomeration.block_graph import block_graph
from volflow.segment.agglomeration.graph_tables import BlockGraph
from volflow.segment.agglomeration.rounds import Step, join_best, merge_down
from volflow.segment.fragments import fragments
from volflow.segment.relabel import relabel

JOIN_SCORE = 0.5  # the default of the stage `agglomerate`


def section_segments(affinity: np.ndarray, threshold: float, low: int = 1) -> np.ndarray:
    """Segments of one section, by the method of the stages `fragments` and `agglomerate`.

    Parameters
    ----------
    affinity : uint8, (3, Y, X)
        Affinities z, y, x; those along z are not used.
    threshold : float, 0 to 1
        Mean affinity of a contact below which segments do not merge.
    low : int, 0 to 255
        Pixels whose strongest affinity is below this stay background.

    Returns
    -------
    int32, (Y, X)
        Segments numbered from 1 in row-major order of their last pixels; 0 is background.
    """
    flat = affinity[:, None].copy()
    flat[0] = 0
    labels = fragments(flat, low)
    graph = _graph(labels, flat)
    graph, labels = _joined(graph, labels, join_best(graph, JOIN_SCORE))
    graph, labels = _joined(graph, labels, merge_down(graph, threshold))
    numbers = np.unique(labels, return_inverse=True)[1].reshape(labels.shape[1:])
    if not (labels == 0).any():
        numbers = numbers + 1
    return numbers.astype(np.int32)


def _graph(labels: np.ndarray, affinity: np.ndarray) -> BlockGraph:
    z, y, x = labels.shape
    none = np.zeros((y, x), bool), np.zeros((z, x), bool), np.zeros((z, y), bool)
    graph = block_graph(np.pad(labels, 1), affinity, none, 0)
    return graph.with_pieces(np.zeros(len(graph.piece), bool))


def _joined(graph: BlockGraph, labels: np.ndarray, step: Step) -> tuple[BlockGraph, np.ndarray]:
    """The graph of the clusters after a step, and the labels renamed to them."""
    after = replace(graph, component=step.component)
    return after.contracted(), relabel(labels, graph.id, step.component)
