"""Tracks of slabs, tiles and directions, joined."""

from __future__ import annotations

import numpy as np
import pytest

from tests.track.runs import linked
from tests.track.scenes import affinities, discs, straight
from volflow.core.geometry import Box
from volflow.track.linking import Candidate, Groups, joined, mutual
from volflow.track.seams import pooled, rows_beyond

SHAPE = (14, 40, 52)
BOUNDS = Box((3, 5, 7), (17, 45, 59))
LOW = {"low": 100, "threshold": 0.5}


@pytest.fixture
def scene():
    paths = [
        straight((10, 8), (0.5, 2.5), 14),  # crosses the seam between tiles at x = 26
        straight((30, 40), (-0.5, -2), 14),  # crosses it the other way
        [None] * 5 + list(straight((34, 6), (0, 0.2), 9)),  # begins in the middle of a slab
    ]
    return discs(SHAPE, paths)


def renamed(scene):
    """Labels after the first voxel of each object, in C order."""
    firsts = {n: 1 + np.flatnonzero(scene.ravel() == n)[0] for n in np.unique(scene) if n}
    return np.vectorize(lambda n: firsts.get(n, 0), otypes=["uint64"])(scene)


SEAMS = [
    {"slab": 6, "part": 3, "slab_overlap": 2},
    {"slab": 6, "part": 2, "slab_overlap": 2, "tile": (40, 26), "margin": 12},
    {"slab": 4, "part": 4, "slab_overlap": 3, "tile": (20, 26), "margin": 12},
]


@pytest.mark.parametrize("seams", SEAMS)
def test_objects_are_whole_whatever_the_slabs_and_tiles(scene, seams):
    """Labels are those of the first voxel of each object, so the bytes are the same, too."""
    labels, memory = linked(affinities(scene), BOUNDS, **LOW, **seams)
    np.testing.assert_array_equal(labels, renamed(scene))
    assert len(np.unique(memory.arrays["tracks"][0])) > 4


@pytest.mark.parametrize("part", [1, 2, 3])
def test_parts_have_no_influence(scene, part):
    seams = {"slab": 6, "slab_overlap": 2, "tile": (40, 26), "margin": 12}
    whole, _ = linked(affinities(scene), BOUNDS, both_ways=True, part=6, **LOW, **seams)
    labels, _ = linked(affinities(scene), BOUNDS, both_ways=True, part=part, **LOW, **seams)
    np.testing.assert_array_equal(labels, whole)


def test_two_directions_are_joined(scene):
    """An object that begins in section 5 is named after the voxel where the way forward begins."""
    labels, memory = linked(affinities(scene), BOUNDS, both_ways=True, part=7, **LOW)
    np.testing.assert_array_equal(labels, renamed(scene))
    back = memory.arrays["tracks_back"][0]
    assert back[back > 0].min() > SHAPE[0] * SHAPE[1] * SHAPE[2]
    tables = [memory.records["table", (z, 0, 0)] for z in range(2)]
    names = np.concatenate([table["segment"] for table in tables])
    assert set(np.unique(names)) == set(np.unique(labels[labels > 0]))


def tables(extents, pairs, areas):
    columns = {
        "extent": (("id", "run", "first", "last"), extents),
        "pair": (("a", "b", "voxels"), pairs),
        "area": (("id", "run", "z", "voxels"), areas),
    }
    record = {}
    for table, (names, rows) in columns.items():
        values = np.array(rows, np.int64).reshape(-1, len(names)).T
        record |= {f"{table}.{name}": value for name, value in zip(names, values, strict=True)}
    return pooled(record)


def test_a_worked_score():
    """Run 0 has track 1, run 1 tracks 2 and 3, in sections 0 and 1.

    Track 2 is absent in section 1, so its areas there do not count: 30 of 40 and 35 voxels in
    common, IoU 30 / 45 = .667, contained 30 / 35 * .9 = .771. Track 3 has 5 of 6 voxels in 1:
    contained .75, and 1 prefers 2.
    """
    record = tables(
        [(1, 0, 0, 1), (2, 1, 0, 0), (3, 1, 0, 1)],
        [(1, 2, 30), (1, 3, 5)],
        [(1, 1, 0, 40), (1, 1, 1, 44), (2, 0, 0, 35), (3, 0, 0, 6)],
    )
    ids, names = joined(record, 0.5)
    assert ids.tolist() == [1, 2, 3]
    assert names.tolist() == [1, 1, 3]
    assert joined(record, 0.77)[1].tolist() == [1, 1, 3]
    assert joined(record, 0.78)[1].tolist() == [1, 2, 3]


def test_mutual_best_is_per_run():
    """Track 1 of run 0 overlaps with one track of run 1 and with one of run 2: both count."""
    run_of = {1: 0, 2: 1, 3: 2, 4: 1}
    pairs = [Candidate(-0.9, 1, 2), Candidate(-0.6, 1, 3), Candidate(-0.7, 1, 4)]
    assert mutual(pairs, run_of) == pairs[:2]


def test_tracks_of_a_run_in_the_same_section_exclude_each_other():
    """1 and 2 are alive together in run 0; 3 continues both, and stays with the better one."""
    groups = Groups([1, 2, 3, 4], [0, 0, 1, 0], [[0, 9], [5, 7], [8, 20], [10, 12]])
    assert groups.join(1, 3)
    assert not groups.join(2, 3)
    assert groups.join(3, 4)  # alive after 1
    assert [groups.name(track) for track in (1, 2, 3, 4)] == [1, 2, 1, 1]


def test_rows_beyond_cover_what_is_outside():
    random = np.random.default_rng(2)
    box, write = Box((1, 2, 3), (4, 8, 12)), Box((1, 4, 5), (3, 7, 10))
    labels = random.integers(0, 3, box.shape).astype(np.uint64)
    rows = rows_beyond(labels, box, write, 7)
    again = np.zeros(box.shape, np.uint64)
    for z, y, x, n, label in zip(
        *(rows[name] for name in ("z", "y", "x", "length", "label")), strict=True
    ):
        part = again[z - 1, y - 2, x - 3 : x - 3 + n]
        assert len(part) == n
        assert not part.any()
        part[:] = label
    labels[write.within(box)] = 0
    np.testing.assert_array_equal(again, labels)
    assert (rows["run"] == 7).all()
