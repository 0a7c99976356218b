"""Blank, missing and repeated sections: tracks continue, and no new ones start after them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.harness import Memory
from tests.track.runs import run_chain
from tests.track.scenes import affinities, discs, straight
from volflow.core.geometry import Box
from volflow.stages.track import Track

SHAPE = (9, 48, 64)
BOUNDS = Box((2, 0, 0), (11, 48, 64))
OPTIONS = {"part": 3, "low": 100, "threshold": 0.5}


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    return discs(SHAPE, [straight((12, 12), (0.2, 0.5), 9), straight((30, 40), (0, -0.5), 9)])


def tracks(affinity: np.ndarray, image: np.ndarray | None = None, **options: object) -> np.ndarray:
    arrays = {"affinity": (affinity, BOUNDS.start)}
    if image is not None:
        arrays["em"] = (image, BOUNDS.start)
    memory = Memory(arrays)
    wires = {name: name for name in arrays}
    run_chain(Track(**OPTIONS, **options), memory, BOUNDS, wires, {})
    return memory.arrays["tracks"][0]


def assert_two_tracks(labels: np.ndarray, scene: np.ndarray) -> None:
    """Each object has one label, and the two have different ones."""
    np.testing.assert_array_equal(labels > 0, scene > 0)
    names = [np.unique(labels[scene == number]).tolist() for number in (1, 2)]
    assert [len(each) for each in names] == [1, 1]
    assert names[0] != names[1]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("blank", [[4], [3, 4, 5, 6], [2, 5]])
@pytest.mark.parametrize("with_image", [False, True])
def test_tracks_continue_after_blank_sections(scene, blank, reverse, with_image):
    """Affinities there and along z into the section after it are 0; more than `patience` of them.

    Section 3 is the first one of a part.
    """
    left = scene.copy()
    left[blank] = 0
    affinity = affinities(left)
    affinity[:, blank] = 0
    affinity[0, [z + 1 for z in blank]] = 0
    image = np.where(left > 0, 200, 90).astype(np.uint8)
    image[blank] = 0
    labels = tracks(affinity, image if with_image else None, reverse=reverse)
    assert not labels[blank].any()
    assert_two_tracks(labels, left)


@pytest.mark.parametrize("reverse", [False, True])
def test_tracks_continue_through_a_repeated_section(scene, reverse):
    scene = scene.copy()
    scene[4] = scene[3]
    assert_two_tracks(tracks(affinities(scene), reverse=reverse), scene)


def test_points_are_followed_through_a_blank_section(scene):
    left = scene.copy()
    left[4] = 0
    affinity = affinities(left)
    affinity[:, 4] = affinity[0, 5] = 0
    labels = tracks(affinity, points=((2, 12, 12),))
    np.testing.assert_array_equal(labels, left == 1)
