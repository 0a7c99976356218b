"""Agglomeration that asks affinities 9 voxels apart as well: what it would gain on FIB-25.

    python -m benchmarks.far_contacts [--share 0.5 ...] [--trained]

The score of a contact is here (1 - share) times the mean affinity of its touching voxel pairs plus
share times that of all pairs of voxels 9 apart along an axis with one voxel in each segment. Two
segments that do not touch are not joined, but what their pairs say counts once they do. The stage
`agglomerate` cannot do this: a join may make a contact that beats both of those it came from, so
its proof that blocks can go ahead alone does not hold. So this is a run over whole sections in
memory, slow and plain, that says whether it is worth the trouble. Settings are chosen on sections
120-135 and reported on 135-165, each shown alone, one look; `share` 0 is `agglomerate`. With
`--trained`: the mean over the four slabs of 30 sections that the network was trained on, for each
threshold, to see whether what is gained on one slab is gained on others.
"""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.quality import THRESHOLDS, fib25, flood_filling
from volflow.checkpoints.find import WEIGHTS
from volflow.models.checkpoint import load_checkpoint
from volflow.models.inference import Inference
from volflow.segment.agglomeration.contacts import number_labels, region_graph
from volflow.segment.agglomeration.greedy import agglomerate
from volflow.train.data.sources import open_source
from volflow.train.validation.evaluate import MIN_SIZE_SCORE, InMemoryPipeline, predicted, score

NEAR, FAR, DISTANCE = (0, 1, 2), (6, 7, 8), 9  # channels of fib25-lsd
MIN_SIZES = (500, 1000)
SAME = (0.2, 500)  # a setting at which all are compared
UNJOINED = 2.0  # no contact scores this
CHOSEN, REPORTED = "120:135", "135:165"
TRAINED = ("0:30", "30:60", "60:90", "90:120")
MIDDLE = (0.15, 0.2, 0.25, 0.3, 0.35)  # thresholds
Sums = tuple[int, int, int, int]  # affinity and pairs, touching and far


def far_sums(numbers: np.ndarray, affinity: np.ndarray, distance: int) -> np.ndarray:
    """Pairs of voxels some distance apart that lie in different segments, by pair of segments.

    Parameters
    ----------
    numbers : int32, (Z, Y, X)
        Segments from 0 on; -1 is none.
    affinity : uint8, (3, Z, Y, X)
        `affinity[c]` joins a voxel with that `distance` before it along axis c.

    Returns
    -------
    int64, (P, 4)
        The smaller and the larger segment, the sum of affinities, the number of pairs.
    """
    rows = [np.zeros((0, 3), np.int64)]
    for axis in range(3):
        after = np.moveaxis(numbers, axis, 0)[distance:].ravel().astype(np.int64)
        before = np.moveaxis(numbers, axis, 0)[:-distance].ravel().astype(np.int64)
        value = np.moveaxis(affinity[axis], axis, 0)[distance:].ravel().astype(np.int64)
        apart = (after != before) & (after >= 0) & (before >= 0)
        ends = np.sort(np.stack([after[apart], before[apart]], 1), axis=1)
        rows.append(np.column_stack([ends, value[apart]]))
    low, high, value = np.concatenate(rows).T
    pair, at = np.unique(low << 32 | high, return_inverse=True)
    total = np.zeros(len(pair), np.int64)
    np.add.at(total, at, value)
    count = np.bincount(at, minlength=len(pair))
    return np.column_stack([pair >> 32, pair & 0xFFFFFFFF, total, count])


def worth(sums: Sums, share: float) -> float:
    """The score of a contact; below any threshold where nothing touches."""
    near, touching, far, pairs = sums
    if not touching:
        return -1.0
    mean = near / (255 * touching)
    return mean if not pairs else (1 - share) * mean + share * far / (255 * pairs)


