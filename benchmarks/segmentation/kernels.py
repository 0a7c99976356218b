"""Kernels of volflow against waterz, in pairs, on the same affinities, with one thread each.

    python -m benchmarks.segmentation.kernels [SECTIONS]

Two pairs on the first SECTIONS (default 125) sections of the baseline affinities of FIB-25:
fragments and region graph against waterz's watershed and region graph; and merging the same graph,
that of volflow's fragments, down to a score of 0.3. Each runs five times, in turns; the medians and
their ratio are printed.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

import h5py
import numpy as np
import waterz

from benchmarks.data import FIB25
from volflow.segment.agglomeration.contacts import RegionGraph, region_graph
from volflow.segment.agglomeration.greedy import merge_greedily
from volflow.segment.fragments import fragments

THRESHOLD = 0.3
ROUNDS = 5


def affinities(sections: int) -> np.ndarray:
    """The first sections of the baseline affinities, uint8, (3, Z, Y, X)."""
    with h5py.File(FIB25 / "affinity_baseline_z000-165.h5") as file:
        return np.asarray(file["affinity"][:, :sections])


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Suppress the standard output, also that of C++."""
    sys.stdout.flush()
    stdout, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(null)


def seconds(work: Callable[[], object]) -> tuple[float, object]:
    """Seconds of a call, and its result."""
    start = time.perf_counter()
    with silence():
        result = work()
    return time.perf_counter() - start, result


def ours(affinity: np.ndarray) -> RegionGraph:
    """The region graph of volflow's fragments."""
    return region_graph(fragments(affinity), affinity)


def theirs(affinity: np.ndarray, labels: np.ndarray | None = None) -> Iterator[tuple]:
    """An iterator of waterz, which builds its graph in the first step and merges in the second.

    A threshold of 0 merges nothing; waterz's scores are 1 - mean affinity.
    """
    return waterz.agglomerate(
        affinity,
        [0.0, 1 - THRESHOLD],
        fragments=labels,
        discretize_queue=0,
        return_merge_history=True,
    )


def pair_of_graphs(affinity: np.ndarray, floats: np.ndarray) -> tuple[float, float]:
    """Seconds for fragments and region graph, of volflow and of waterz."""
    return (
        seconds(lambda: ours(affinity))[0],
        seconds(lambda: next(theirs(floats)))[0],
    )


def pair_of_merges(
    labels: np.ndarray, graph: RegionGraph, floats: np.ndarray
) -> tuple[float, float, int, int]:
    """Seconds for merging the graph of `labels`, of volflow and waterz, and their clusters."""
    free = np.zeros(len(graph.id), bool)
    mine, merged = seconds(lambda: merge_greedily(graph.size, graph.edges, free, THRESHOLD))
    merging = theirs(floats, labels.copy())
    seconds(lambda: next(merging))
    other, step = seconds(lambda: next(merging))
    return mine, other, len(np.unique(merged.cluster)), len(graph.id) - len(step[1])


def main() -> None:
    affinity = affinities(int(sys.argv[1]) if len(sys.argv) > 1 else 125)
    floats = affinity.astype(np.float32) / 255
    labels = fragments(affinity)
    graph = region_graph(labels, affinity)
    merge_greedily(graph.size, graph.edges, np.zeros(len(graph.id), bool), 1.0)  # compiles
    print(f"{labels.size / 1e6:.1f} Mvoxel, {len(graph.id)} fragments, {len(graph.edges.a)} edges")
    rows: dict[str, list[tuple[float, float]]] = {"fragments + region graph": [], "merging": []}
    for _ in range(ROUNDS):
        rows["fragments + region graph"].append(pair_of_graphs(affinity, floats))
        mine, other, *clusters = pair_of_merges(labels, graph, floats)
        rows["merging"].append((mine, other))
    print(f"clusters at {THRESHOLD}: {clusters[0]} volflow, {clusters[1]} waterz")
    print(f"{'':26}{'volflow s':>10}{'waterz s':>10}{'ratio':>7}  (ratios)")
    for name, pairs in rows.items():
        mine, other = (median(column) for column in zip(*pairs, strict=True))
        ratios = sorted(theirs / ours for ours, theirs in pairs)
        spread = f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"{name:26}{mine:10.2f}{other:10.2f}{median(ratios):7.2f}  {spread}")


if __name__ == "__main__":
    main()
