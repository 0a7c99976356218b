"""Predictions of a network over a volume in memory, and the segmentation of its affinities.

The segmentation is that of the exact pipeline with a single block, the whole volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from volflow.core.geometry import Box, Triple, zyx
from volflow.metrics.voxels.contingency import contingency, scores
from volflow.models.inference import Inference
from volflow.predict.flips import average_over_flips
from volflow.predict.tiling import Tiling, fitted_tile, predict_tiles
from volflow.segment.agglomeration.block_graph import block_graph
from volflow.segment.agglomeration.graph_tables import BlockGraph
from volflow.segment.agglomeration.rounds import join_best, merge_down
from volflow.segment.fragments import fragments
from volflow.segment.relabel import relabel

JOIN_SCORE, MIN_SIZE_SCORE = 0.5, 0.02  # the defaults of the stage `agglomerate`


@dataclass(frozen=True)
class Score:
    """The scores of a segmentation against the truth: VI in bits, adapted Rand error in [0, 1]."""

    threshold: float
    vi_split: float
    vi_merge: float
    vi: float
    arand: float


def predicted(
    network: Inference, image: np.ndarray, flips: str = "", tile: Triple | None = None
) -> np.ndarray:
    """Probabilities over a whole volume, as the stage `predict` writes them.

    Parameters
    ----------
    network : Inference
    image : float32, (Z, Y, X)
        Normalised intensities.
    flips : str
        Axes, a part of `zyx`, over whose flips predictions are averaged.
    tile : Triple, optional
        Shape of an input tile, voxels; default: the header's.

    Returns
    -------
    uint8, (C, Z, Y, X)
        C is the number of channels of the inference.
    """
    header = network.header
    bounds = Box((0, 0, 0), zyx(image.shape))
    tile = fitted_tile(tile or header.input_tile, header.halo, header.total_stride, bounds)
    output_tile = zyx(tile) - zyx(header.halo) * 2
    channels = network.channels
    pairs, odd = [header.pairs[c] for c in channels], [header.odd[c] for c in channels]
    total = [sum(header.ranges[c]) for c in channels]
    probabilities = predict_tiles(
        image,
        bounds,
        bounds,
        Tiling(bounds, tile, header.halo, output_tile, header.padding),
        average_over_flips(network, flips, pairs, odd, total),
        channels=len(pairs),
        batch=header.batch,
    )
    quantised: np.ndarray = np.rint(probabilities * 255).astype(np.uint8)
    return quantised


class InMemoryPipeline:
    """The exact pipeline over one volume in memory, up to where thresholds matter.

    Parameters
    ----------
    affinity : uint8, (3, Z, Y, X)
        `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.
    join_rounds : int
        As in the stage `agglomerate`.
    low : int
        As in the stage `fragments`.
    """

    def __init__(self, affinity: np.ndarray, join_rounds: int = 1, low: int = 1) -> None:
        self.pieces = fragments(affinity, low)
        z, y, x = self.pieces.shape
        none = np.zeros((y, x), bool), np.zeros((z, x), bool), np.zeros((z, y), bool)
        graph = block_graph(np.pad(self.pieces, [(1, 1)] * 3), affinity, none, 0)
        # There is no neighbouring block that needs pieces.
        graph = graph.with_pieces(np.zeros(len(graph.piece), bool))
        self.names = graph.id
        self.graph, self.component = graph, graph.id
        for _ in range(join_rounds):
            self._advance(join_best(self.graph, JOIN_SCORE).component)

    def _advance(self, component: np.ndarray) -> None:
        self.component = _renamed(self.graph, component, self.component)
        self.graph = _contracted(self.graph, component)

    def segmentation(self, threshold: float, min_size: int = 0) -> np.ndarray:
        """Segments of the volume, uint64 (Z, Y, X)."""
        graph, component = self.graph, self.component
        runs = [(threshold, 0)] + ([(MIN_SIZE_SCORE, min_size)] if min_size else [])
        for least, size in runs:
            merged = merge_down(graph, least, size).component
            component = _renamed(graph, merged, component)
            graph = _contracted(graph, merged)
        return relabel(self.pieces, self.names, component)


def best_score(
    affinity: np.ndarray, truth: np.ndarray, thresholds: Sequence[float], min_size: int
) -> Score:
    """The segmentation of the best threshold, by variation of information.

    Parameters
    ----------
    affinity : uint8, (3, Z, Y, X)
    truth : int32, (Z, Y, X)
        Only voxels above 0 count.
    """
    pipeline = InMemoryPipeline(affinity)
    return min(
        (score(pipeline.segmentation(at, min_size), truth, at) for at in thresholds),
        key=lambda candidate: candidate.vi,
    )


def score(segmentation: np.ndarray, truth: np.ndarray, threshold: float) -> Score:
    """The scores of a segmentation made with a threshold."""
    values = scores(contingency(np.maximum(truth, 0).astype(np.uint64), segmentation))
    split, merge, vi, arand = (
        float(values[name] or 0) for name in ("vi_split", "vi_merge", "vi", "arand")
    )
    return Score(threshold, split, merge, vi, arand)


def _renamed(graph: BlockGraph, component: np.ndarray, names: np.ndarray) -> np.ndarray:
    order = np.argsort(graph.id)
    return component[order[np.searchsorted(graph.id[order], names)]]


def _contracted(graph: BlockGraph, component: np.ndarray) -> BlockGraph:
    return replace(graph, component=component).contracted()