def joined(
    count: int, edges: dict[tuple[int, int], Sums], share: float, thresholds: tuple[float, ...]
) -> Iterator[tuple[float, np.ndarray]]:
    """Best first, down to each of some thresholds in turn: the largest segment each one is in."""
    around: list[dict[int, Sums]] = [{} for _ in range(count)]
    for (low, high), sums in edges.items():
        around[low][high] = around[high][low] = sums
    least = min(thresholds)
    heap = [(-worth(s, share), high, low, s) for (low, high), s in edges.items()]
    heap = [entry for entry in heap if -entry[0] >= least]
    heapq.heapify(heap)
    cluster = np.arange(count)
    for threshold in sorted(thresholds, reverse=True):
        while heap and -heap[0][0] >= threshold:
            _, high, low, sums = heapq.heappop(heap)
            if around[high].get(low) != sums:  # joined since, or its sums have grown
                continue
            del around[high][low], around[low][high]
            cluster[cluster == low] = high
            for other, theirs in around[low].items():
                ours = around[high].get(other, (0, 0, 0, 0))
                near, touching, far, pairs = (a + b for a, b in zip(ours, theirs, strict=True))
                both = (near, touching, far, pairs)
                del around[other][low]
                around[high][other] = around[other][high] = both
                if worth(both, share) >= least:
                    ends = max(high, other), min(high, other)
                    heapq.heappush(heap, (-worth(both, share), *ends, both))
            around[low] = {}
        yield threshold, cluster.copy()


def trials(network: Inference, sections: str, share: float) -> dict[tuple[float, int], float]:
    """VI by threshold and `min_size`."""
    source = open_source(fib25(sections), network.header.normalisation)
    affinity = predicted(network, source.image)
    near, far = (np.ascontiguousarray(affinity[list(channels)]) for channels in (NEAR, FAR))
    clusters = InMemoryPipeline(near).segmentation(UNJOINED)
    _, _, numbers = number_labels(clusters)
    graph = region_graph(clusters, near)
    edges: dict[tuple[int, int], Sums] = {}
    for low, high, total, touching in zip(*(c.tolist() for c in graph.edges), strict=True):
        edges[low, high] = total, touching, 0, 0
    if share:
        for low, high, total, pairs in far_sums(numbers, far, DISTANCE).tolist():
            edges[low, high] = (*edges.get((low, high), (0, 0, 0, 0))[:2], total, pairs)
    found = {}
    for threshold, cluster in joined(len(graph.id), edges, share, THRESHOLDS):
        labels = graph.id[cluster][numbers]
        whole = region_graph(labels, near)
        a, b = whole.id[whole.edges.a], whole.id[whole.edges.b]
        for min_size in MIN_SIZES:
            columns = (whole.id, whole.size, a, b, whole.edges.affinity_sum, whole.edges.contact)
            larger = agglomerate(*columns, MIN_SIZE_SCORE, min_size=min_size)
            segments = larger[np.searchsorted(whole.id, labels)]
            found[threshold, min_size] = score(segments, source.truth, threshold).vi
    return found


def over_slabs(network: Inference, shares: list[float]) -> Iterator[str]:
    """Rows of a table: the mean VI over the slabs trained on, by threshold."""
    yield f"| share | {' | '.join(f'{t:g}, {SAME[1]}' for t in MIDDLE)} |"
    yield "|---" * (len(MIDDLE) + 1) + "|"
    for share in shares:
        found = [trials(network, slab, share) for slab in TRAINED]
        means = (np.mean([vi[threshold, SAME[1]] for vi in found]) for threshold in MIDDLE)
        yield f"| {share:g} | {' | '.join(f'{mean:.3f}' for mean in means)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS / "fib25-lsd.safetensors")
    parser.add_argument("--share", type=float, nargs="+", default=[0.0, 0.25, 0.4, 0.5, 0.6])
    parser.add_argument("--trained", action="store_true")
    how = parser.parse_args()
    checkpoint, header = load_checkpoint(how.weights)
    network = Inference(checkpoint, header, tuple(range(12)), "cpu")
    if how.trained:
        for row in over_slabs(network, how.share):
            print(row, flush=True)
        return
    theirs = flood_filling(REPORTED).vi
    print(
        "| share | threshold, `min_size` | VI on 120-135 | on 135-165 | of flood filling's | "
        f"at {SAME[0]:g}, {SAME[1]} |\n|---|---|---|---|---|---|"
    )
    for share in how.share:
        first, second = (trials(network, sections, share) for sections in (CHOSEN, REPORTED))
        setting = min(first, key=first.__getitem__)
        least, there = first[setting], second[setting]
        print(
            f"| {share:g} | {setting[0]:g}, {setting[1]} | {least:.3f} | {there:.3f} | "
            f"{there / theirs:.3f} | {second[SAME]:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
