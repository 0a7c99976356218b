"""A look for a voxel that is not 0: each voxel is read once at most, and no more than needed."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from volflow.core.geometry import Box, zyx
from volflow.engine.phases import empty_volume
from volflow.engine.phases.empty_volume import is_empty

START = (3, 5, 7)
SIDES = st.tuples(*[st.integers(1, 9)] * 3)


class Counted:
    """A volume in memory, and how often each voxel was read."""

    def __init__(self, voxels: np.ndarray, chunk: tuple[int, int, int]) -> None:
        self.bounds = Box(START, zyx(START) + voxels.shape)
        self.voxels, self.chunk = voxels, zyx(chunk)
        self.reads = np.zeros(voxels.shape, int)

    def read(self, box: Box) -> np.ndarray:
        inside = box.within(self.bounds)
        self.reads[inside] += 1
        return self.voxels[inside]


@given(SIDES, SIDES, SIDES, st.integers(1, 60))
def test_an_empty_volume_is_read_once(shape, chunk, cut, look):
    volume = Counted(np.zeros(shape, np.uint8), chunk)
    bounds = Box(volume.bounds.start, zyx(START) + cut)
    with patched(look):
        assert is_empty(volume, bounds) is True
    inside = bounds.clip(volume.bounds)
    assert volume.reads.max(initial=0) <= 1
    assert volume.reads.sum() == inside.size == volume.reads[inside.within(volume.bounds)].sum()


@given(SIDES, SIDES, st.integers(0, 10**6), st.integers(1, 60))
def test_one_voxel_is_enough_wherever_it_is(shape, chunk, place, look):
    voxels = np.zeros(shape, np.uint8)
    voxels.flat[place % voxels.size] = 1
    volume = Counted(voxels, chunk)
    with patched(look):
        assert is_empty(volume, volume.bounds) is False
    assert volume.reads[voxels != 0].tolist() == [1]


def test_reading_ends_at_the_first_voxel_or_after_so_many():
    first, last = np.zeros((4, 8, 8), np.uint8), np.zeros((4, 8, 8), np.uint8)
    first[0, 0, 0] = last[3, 7, 7] = 1
    with patched(64):
        for voxels, most, answer, boxes in (
            (first, None, False, 1),
            (last, None, False, 4),
            (last, 128, None, 2),
            (first * 0, 256, True, 4),
        ):
            volume = Counted(voxels, (1, 4, 4))
            assert is_empty(volume, volume.bounds, most) is answer
            assert volume.reads.sum() == boxes * 64


class patched:
    """The size of a box that is read, changed for a while; as a fixture it would be shared."""

    def __init__(self, look: int) -> None:
        self.look, self.before = look, empty_volume.LOOK

    def __enter__(self) -> None:
        empty_volume.LOOK = self.look

    def __exit__(self, *error: object) -> None:
        empty_volume.LOOK = self.before
