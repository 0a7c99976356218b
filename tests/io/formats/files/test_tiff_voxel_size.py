"""Voxel sizes that tifffile writes for ImageJ and OME."""

import numpy as np
import pytest
import tifffile

from volflow.config.pipeline import VolumeSpec
from volflow.io.volume import Volume

ARRAY = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def resolution(path):
    return Volume.open(VolumeSpec(path=str(path))).resolution


@pytest.mark.parametrize(
    ("unit", "nm"),
    [("nm", 1), ("um", 1e3), ("micron", 1e3), ("\\u00B5m", 1e3), ("inch", 2.54e7)],
)
def test_imagej_has_pixels_per_unit_and_a_spacing(tmp_path, unit, nm):
    path = tmp_path / "em.tif"
    tifffile.imwrite(
        path, ARRAY, imagej=True, resolution=(1 / 0.25, 1 / 0.5),
        metadata={"axes": "ZYX", "unit": unit, "spacing": 4.0},
    )  # fmt: skip
    assert resolution(path) == pytest.approx((4.0 * nm, 0.5 * nm, 0.25 * nm))


@pytest.mark.parametrize(
    "metadata",
    [
        {"unit": "um"},
        {"spacing": 4.0},
        {"unit": "pixel", "spacing": 4.0},
        {"unit": "um", "spacing": 0.0},
    ],
)
def test_imagej_without_a_unit_or_a_spacing_has_no_voxel_size(tmp_path, metadata):
    path = tmp_path / "em.tif"
    tifffile.imwrite(
        path, ARRAY, imagej=True, resolution=(4.0, 2.0), metadata={"axes": "ZYX", **metadata}
    )
    assert resolution(path) is None


@pytest.mark.parametrize(("unit", "nm"), [("nm", 1), ("µm", 1e3), (None, 1e3), ("Å", 0.1)])
def test_ome_has_physical_sizes_and_units(tmp_path, unit, nm):
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 4.0}
    units = {f"{name}Unit": unit for name in sizes if unit}
    path = tmp_path / "em.ome.tif"
    tifffile.imwrite(path, ARRAY, metadata={"axes": "ZYX", **sizes, **units})
    assert resolution(path) == pytest.approx((4.0 * nm, 0.5 * nm, 0.25 * nm))
    spec = VolumeSpec(path=str(path), resolution=(40, 4, 4))
    assert Volume.open(spec).resolution == (40, 4, 4)  # what is declared counts


def test_no_voxel_size_is_taken_from_resolution_tags_alone(tmp_path):
    path = tmp_path / "em.tif"
    tifffile.imwrite(
        path, ARRAY, resolution=(72, 72), resolutionunit="INCH", photometric="minisblack"
    )
    assert resolution(path) is None
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "em.ome.tif", ARRAY, metadata={"axes": "ZYX", **sizes})
    assert resolution(tmp_path / "em.ome.tif") is None
