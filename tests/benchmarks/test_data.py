"""Mirrored affinities are those of the mirrored labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import data
from tests.public_data import needs_public_data
from tests.strategies import triples
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box, Triple
from volflow.io.volume import Volume


def joins(labels: np.ndarray) -> np.ndarray:
    """A number for each pair of a voxel with the one before it; 0 where there is none."""
    out = np.zeros((3, *labels.shape), np.uint8)
    for axis in range(3):
        before, after = (np.delete(labels, index, axis) for index in (-1, 0))
        inner = [slice(None)] * 3
        inner[axis] = slice(1, None)
        out[(axis, *inner)] = 1 + (before * 31 + after * 31) % 250  # of the pair, not its order
    return out


@given(triples(2, 5), triples(1, 14), st.data())
def test_affinities_follow_the_mirror(size: Triple, shape: Triple, draw: st.DataObject) -> None:
    source = np.random.default_rng(sum(size)).integers(0, 200, size)
    bounds = Box((0, 0, 0), shape)
    labels = data.mirror_labels(source, bounds)
    pads = [(0, max(0, want - has)) for want, has in zip(shape, size, strict=True)]
    padded = np.pad(source, pads, mode="reflect")
    np.testing.assert_array_equal(labels, padded[bounds.slices])
    starts = [draw.draw(st.integers(0, side - 1)) for side in shape]
    box = Box((starts[0], starts[1], starts[2]), shape)
    expected, actual = joins(labels), data.mirror_affinity(joins(source), box)
    for axis in range(3):  # the first plane of an axis joins nothing
        expected[(axis, *[slice(0, 1) if a == axis else slice(None) for a in range(3)])] = 0
        if box.start[axis] == 0:
            actual[(axis, *[slice(0, 1) if a == axis else slice(None) for a in range(3)])] = 0
    np.testing.assert_array_equal(actual, expected[(slice(None), *box.slices)])


def test_a_single_voxel_has_no_mirror_image() -> None:
    with pytest.raises(ValueError, match="two voxels or more"):
        data.reflected(1, 4)


@needs_public_data("fib25_medulla")
def test_the_slab_is_the_first_corner_of_its_mirror_image(tmp_path: Path) -> None:
    address = data.mirrored(tmp_path, (70, 64, 65))
    slab = Volume.open(VolumeSpec(path=data.AFFINITY, resolution=data.RESOLUTION))
    copy = Volume.open(VolumeSpec(path=address))
    assert copy.bounds == Box((0, 0, 0), (70, 64, 65))
    actual, source = copy.read(copy.bounds), slab.read(copy.bounds)
    assert source.any()
    np.testing.assert_array_equal(actual, source)
    assert data.mirrored(tmp_path, (70, 64, 65)) == address
