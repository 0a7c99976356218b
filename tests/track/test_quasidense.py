"""Association: objects that cross keep their ids, whatever the order of the detections."""

import numpy as np
import pytest

from volflow.track.detection.quasidense import (
    Association,
    Detections,
    Memory,
    associate,
    bisoftmax,
    box_overlaps,
    reachable,
    without_duplicates,
)

LENGTH = 6


def vector(number, strength=8.0):
    return np.eye(LENGTH, dtype=np.float32)[number] * strength


def detections(*objects):
    """Detections of (y, x, number of the embedding, score), boxes of 10 x 10."""
    boxes = np.array([[y, x, y + 10, x + 10] for y, x, _, _ in objects], np.float32)
    scores = np.array([score for *_, score in objects], np.float32)
    vectors = np.array([vector(n) for _, _, n, _ in objects], np.float32)
    return Detections(boxes.reshape(-1, 4), scores, vectors.reshape(-1, LENGTH))


def shuffled(some, rng):
    return some.take(rng.permutation(len(some.scores)))


def followed(sections, rule=None):
    """The tracks of successive sections."""
    memory, result = Memory.empty(LENGTH), []
    for section in sections:
        tracked, memory = associate(memory, section, rule)
        result.append(tracked)
    return result, memory


def crossing(rng=None):
    """Two objects that pass each other, and one that waits."""
    sections = [
        detections((10, 4 * t, 0, 0.9), (12, 40 - 4 * t, 1, 0.95), (60, 60, 2, 0.85))
        for t in range(11)
    ]
    return sections if rng is None else [shuffled(section, rng) for section in sections]


def numbers_by_id(tracked):
    """The embedding of each track, by id."""
    tracks = tracked.tracks
    return dict(
        zip(tracks.ids.tolist(), tracks.detections.embeddings.argmax(1).tolist(), strict=True)
    )


@pytest.mark.parametrize("gated", [True, False])
def test_objects_that_cross_keep_their_ids(gated):
    tracked, _ = followed(crossing(), Association(gated=gated))
    expected = numbers_by_id(tracked[0])
    assert sorted(expected.values()) == [0, 1, 2]
    assert all(numbers_by_id(section) == expected for section in tracked)


def test_the_order_of_detections_changes_nothing():
    rng = np.random.default_rng(0)
    plain, memory = followed(crossing())
    for _ in range(3):
        mixed, other = followed(crossing(rng))
        for a, b in zip(plain, mixed, strict=True):
            np.testing.assert_array_equal(a.ids, b.ids)
            np.testing.assert_array_equal(a.detections.boxes, b.detections.boxes)
        for a, b in zip(memory, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_chain_that_is_resumed_from_its_record_is_the_same():
    sections = crossing()
    whole, last = followed(sections)
    _, memory = followed(sections[:4])
    stored = {name: column.copy() for name, column in memory.record().items()}
    assert all(column.ndim == 1 for column in stored.values())
    memory = Memory.of(stored)
    for section, expected in zip(sections[4:], whole[4:], strict=True):
        tracked, memory = associate(memory, section)
        np.testing.assert_array_equal(tracked.ids, expected.ids)
    for a, b in zip(memory, last, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_track_is_remembered_for_ten_sections_and_then_forgotten():
    seen, nothing = detections((0, 0, 0, 0.9)), detections()
    for gap, same in ((9, True), (10, False)):
        tracked, _ = followed([seen, *[nothing] * gap, seen])
        assert (tracked[-1].ids.tolist() == [1]) is same
        assert (tracked[-1].ids.tolist() == [2]) is not same


def test_scores_decide_what_starts_and_what_continues():
    rule = Association()
    tracked, _ = followed([detections((0, 0, 0, 0.79), (50, 50, 1, 0.81))], rule)
    assert tracked[0].ids.tolist() == [1, 0]
    assert len(tracked[0].tracks.ids) == 1
    second = detections((0, 2, 0, 0.9), (50, 52, 1, 0.45))
    tracked, _ = followed([detections((0, 0, 0, 0.9), (50, 50, 1, 0.9)), second], rule)
    assert tracked[1].ids.tolist() == [1, 0]  # too unsure to continue


def test_a_backdrop_absorbs_what_resembles_it():
    unsure = (20, 20, 3, 0.4)
    alike = (20, 21, 3, 0.9)
    tracked, memory = followed([detections(unsure), detections(alike)])
    assert tracked[1].ids.tolist() == [0]  # it would have started a track
    assert memory.ids.tolist() == []  # and is no backdrop itself
    tracked, _ = followed([detections(unsure), detections(), detections(alike)])
    assert tracked[2].ids.tolist() == [1]  # after one section the backdrop is forgotten


def test_embeddings_move_towards_the_newest():
    first, second = detections((0, 0, 0, 0.9)), detections((0, 0, 0, 0.9))
    second = second._replace(embeddings=second.embeddings * 2)
    _, memory = followed([first, second])
    np.testing.assert_allclose(memory.embeddings, [vector(0) * (0.2 + 0.8 * 2)], rtol=1e-6)


def test_duplicates_are_dropped_and_unsure_ones_more_readily():
    # Overlaps with the first: 80 / 120 = 0.67 and 60 / 140 = 0.43.
    some = detections((0, 0, 0, 0.9), (0, 2, 0, 0.8), (0, 4, 0, 0.4), (0, 1, 0, 0.7))
    remaining = without_duplicates(some, Association())
    assert remaining.scores.tolist() == pytest.approx([0.9, 0.8])
    # 0.4 overlaps 0.9 by 0.43 and is unsure; 0.7 overlaps 0.9 by 90 / 110


def test_alike_objects_far_away_do_not_match():
    first, second = detections((0, 0, 0, 0.9)), detections((100, 100, 0, 0.9))
    tracked, _ = followed([first, second])
    assert tracked[1].ids.tolist() == [2]
    tracked, _ = followed([first, second], Association(gated=False))
    assert tracked[1].ids.tolist() == [1]


def test_scores_are_the_mean_of_two_softmaxes():
    rng = np.random.default_rng(2)
    tracks, some = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    product = np.exp(tracks @ some.T)
    expected = (product / product.sum(1, keepdims=True) + product / product.sum(0)) / 2
    np.testing.assert_allclose(bisoftmax(tracks, some), expected)
    possible = rng.random((5, 4)) < 0.5
    product = product * possible.T
    rows, columns = product.sum(1, keepdims=True), product.sum(0)
    expected = (product / np.where(rows, rows, 1) + product / np.where(columns, columns, 1)) / 2
    np.testing.assert_allclose(bisoftmax(tracks, some, possible), expected, atol=1e-15)
    with pytest.raises(ValueError, match="must share the embedding length"):
        bisoftmax(tracks, some[:, :2])


def test_boxes_that_touch_or_are_near_can_be_one_object():
    last = np.array([[0, 0, 3, 4]], float)  # diagonal 5
    boxes = np.array([[2, 3, 9, 9], [0, 4, 3, 8], [0, 5, 3, 9]], float)
    assert reachable(boxes, last)[:, 0].tolist() == [True, True, False]
    assert box_overlaps(boxes, last)[0, 0] == pytest.approx(1 / (12 + 42 - 1))
