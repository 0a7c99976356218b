"""Tracking by detection: objects keep their labels, and a part resumes where the last one ended."""

import numpy as np

from volflow.track.detection.by_detection import BoxTracker
from volflow.track.detection.quasidense import Detections
from volflow.track.follower import Section

SHAPE = (40, 60)
WHOLE = (slice(0, 40), slice(0, 60))


class FilledBoxes:
    """A box extractor that fills its box."""

    memory, stride = 0, 1

    def forget(self):
        pass

    def see(self, section):
        self.shape = section.image.shape

    def first_masks(self, boxes):
        masks = []
        for y0, x0, y1, x1 in boxes:
            masks.append(np.zeros(self.shape, np.float32))
            masks[-1][y0:y1, x0:x1] = 0.9
        return masks


def scene(depth=9):
    """Three squares of different grey; one moves, one is new, one leaves for three sections."""
    sections = np.zeros((depth, *SHAPE), np.uint8)
    for z in range(depth):
        sections[z, 4:12, 3 + 3 * z : 11 + 3 * z] = 100
        if z >= 2:
            sections[z, 20:30, 20:30] = 150
        if z not in (4, 5, 6):
            sections[z, 30:38, 40:52] = 200
    return sections


def detect(image):
    """The squares of a section by their grey value."""
    boxes, vectors = [], []
    for number, grey in enumerate((100, 150, 200)):
        y, x = np.nonzero(image == grey)
        if len(y):
            boxes.append([y.min(), x.min(), y.max() + 1, x.max() + 1])
            vectors.append(np.eye(3)[number] * 8)
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(count, 0.9, np.float32),
        np.array(vectors, np.float32).reshape(-1, 3),
    )


def followed(sections, parts=(0,)):
    """Labels of all sections; the chain is stored and resumed at each part."""
    state, labels = None, []
    for z, image in enumerate(sections):
        if z in parts:
            tracker = BoxTracker.resumed(detect, FilledBoxes(), state)
        keys = tracker.follow(Section(image, {}))
        labels.append(tracker.labels(keys, WHOLE, (1 + z * 2400, 60)))
        state = {name: column.copy() for name, column in tracker.state().items()}
    return np.stack(labels)


def test_objects_keep_the_label_of_their_first_voxel():
    sections = scene()
    labels = followed(sections)
    assert ((labels > 0) == (sections > 0)).all()
    for grey in (100, 150, 200):
        own = sections == grey
        assert np.unique(labels[own]).tolist() == [1 + np.flatnonzero(own)[0]]


def test_a_chain_of_parts_is_that_of_one_part():
    sections = scene()
    whole = followed(sections)
    np.testing.assert_array_equal(followed(sections, parts=range(9)), whole)
    np.testing.assert_array_equal(followed(sections, parts=(0, 5)), whole)


def test_tracks_are_not_named_where_nothing_is_written():
    tracker = BoxTracker.resumed(detect, FilledBoxes(), None)
    keys = tracker.follow(Section(scene()[3], {}))
    nothing = tracker.labels(keys, (slice(0, 0), slice(0, 0)), (1, 60))
    assert not nothing.any()
    corner = tracker.labels(keys, (slice(20, 40), slice(20, 60)), (1000, 60))
    # the second square is at the corner of what is written, the first one is outside
    assert corner[20, 20] == 1000
    assert corner[4, 14] == 0
    assert corner[30, 40] == 1000 + 10 * 60 + 20


def test_a_section_without_objects_is_empty():
    tracker = BoxTracker.resumed(detect, FilledBoxes(), None)
    assert not tracker.follow(Section(np.zeros(SHAPE, np.uint8), {})).any()
    assert tracker.follow(Section(scene()[0], {})).any()
