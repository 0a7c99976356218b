"""Laws of the loop over sections, with followers that need no network."""

from __future__ import annotations

import numpy as np
import pytest

from tests.track.scenes import discs, sections, straight
from volflow.track.baselines import AffinitySegments, SameMask
from volflow.track.follower import Section
from volflow.track.loop import Rules, Tracker
from volflow.track.section_segments import section_segments
from volflow.track.seeds import seeds_of_labels, unclaimed

WHOLE = slice(0, 48), slice(0, 64)
SHAPE = (8, 48, 64)


def segments(affinity: np.ndarray) -> np.ndarray:
    return section_segments(affinity, 0.5, low=100)


def follower() -> AffinitySegments:
    return AffinitySegments(segments)


def run(stack, tracker=None, write=WHOLE, first=0):
    """Labels of sections that are followed densely, and the tracker after the last."""
    tracker = tracker or Tracker.resumed(follower(), Rules(), None)
    planes = []
    for z, section in enumerate(stack, first):
        keys = tracker.follow(section)
        rules = tracker.rules
        found_seeds = unclaimed(segments(section.offline["d"]), keys, rules.claimed, rules.min_area)
        tracker.begin(keys, found_seeds)
        planes.append(tracker.labels(keys, write, (1 + z * 48 * 64, 64)))
    return np.stack(planes), tracker


@pytest.fixture
def scene():
    paths = [straight((12, 12), (0.5, 1), 8), straight((30, 40), (0, -2), 8)]
    return discs(SHAPE, paths)


def test_objects_are_followed_and_named_after_their_first_voxel(scene):
    labels, _ = run(sections(scene))
    for number in (1, 2):
        inside = scene == number
        assert np.unique(labels[inside]).tolist() == [1 + np.flatnonzero(inside.ravel())[0]]
    np.testing.assert_array_equal(labels > 0, scene > 0)


def test_objects_that_cross_on_a_way_without_touching_keep_their_ids():
    """Each passes through pixels where the other one was four sections before."""
    first, second = straight((10, 6), (0, 6), 8), straight((30, 48), (-3, -5), 8)
    scene = discs(SHAPE, [first, second], radius=6)
    assert ((scene == 1).any(axis=0) & (scene == 2).any(axis=0)).any()
    assert not any(len(np.unique(plane)) < 3 for plane in scene)
    labels, _ = run(sections(scene))
    for number in (1, 2):
        assert len(np.unique(labels[scene == number])) == 1


def test_objects_that_overlap_are_divided_and_keep_their_ids():
    """Two masks that are repeated, one covering a part of the other: no id is lost."""
    tracker = Tracker.resumed(SameMask(), Rules(min_area=5), None)
    blank = Section(np.zeros((20, 20), np.uint8), {})
    painted = np.zeros((20, 20), np.int64)
    painted[2:10, 2:10], painted[8:16, 8:16] = 7, 9
    keys = tracker.follow(blank)
    tracker.begin(keys, seeds_of_labels(painted))
    for _ in range(5):
        keys = tracker.follow(blank)
        labels = tracker.labels(keys, (slice(0, 20), slice(0, 20)), (1, 20))
        np.testing.assert_array_equal(labels, painted)


@pytest.mark.parametrize("part", [1, 3, 8])
def test_a_chain_that_is_stored_between_parts_is_the_undisturbed_one(scene, part):
    whole, _ = run(sections(scene))
    tracker, planes = Tracker.resumed(follower(), Rules(), None), []
    stack = sections(scene)
    for start in range(0, 8, part):
        state = {name: column.copy() for name, column in tracker.state().items()}
        tracker = Tracker.resumed(follower(), Rules(), state)
        done, tracker = run(stack[start : start + part], tracker, first=start)
        planes.append(done)
    np.testing.assert_array_equal(np.concatenate(planes), whole)


class Reordering(AffinitySegments):
    """Computes the objects one by one, the last first."""

    def masks(self, objects):
        return [super(Reordering, self).masks([each])[0] for each in reversed(objects)][::-1]


def test_the_batch_has_no_influence(scene):
    whole, _ = run(sections(scene))
    other, _ = run(sections(scene), Tracker.resumed(Reordering(segments), Rules(), None))
    np.testing.assert_array_equal(other, whole)


def test_a_track_survives_fewer_missed_sections_than_its_patience():
    path = [(20, 20), (20, 20), None, (20, 20), (20, 20), None, None, (20, 20)]
    scene = discs(SHAPE, [path])
    labels, tracker = run(sections(scene))
    ids = [np.unique(plane[plane > 0]).tolist() for plane in labels]
    assert ids[0] == ids[1] == ids[3] == ids[4] != ids[7]  # 2 missed: the end of a track
    assert len(ids[7]) == 1
    assert len(tracker.tracks) == 1


def test_a_track_has_no_label_before_a_voxel_of_it_is_written(scene):
    """The second object enters the written pixels from the right in section 2."""
    write = slice(0, 48), slice(0, 32)
    labels, _ = run(sections(scene), write=write)
    other = scene == 2
    first = next(z for z in range(8) if other[z][write].any())
    assert 0 < first < 7
    assert not labels[:first][other[:first]].any()
    expected = 1 + np.flatnonzero((other & (np.indices(SHAPE)[2] < 32)).ravel())[0]
    assert np.unique(labels[first:][other[first:]]).tolist() == [expected]


def test_a_second_seed_in_an_object_starts_no_track():
    tracker = Tracker.resumed(SameMask(), Rules(min_area=5), None)
    keys = tracker.follow(Section(np.zeros((20, 20), np.uint8), {}))
    painted = np.zeros((20, 20), np.int64)
    painted[2:10, 2:10] = 4
    assert tracker.begin(keys, seeds_of_labels(painted)) == {4: 4}
    assert tracker.begin(keys, seeds_of_labels(painted * 2)) == {8: 4}
    assert len(tracker.tracks) == 1
