"""Agglomeration that also uses affinities 9 voxels apart, and its gain on FIB-25.

    python -m benchmarks.segmentation.far_contacts [--share 0.5 ...] [--trained]

The score of a contact is (1 - share) times the mean affinity of its touching voxel pairs plus share
times the mean of all pairs of voxels 9 apart along an axis with one voxel in each segment. Segments
that do not touch are not joined, but their pairs count once they do. The stage `agglomerate` cannot
do this: a join may create a contact that scores higher than both of those it came from, so the
proof that blocks are independent does not hold. This is therefore a slow, plain implementation in
memory, over whole sections, to find out whether it is worth the effort.

Settings are chosen on sections 120-135 and reported on 135-165, each segmented alone, without
flips; `share` 0 is `agglomerate`. With `--trained`: the mean over the four slabs of 30 sections
that the network was trained on, for each threshold, to compare the gains of different slabs.
"""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.networks.quality import THRESHOLDS, fib25, flood_filling
from volflow.checkpoints.find import WEIGHTS
from volflow.models.checkpoint import load_checkpoint
from volflow.models.inference import Inference
from volflow.segment.agglomeration.contacts import number_labels, region_graph
from volflow.segment.agglomeration.greedy import agglomerate
from volflow.train.data.sources import open_source
from volflow.train.validation.evaluate import MIN_SIZE_SCORE, InMemoryPipeline, predicted, score

NEAR, FAR, DISTANCE = (0, 1, 2), (6, 7, 8), 9  # channels of fib25-lsd
MIN_SIZES = (500, 1000)
SAME = (0.2, 500)  # a common setting of all comparisons
UNJOINED = 2.0  # above the score of any contact
CHOSEN, REPORTED = "120:135", "135:165"
TRAINED = ("0:30", "30:60", "60:90", "90:120")
MIDDLE = (0.15, 0.2, 0.25, 0.3, 0.35)  # thresholds
Sums = tuple[int, int, int, int]  # sum and number of pairs, touching and far


def far_sums(numbers: np.ndarray, affinity: np.ndarray, distance: int) -> np.ndarray:
    """Sums over pairs of voxels at a distance in different segments, by pair of segments.

    Parameters
    ----------
    numbers : int32, (Z, Y, X)
        Segments, numbered from 0; -1 is none.
    affinity : uint8, (3, Z, Y, X)
        `affinity[c]` joins a voxel with the one `distance` voxels before it along axis c.

    Returns
    -------
    int64, (P, 4)
        The smaller and the larger segment, the sum of affinities, and the number of pairs.
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


def contact_score(sums: Sums, share: float) -> float:
    """The score of a contact; below any threshold if the segments do not touch."""
    near, touching, far, pairs = sums
    if not touching:
        return -1.0
    mean = near / (255 * touching)
    return mean if not pairs else (1 - share) * mean + share * far / (255 * pairs)


def join_segments(
    count: int, edges: dict[tuple[int, int], Sums], share: float, thresholds: tuple[float, ...]
) -> Iterator[tuple[float, np.ndarray]]:
    """Join best first, down to each threshold in turn; yield the cluster of each segment."""
    contacts: list[dict[int, Sums]] = [{} for _ in range(count)]
    for (low, high), sums in edges.items():
        contacts[low][high] = contacts[high][low] = sums
    lowest = min(thresholds)
    heap = [(-contact_score(s, share), high, low, s) for (low, high), s in edges.items()]
    heap = [entry for entry in heap if -entry[0] >= lowest]
    heapq.heapify(heap)
    cluster = np.arange(count)
    for threshold in sorted(thresholds, reverse=True):
        while heap and -heap[0][0] >= threshold:
            _, high, low, sums = heapq.heappop(heap)
            if contacts[high].get(low) != sums:  # joined since, or its sums have changed
                continue
            del contacts[high][low], contacts[low][high]
            cluster[cluster == low] = high
            for other, theirs in contacts[low].items():
                ours = contacts[high].get(other, (0, 0, 0, 0))
                near, touching, far, pairs = (a + b for a, b in zip(ours, theirs, strict=True))
                both = (near, touching, far, pairs)
                del contacts[other][low]
                contacts[high][other] = contacts[other][high] = both
                if contact_score(both, share) >= lowest:
                    ends = max(high, other), min(high, other)
                    heapq.heappush(heap, (-contact_score(both, share), *ends, both))
            contacts[low] = {}
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
    vis = {}
    for threshold, cluster in join_segments(len(graph.id), edges, share, THRESHOLDS):
        labels = graph.id[cluster][numbers]
        whole = region_graph(labels, near)
        a, b = whole.id[whole.edges.a], whole.id[whole.edges.b]
        for min_size in MIN_SIZES:
            columns = (whole.id, whole.size, a, b, whole.edges.affinity_sum, whole.edges.contact)
            larger = agglomerate(*columns, MIN_SIZE_SCORE, min_size=min_size)
            segments = larger[np.searchsorted(whole.id, labels)]
            vis[threshold, min_size] = score(segments, source.truth, threshold).vi
    return vis


def over_slabs(network: Inference, shares: list[float]) -> Iterator[str]:
    """Rows of a table: mean VI over the training slabs, by threshold."""
    yield f"| share | {' | '.join(f'{t:g}, {SAME[1]}' for t in MIDDLE)} |"
    yield "|---" * (len(MIDDLE) + 1) + "|"
    for share in shares:
        slabs = [trials(network, slab, share) for slab in TRAINED]
        means = (np.mean([vis[threshold, SAME[1]] for vis in slabs]) for threshold in MIDDLE)
        yield f"| {share:g} | {' | '.join(f'{mean:.3f}' for mean in means)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS / "fib25-lsd.safetensors")
    parser.add_argument("--share", type=float, nargs="+", default=[0.0, 0.25, 0.4, 0.5, 0.6])
    parser.add_argument("--trained", action="store_true")
    arguments = parser.parse_args()
    checkpoint, header = load_checkpoint(arguments.weights)
    network = Inference(checkpoint, header, tuple(range(12)), "cpu")
    if arguments.trained:
        for row in over_slabs(network, arguments.share):
            print(row, flush=True)
        return
    theirs = flood_filling(REPORTED).vi
    print(
        "| share | threshold, `min_size` | VI on 120-135 | on 135-165 | of flood filling's | "
        f"at {SAME[0]:g}, {SAME[1]} |\n|---|---|---|---|---|---|"
    )
    for share in arguments.share:
        first, second = (trials(network, sections, share) for sections in (CHOSEN, REPORTED))
        setting = min(first, key=first.__getitem__)
        chosen_vi, vi = first[setting], second[setting]
        print(
            f"| {share:g} | {setting[0]:g}, {setting[1]} | {chosen_vi:.3f} | {vi:.3f} | "
            f"{vi / theirs:.3f} | {second[SAME]:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
