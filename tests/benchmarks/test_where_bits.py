"""The parts that a VI is taken apart into."""

import numpy as np

from benchmarks.segmentation.where_bits import best_joined, components


def test_parts_that_do_not_touch_are_components_of_their_own():
    truth = np.array([[[1, 1, 2, 1, 0, 2, -1]]])
    np.testing.assert_array_equal(components(truth), [[[1, 1, 2, 3, 0, 4, 0]]])


def test_each_fragment_gets_the_truth_it_has_most_of():
    pieces = np.array([[[7, 7, 7, 4, 4, 4, 4, 9]]], np.uint64)
    truth = np.array([[[1, 2, 2, 0, 3, 0, 0, 0]]])
    # 9 is where nothing is known
    np.testing.assert_array_equal(best_joined(pieces, truth), [[[2, 2, 2, 3, 3, 3, 3, 0]]])
