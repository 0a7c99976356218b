import numpy as np

from volflow.track.baselines import SameMask
from volflow.track.detection.box_seeds import Boxed, overlaps, track_boxes
from volflow.track.detection.quasidense import Detections
from volflow.track.follower import Section
from volflow.track.loop import Rules, Tracker


class FillsBoxes(SameMask):
    """A follower whose mask of a box is the box; it counts what it sees."""

    seen = 0

    def see(self, section):
        self.seen += 1

    def first_masks(self, boxes):
        masks = []
        for y, x, end_y, end_x in boxes:
            masks.append(np.zeros((20, 20), np.float32))
            masks[-1][y:end_y, x:end_x] = 0.9
        return masks


def test_boxes_of_tracks():
    keys = np.zeros((6, 8), np.int64)
    keys[1:3, 2:5], keys[4, 7] = 9, 4
    assert sorted(track_boxes(keys).tolist()) == [[1, 2, 3, 5], [4, 7, 5, 8]]
    assert track_boxes(np.full((2, 3), 5)).tolist() == [[0, 0, 2, 3]]
    assert track_boxes(np.zeros((2, 3), np.int64)).shape == (0, 4)


def test_overlaps_of_boxes():
    """4 x 4 and 4 x 4, moved by 2: 8 of 24 pixels."""
    boxes = np.array([[0, 0, 4, 4], [10, 10, 12, 12]])
    np.testing.assert_allclose(overlaps(boxes, np.array([[2, 0, 6, 4]])), [[8 / 24], [0]])


def test_boxes_without_a_track_start_one():
    tracker = Tracker.resumed(FillsBoxes(), Rules(min_area=5), None)
    boxes = np.array([[1.2, 1, 7, 7], [10, 10, 16, 17], [11, 10, 16, 17]])
    detections = Detections(boxes, np.ones(3), np.zeros((3, 4)))
    seeds = Boxed(lambda image: detections, tracker)
    section = Section(np.ones((20, 20), np.uint8), {})
    keys = tracker.follow(section)
    tracker.begin(keys, seeds(0, section, keys))
    assert len(tracker.tracks) == 2  # the third box is claimed by the second
    assert (keys[1:7, 1:7] == 1).all()
    assert (keys[10:16, 10:17] == 2).all()
    again = Section(np.ones((20, 20), np.uint8), {})
    keys = tracker.follow(again)
    assert seeds(1, again, keys) == []  # tracks are there
    tracker.look(again)
    assert tracker.follower.seen == tracker.seen == 2  # each section once
