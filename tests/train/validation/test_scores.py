"""Scores of a validation: sections judged one by one, masks by what is known of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from volflow.train.validation.scores import best_f1, best_flat_score

SHAPE = (2, 3, 4)


def test_flat_labels_are_scored_section_by_section():
    truth = np.zeros((3, 8, 12), np.int32)
    for z, wall in enumerate((3, 6, 9)):  # the same names in every section, other places
        truth[z, :, :wall], truth[z, :, wall + 1 :] = 1, 2
    affinity = np.zeros((3, 3, 8, 12), np.uint8)
    affinity[0, 1:] = 255  # of no account
    affinity[1, :, 1:] = 255 * ((truth[:, 1:] == truth[:, :-1]) & (truth[:, 1:] > 0))
    affinity[2, ..., 1:] = 255 * ((truth[..., 1:] == truth[..., :-1]) & (truth[..., 1:] > 0))
    assert best_flat_score(affinity, truth, (0.5,), 0).vi == 0
    merged = affinity.copy()
    merged[2, 1] = 255
    actual = best_flat_score(merged, truth, (0.5,), 0)
    halves = np.array([6, 5]) / 11  # of the second section's known voxels
    entropy = -(halves * np.log2(halves)).sum()
    assert actual.vi_merge == pytest.approx(entropy / 3, rel=1e-6)
    assert actual.vi_split == 0
    truth[1] = -1
    assert best_flat_score(merged, truth, (0.5,), 0).vi == 0  # nothing is known of that section


@given(
    arrays.arrays(np.uint8, SHAPE, elements=st.integers(0, 255)),
    arrays.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 255])),
)
def test_f1_is_the_best_over_thresholds_of_known_voxels(created, mark):
    wanted = []
    for threshold in (0.25, 0.75):
        pairs = [
            (p > 255 * threshold, m == 1)
            for p, m in zip(created.flat, mark.flat, strict=True)
            if m < 2
        ]
        both, one = sum(p and m for p, m in pairs), sum(p != m for p, m in pairs)
        wanted.append(2 * both / max(1, 2 * both + one))
    actual = best_f1(created, mark, (0.25, 0.75))
    assert actual == (pytest.approx(max(wanted)) if (mark == 1).any() else None)
