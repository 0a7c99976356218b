"""Run lengths of published data: what others found on it, and real neurons."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from tests.public_data import public_data
from volflow.core.skeleton import Skeleton, from_edges, resampled
from volflow.io.skeletons.sets import SkeletonSet
from volflow.metrics.skeletons.errors import merged_segments, split_edges
from volflow.metrics.skeletons.forest import SkeletonForest
from volflow.metrics.skeletons.nodes_at_synapses import synapse_nodes
from volflow.metrics.skeletons.run_length import (
    erl,
    expected_run_length,
    merged_labels,
    run_lengths,
)

# --- em_erl: two tubes, one of them cut, the other run into a region that is not to be merged -----


class Tubes:
    """The graph of the truth, and what the prediction has at its nodes."""

    def __init__(self, place: Path) -> None:
        with np.load(place / "gt_graph.npz", allow_pickle=False) as graph:
            self.nodes = graph["nodes"].astype(np.int64)
            self.lengths = graph["skeleton_len"]
            self.edges = [graph["edges_0"], graph["edges_1"]]
        skeletons = []
        for number, edges in enumerate(self.edges):
            own = np.flatnonzero(self.nodes[:, 0] == number)
            pairs = edges[:, :2].astype(np.int64) - own[0]
            skeletons.append(from_edges(self.nodes[own, 1:].astype(float), pairs, name=number + 1))
        self.forest = SkeletonForest.of(skeletons)
        voxel = tuple(self.nodes[:, 1:].T // 30)
        with h5py.File(place / "vol_pred.h5") as file:
            segmentation = file["main"][()]
        with h5py.File(place / "vol_no-mask.h5") as file:
            self.elsewhere = segmentation[file["main"][()] > 0]
        self.label = segmentation[voxel]

    def theirs(self, label: np.ndarray, threshold: int, forbidden: list[int]) -> list[float]:
        """Run length of each skeleton as em_erl defines it.

        A segment merges if at least two skeletons have `threshold` nodes or more in it; a skeleton
        with any node in one that merges, or is forbidden, scores nothing at all.
        """
        actual = []
        inside = [label[self.nodes[:, 0] == number].tolist() for number in range(2)]
        for number, edges in enumerate(self.edges):
            bad = set(forbidden)
            for segment in set(inside[number]):
                if all(inside[n].count(segment) >= max(threshold, 1) for n in range(2)):
                    bad.add(segment)
            runs: dict[int, float] = {}
            for a, b, length in edges.tolist():
                if label[int(a)] == label[int(b)]:
                    runs[label[int(a)]] = runs.get(label[int(a)], 0.0) + length
            squares = sum(run * run for run in runs.values())
            spoilt = bad & set(inside[number])
            actual.append(0.0 if spoilt else squares / self.lengths[number])
        return actual


@pytest.fixture(scope="module")
def tubes() -> Tubes:
    return Tubes(public_data("em_erl_fixture"))


def test_em_erl_lengths(tubes: Tubes) -> None:
    runs = run_lengths(tubes.forest, tubes.label)
    assert runs.scale == pytest.approx(tubes.lengths, abs=1e-9)
    assert [len(s) for s in tubes.edges] == [103, 99]
    assert sorted(zip(runs.label.tolist(), runs.skeleton.tolist(), strict=True)) == [
        (1, 0),
        (2, 1),
        (4, 0),
    ]


def test_em_erl_with_and_without_its_mask(tubes: Tubes) -> None:
    plain = erl(tubes.forest, tubes.label)
    assert plain.skeletons == pytest.approx(tubes.theirs(tubes.label, 0, []), abs=1e-9)
    # both halves of the first tube by themselves, the second whole: 2.95 of 4.17 micrometres
    assert plain.overall == pytest.approx(2952.016120, abs=1e-6)
    assert plain.maximum == pytest.approx(4166.812678, abs=1e-6)
    beyond = np.unique(tubes.elsewhere[tubes.elsewhere > 0])
    assert 2 in beyond
    masked = erl(tubes.forest, tubes.label, forbidden=beyond)
    theirs = tubes.theirs(tubes.label, 0, beyond.tolist())
    assert masked.skeletons == pytest.approx(theirs, abs=1e-9)
    assert masked.skeletons[1] == 0
    assert masked.overall == pytest.approx(1170.186547, abs=1e-6)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.integers(0, 2**32), st.integers(0, 20))
def test_em_erl_on_its_graph_with_any_labels(tubes: Tubes, seed: int, threshold: int) -> None:
    random = np.random.default_rng(seed)
    label = np.sort(random.integers(1, 9, len(tubes.label)))
    stray = random.integers(0, len(label), random.integers(0, 12))
    label[stray] = label[random.permutation(stray)]
    ours = erl(tubes.forest, label, rule="nodes", tau=threshold).skeletons
    theirs = tubes.theirs(label, threshold, [])
    runs = run_lengths(tubes.forest, label)
    merged = merged_labels(runs, "nodes", threshold)
    for number in range(2):
        cube_range = np.isin(merged, label[tubes.nodes[:, 0] == number]).any()
        if cube_range:  # they drop the whole skeleton, we the merged run
            assert theirs[number] == 0 <= ours[number]
        else:
            assert ours[number] == pytest.approx(theirs[number], abs=1e-9)


# --- ExaSPIM: published results, without the segmentation they were found on ----------------------


def read_swc(place: Path, options: str = "axis_order=zyx&unit_nm=1") -> dict[str, Skeleton]:
    actual = SkeletonSet.open(f"swc://{place}?{options}")
    named = zip(actual.titles.values(), actual.read_all()[0], strict=True)
    return {Path(title).stem: skeleton for title, skeleton in named}


@pytest.fixture(scope="module")
def published() -> tuple[dict[str, Skeleton], dict[str, dict[str, str]]]:
    place = public_data("exaspim_swc_pairs")
    with (place / "results.csv").open(newline="") as file:
        rows = {row[""]: row for row in csv.DictReader(file)}
    return read_swc(place / "target_swcs.zip"), rows


def test_exaspim_lengths_and_the_weight_of_each_neuron(
    published: tuple[dict[str, Skeleton], dict[str, dict[str, str]]],
) -> None:
    targets, rows = published
    assert sorted(targets) == sorted(rows)
    assert len(rows) == 14
    forest = SkeletonForest.of(list(targets.values()))
    runs = run_lengths(forest, forest.skeleton + 1)
    lengths = [float(rows[name]["SWC Run Length"]) for name in targets]
    assert runs.scale == pytest.approx(lengths, abs=1e-9)
    # their overall value is that of their neurons, each weighted by its length, as ours is
    theirs = np.array([float(rows[name]["ERL"]) for name in targets])
    assert (theirs * runs.scale).sum() / runs.scale.sum() == pytest.approx(173.3273, abs=1e-3)
    # where they found neither split nor omission, the run length is the length
    whole = [
        n
        for n, name in enumerate(targets)
        if float(rows[name]["# Splits"]) == float(rows[name]["% Omit Edges"]) == 0
    ]
    assert len(whole) == 4
    assert erl(forest, forest.skeleton + 1).skeletons[whole] == pytest.approx(
        theirs[whole], abs=5e-3
    )


def test_exaspim_nodes_labelled_by_the_nearest_predicted_skeleton(
    published: tuple[dict[str, Skeleton], dict[str, dict[str, str]]],
) -> None:
    targets, rows = published
    actual = read_swc(public_data("exaspim_swc_pairs") / "pred_swcs.zip")
    assert len(actual) == 15
    dense = {name: resampled(skeleton, 1.0) for name, skeleton in actual.items()}
    places = np.concatenate([skeleton.position for skeleton in dense.values()])
    names = np.repeat([int(name) for name in dense], [len(s) for s in dense.values()])
    forest = SkeletonForest.of(list(targets.values()))
    far, nearest = cKDTree(places).query(forest.position)
    ours = erl(forest, np.where(far <= 8, names[nearest], 0))
    each = dict(zip(targets, ours.skeletons.tolist(), strict=True))
    theirs = {name: float(row["ERL"]) for name, row in rows.items()}
    # no merger, as published
    assert merged_labels(run_lengths(forest, np.where(far <= 8, names[nearest], 0))).size == 0
    assert each["SNT_Data-035"] == pytest.approx(theirs["SNT_Data-035"], abs=5e-3)
    for name in ("SNT_Data-037", "SNT_Data-038", "SNT_Data-053", "SNT_Data-062"):
        assert each[name] == pytest.approx(theirs[name], rel=0.2), name
    # segments whose skeletons were not published leave nothing to find
    absent = ["SNT_Data-002", "SNT_Data-023", "SNT_Data-051", "SNT_Data-074"]
    assert [each[name] for name in absent] == [0] * 4


# --- hemibrain: real neurons ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def neurons() -> SkeletonForest:
    place = public_data("hemibrain_da1_skeletons")
    return SkeletonForest.of(list(read_swc(place, "axis_order=xyz&unit_nm=8").values()))


def below(forest: SkeletonForest, node: int) -> np.ndarray:
    """The nodes of a subtree, by walking down."""
    children: dict[int, list[int]] = {}
    for child, parent in enumerate(forest.parent.tolist()):
        children.setdefault(parent, []).append(child)
    actual, todo = np.zeros(len(forest), bool), [node]
    while todo:
        actual[todo[-1]] = True
        todo += children.get(todo.pop(), [])
    return actual


def test_hemibrain_perfect_and_worthless(neurons: SkeletonForest) -> None:
    assert sorted(neurons.names) == [722817260, 754534424, 1734350788, 1734350908]
    perfect = erl(neurons, np.array(neurons.names, np.uint64)[neurons.skeleton])
    assert perfect.overall == pytest.approx(perfect.maximum, rel=1e-12)
    assert perfect.ratio == pytest.approx(1, rel=1e-12)
    assert erl(neurons, np.full(len(neurons), 3)).overall == 0
    assert erl(neurons, np.arange(1, len(neurons) + 1)).overall == 0
    # finer nodes are the same neurons
    fine = SkeletonForest.of([resampled(one, 50) for one in pieces(neurons)])
    again = erl(fine, fine.skeleton + 1)
    assert len(fine) > 8 * len(neurons)
    assert again.overall == pytest.approx(perfect.overall, rel=1e-9)


def pieces(forest: SkeletonForest) -> list[Skeleton]:
    """The skeletons of a forest."""
    actual = []
    for number, name in enumerate(forest.names):
        own = np.flatnonzero(forest.skeleton == number)
        parent = forest.parent[own]
        actual.append(
            Skeleton(
                name,
                forest.position[own],
                np.where(parent < 0, -1, parent - own[0]),
                forest.radius[own],
            )
        )
    return actual


def test_hemibrain_split_and_merger(neurons: SkeletonForest) -> None:
    labels = neurons.skeleton + 1
    sizes = np.array([below(neurons, node).sum() for node in range(300, 4000, 400)])
    cut = int(np.arange(300, 4000, 400)[sizes.argmax()])
    lost = below(neurons, cut)
    assert 20 < lost.sum() < (neurons.skeleton == 0).sum() - 20
    split = np.where(lost, 9, labels)
    # by hand: a neuron's length without the cut edge is that of its two parts
    lengths = np.zeros(len(neurons))
    lengths[neurons.edges[:, 0]] = neurons.lengths
    whole = np.bincount(neurons.skeleton, weights=lengths)
    part = lengths[lost].sum() - lengths[cut]
    rest = whole[0] - lengths[cut] - part
    actual = erl(neurons, split)
    assert actual.skeletons[0] == pytest.approx((part**2 + rest**2) / whole[0], rel=1e-9)
    assert actual.skeletons[1:] == pytest.approx(whole[1:], rel=1e-12)
    runs = run_lengths(neurons, split)
    reported = split_edges(neurons, split, runs)
    middle = neurons.position[[cut, neurons.parent[cut]]].mean(axis=0)
    np.testing.assert_allclose(reported.position, [middle], rtol=1e-12)
    assert reported.length == pytest.approx([min(part, rest)], rel=1e-9)
    # the part that was cut off falls to the second neuron
    merged = np.where(lost, 2, labels)
    runs = run_lengths(neurons, merged)
    classic = merged_labels(runs)
    assert classic.tolist() == [2]
    actual = expected_run_length(runs, classic)
    assert actual.skeletons[:2] == pytest.approx([rest**2 / whole[0], 0], rel=1e-9)
    assert merged_labels(runs, "length", part * 1.001).size == 0
    assert merged_labels(runs, "length", part * 0.999).tolist() == [2]
    (merger,) = merged_segments(neurons, merged, runs, classic)
    assert [shared.skeleton for shared in merger.parts] == [neurons.names[1], neurons.names[0]]
    assert merger.length == pytest.approx(part, rel=1e-9)
    # the two nodes that are shown are the nearest two
    own = neurons.position[lost]
    far, _ = cKDTree(neurons.position[neurons.skeleton == 1]).query(own)
    a, b = (np.array(shared.position) for shared in merger.parts)
    assert np.linalg.norm(a - b) == pytest.approx(far.min(), rel=1e-12)


def test_hemibrain_nodes_at_synapses(neurons: SkeletonForest) -> None:
    place = public_data("hemibrain_da1_skeletons")
    for one in pieces(neurons):
        with (place / f"{one.name}_synapses.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        point = np.array([[float(row[axis]) * 8 for axis in "zyx"] for row in rows])
        forest = SkeletonForest.of([one])
        actual = synapse_nodes(forest, point, np.arange(len(point)))
        # a point alone is a ball: its nearest node belongs to it iff the ball reaches it
        wanted = cKDTree(point).query(one.position)[0] - one.radius <= 60
        assert 0.2 < wanted.mean() < 0.4
        np.testing.assert_array_equal(actual, wanted)
