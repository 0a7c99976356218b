"""Boxes of objects: those of 8-connected pieces, with the label of each."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from volflow.train.tracker.objects import objects_of, pieces_of, side_quantiles

PICTURE = np.array(
    [
        [1, 1, 0, 2, 2],
        [0, 0, 1, 0, 2],
        [3, 0, 0, 0, 0],
        [0, 0, 1, 1, -1],
    ]
)


def test_pieces_touch_by_corners_and_keep_the_label():
    objects = objects_of(PICTURE)
    # 1 goes on across a corner; its other piece is apart from it
    assert objects.boxes.tolist() == [[0, 0, 2, 3], [0, 3, 2, 5], [2, 0, 3, 1], [3, 2, 4, 4]]
    assert objects.identities.tolist() == [1, 2, 3, 1]
    assert objects.areas.tolist() == [3, 3, 1, 2]
    assert objects_of(PICTURE, least_area=3).identities.tolist() == [1, 2]
    assert objects_of(PICTURE * 0).boxes.shape == (0, 4)


@given(arrays(np.int32, (7, 6), elements=st.integers(-1, 2)))
def test_pieces_are_those_of_each_label_alone(labels):
    pieces = pieces_of(labels)
    assert ((pieces > 0) == (labels > 0)).all()
    alone = [ndimage.label(labels == value, np.ones((3, 3)))[1] for value in (1, 2)]
    assert pieces.max(initial=0) == sum(alone)
    for number in range(1, pieces.max(initial=0) + 1):
        own = pieces == number
        assert len(set(labels[own])) == 1
        assert ndimage.label(own, np.ones((3, 3)))[1] == 1
    _, first = np.unique(pieces[pieces > 0], return_index=True)
    assert (np.diff(first) > 0).all()


def test_sizes_are_quantiles_of_the_root_of_the_area():
    boxes = np.array([[0, 0, 4, 9], [0, 0, 2, 2], [1, 1, 5, 5]], float)  # 6, 2, 4
    assert side_quantiles(boxes, (0.0, 0.5, 1.0)) == [2, 4, 6]
    with pytest.raises(ValueError, match="at least one object"):
        side_quantiles(boxes[:0])
