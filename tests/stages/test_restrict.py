"""Affinities restricted to a foreground: the rule, the blocks, and the road behind it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stages.contract import Case, StageContract
from tests.stages.contract import run as run_stage
from volflow import run
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.io.volume import Volume
from volflow.segment.restrict import in_foreground, restricted
from volflow.stages.restrict import Restrict

BOUNDS = Box((2, -3, 7), (11, 8, 17))


def drawn(seed: int, shape: tuple[int, int, int] = BOUNDS.shape) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "affinity": rng.integers(0, 256, (3, *shape), dtype=np.uint8),
        "foreground": rng.integers(0, 256, shape, dtype=np.uint8),
    }


class TestRestrict(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        return Case(Restrict(least=0.5), BOUNDS, drawn(0))


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_a_pair_is_no_surer_than_both_of_its_voxels(seed, least):
    volumes = drawn(seed, (3, 4, 5))
    bounds = Box((0, 0, 0), (3, 4, 5))
    actual = run_stage(Case(Restrict(least=least), bounds, volumes), (2, 3, 2))["restricted@0"]
    affinity, foreground = volumes["affinity"].tolist(), volumes["foreground"].tolist()
    for axis in range(3):
        for voxel in np.ndindex(3, 4, 5):
            other = [i - (a == axis) for a, i in enumerate(voxel)]
            ends = [voxel, other] if min(other) >= 0 else [voxel]
            tissue = min(foreground[z][y][x] for z, y, x in ends)
            z, y, x = voxel
            wanted = min(affinity[axis][z][y][x], tissue) if tissue / 255 >= least else 0
            assert actual[(axis, *voxel)] == wanted


def test_it_does_not_matter_from_which_end_a_pair_is_named():
    """A mirrored volume has mirrored pairs: plane n of a mirrored axis joins what plane -n does."""
    volumes = drawn(3, (5, 6, 7))
    bounds = Box((0, 0, 0), (5, 6, 7))
    actual = run_stage(Case(Restrict(), bounds, volumes), (5, 6, 7))["restricted@0"]
    mirrored = {
        "affinity": volumes["affinity"].copy(),
        "foreground": volumes["foreground"][:, ::-1],
    }
    mirrored["affinity"][1, :, 1:] = volumes["affinity"][1, :, :0:-1]
    again = run_stage(Case(Restrict(), bounds, mirrored), (5, 6, 7))["restricted@0"]
    assert actual[1, :, 1:].any()
    np.testing.assert_array_equal(again[1, :, 1:], actual[1, :, :0:-1])


def test_half_of_255_is_not_a_half():
    assert in_foreground(np.array([127, 128], np.uint8), 0.5).tolist() == [False, True]
    assert in_foreground(np.array([0, 254, 255], np.uint8), 1.0).tolist() == [False, False, True]
    assert in_foreground(np.array([0], np.uint8), 0.0).tolist() == [True]


def test_arrays_that_do_not_belong_together_are_reported():
    affinity, foreground = np.zeros((3, 2, 3, 4), np.uint8), np.zeros((2, 3, 4), np.uint8)
    with pytest.raises(
        ValueError, match=r"uint8 foreground of shape \(3, 4, 5\), one more voxel on the low"
    ):
        restricted(affinity, foreground)
    with pytest.raises(ValueError, match=r"expected uint8 affinities .* got float32"):
        restricted(affinity.astype("float32"), foreground)


# --- the road behind it --------------------------------------------------------------------------


def segmentation(
    folder: Path, name: str, *, least: float = 0.0, mask_below: float = 0.0, **rest: object
) -> np.ndarray:
    """The exact road over the volumes of the folder, by the plain or the restricted affinities."""
    use = {} if name == "plain" else {"in": {"affinity": "restricted"}}
    steps = [{"use": "restrict", "with": {"least": least}}] if use else []
    steps += [
        {"use": "fragments", **use, "with": {"low": 1 if least else 0}},
        {"use": "agglomerate", **use, "with": {"threshold": 0.6}},
        {"use": "relabel", "with": {"mask_below": mask_below}},
    ]
    volumes = {"affinity": {"path": f"zarr://{folder}/affinity.zarr"}}
    if use:
        volumes["foreground"] = {"path": f"zarr://{folder}/foreground.zarr"}
    document = {"run": f"{folder}/{name}", "volumes": volumes, "steps": steps, **rest}
    assert run({"block": [8, 8, 8], **document}).ok
    spec = VolumeSpec(path=f"precomputed://{folder}/{name}/segmentation")
    volume = Volume.open(spec, own=True)
    return volume.read(volume.bounds)


def store(path: Path, array: np.ndarray) -> None:
    layer = Layer("uint8", len(array) if array.ndim == 4 else 0)
    box = Box((0, 0, 0), array.shape[-3:])
    volume, _ = Volume.create(
        VolumeSpec(path=f"zarr://{path}"), layer, box, (10, 10, 10), (8, 8, 8)
    )
    volume.write(box, array)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store(tmp_path / "affinity.zarr", drawn(1, (12, 13, 14))["affinity"])
    return tmp_path


@pytest.mark.parametrize("bounds", [None, "1:12,2:13,3:11"])
def test_where_all_is_foreground_the_road_is_the_plain_one_byte_for_byte(folder, bounds):
    store(folder / "foreground.zarr", np.full((12, 13, 14), 255, np.uint8))
    rest = {"bounds": bounds} if bounds else {}
    plain = segmentation(folder, "plain", **rest)
    assert len(np.unique(plain)) > 5
    np.testing.assert_array_equal(segmentation(folder, "restricted", **rest), plain)


def test_what_is_no_foreground_belongs_to_no_segment(folder):
    foreground = np.full((12, 13, 14), 255, np.uint8)
    foreground[:, 6] = 127  # a wall through the volume
    foreground[:, 7] = 128  # and tissue, if only just
    store(folder / "foreground.zarr", foreground)
    actual = segmentation(folder, "restricted", least=0.5)
    assert not actual[:, 6].any()
    assert actual[:, 7].any()
    assert not np.intersect1d(actual[:, :6], actual[:, 7:]).any()
    assert (segmentation(folder, "plain")[:, 6] > 0).all()


def test_a_mask_takes_voxels_from_segments_and_changes_no_other(folder):
    foreground = drawn(2, (12, 13, 14))["foreground"]
    foreground[3:5] = 0
    store(folder / "foreground.zarr", foreground)
    whole = segmentation(folder, "restricted")
    assert (whole > 0).all()
    assert len(np.unique(whole)) > 5
    remaining = np.where(foreground >= 77, whole, 0)  # 0.3 of 255 is 76.5
    assert 0 < np.count_nonzero(remaining) < remaining.size
    masks = {
        "masked": {"mask_below": 0.3},
        "parts": {"mask_below": 0.3, "block": [5, 13, 6]},
    }
    for name, options in masks.items():
        np.testing.assert_array_equal(segmentation(folder, name, **options), remaining)
