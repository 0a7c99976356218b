import numpy as np

from volflow.track.seeds import components, seeds_of_labels, segment_at, segment_in, unclaimed

SEGMENTS = np.zeros((12, 20), np.int32)
SEGMENTS[1:6, 1:9] = 1
SEGMENTS[1:6, 10:19] = 2
SEGMENTS[7:11, 1:19] = 3


def test_labels_become_seeds_with_their_ids():
    seeds = seeds_of_labels(np.array([[0, 9, 9], [4, 4, 9]]))
    assert [(seed.id, seed.origin, seed.mask.tolist()) for seed in seeds] == [
        (4, (1, 0), [[True, True]]),
        (9, (0, 1), [[True, True], [False, True]]),
    ]
    assert [seed.id for seed in seeds_of_labels(np.full((2, 2), 3))] == [3]
    assert seeds_of_labels(np.zeros((2, 2), int)) == []


def test_segments_that_tracks_own_are_no_seeds():
    keys = np.zeros(SEGMENTS.shape, np.int64)
    keys[1:6, 1:3] = 1  # 10 of 40 pixels of segment 1
    keys[1:6, 10:13] = 2  # 15 of 45 of segment 2, of which 30 are left
    origins = [seed.origin for seed in unclaimed(SEGMENTS, keys, 0.3, 30)]
    assert origins == [(1, 1), (7, 1)]
    assert [seed.origin for seed in unclaimed(SEGMENTS, keys, 0.3, 31)] == [(7, 1)]


def test_the_segment_at_a_point_or_next_to_it():
    assert segment_at(SEGMENTS, (3, 3), 0).origin == (1, 1)
    assert segment_at(SEGMENTS, (6, 3), 0) is None
    assert segment_at(SEGMENTS, (6, 3), 1).origin == (1, 1)  # as near as 3; the smaller
    assert segment_at(SEGMENTS, (0, 0), 2).mask.sum() == 40


def test_the_segment_of_a_box():
    assert segment_in(SEGMENTS, (0, 9, 7, 20)).origin == (1, 10)
    assert segment_in(SEGMENTS, (0, 0, 12, 20)).origin == (7, 1)
    assert segment_in(SEGMENTS, (0, 0, 1, 20)) is None


def test_components_of_a_mask():
    assert components(np.array([[1, 0, 1], [1, 0, 0]], bool)).tolist() == [[1, 0, 2], [1, 0, 0]]
