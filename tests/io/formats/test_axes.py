"""Axes, units, voxel size and position of volumes that others wrote."""

import json

import h5py
import numpy as np
import pytest
import tensorstore as ts

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import zyx
from volflow.errors import StorageError
from volflow.io.formats.metadata.axes import Metadata, place
from volflow.io.volume import Volume

VOLUME = np.random.default_rng(0).integers(1, 255, (6, 16, 20), dtype=np.uint8)


def write_array(folder, array, driver="zarr"):
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{folder}/"}}
    opened = ts.open(spec, create=True, dtype=str(array.dtype), shape=array.shape).result()
    opened[...] = np.ascontiguousarray(array)
    return folder


def with_attributes(folder, attributes, name=".zattrs"):
    path = folder / name
    body = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**body, **attributes}))
    return folder


def ome(folder, array, names="zyx", unit="nanometer", transforms=(), **multiscale):
    write_array(folder / "0", array)
    axes = [{"name": name, "type": "space", **({"unit": unit} if unit else {})} for name in names]
    dataset = {"path": "0", "coordinateTransformations": list(transforms)}
    image = {"version": "0.4", "axes": axes, "datasets": [dataset], **multiscale}
    image = {key: value for key, value in image.items() if value is not None}
    return with_attributes(folder, {"multiscales": [image]})


def opened(path, **declared):
    volume = Volume.open(VolumeSpec(path=str(path), **declared))
    return volume, volume.read(volume.bounds)


def moved(scale, shift):
    return [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]


@pytest.mark.parametrize("unit", ["", "furlong", "micron", "um", "nm", "nanometers"])
def test_a_translation_counts_in_voxels_whatever_the_unit(tmp_path, unit):
    transforms = moved([0.04, 0.008, 0.008], [0.4, 0.08, 0.16])
    ome(tmp_path, VOLUME, unit=unit, transforms=transforms)
    volume, voxels = opened(tmp_path, resolution=(40, 8, 8))
    assert volume.bounds.start == (10, 10, 20)
    np.testing.assert_array_equal(voxels, VOLUME)
    undeclared, _ = opened(tmp_path)
    known = unit in ("micron", "um")
    assert (undeclared.resolution == pytest.approx((40, 8, 8))) if known else True
    if unit in ("", "furlong"):
        assert undeclared.resolution is None
        assert "declare `resolution`" in undeclared.warnings[0]
        assert volume.warnings == ()


@pytest.mark.parametrize("names", ["zyx", "xyz", "yxz"])
@pytest.mark.parametrize("below", ["", "/0"])
def test_an_array_named_within_its_group_keeps_axes_and_position(tmp_path, names, below):
    turn = ["zyx".index(name) for name in names]
    sides, shift = np.array([40, 8, 4])[turn], np.array([400, 80, 80])[turn]
    ome(tmp_path, VOLUME.transpose(turn), names, "nanometer", moved(sides.tolist(), shift.tolist()))
    volume, voxels = opened(f"{tmp_path}{below}")
    assert (volume.bounds.start, volume.resolution) == ((10, 10, 20), (40, 8, 4))
    assert volume.warnings == ()
    np.testing.assert_array_equal(voxels, VOLUME)


@pytest.mark.parametrize("key", ["_ARRAY_DIMENSIONS", "axis_names", "axes", "axistags"])
def test_named_axes_order_an_array(tmp_path, key):
    channels = np.random.default_rng(1).integers(1, 255, (6, 16, 20, 3), dtype=np.uint8)
    for names, array, expected in (
        ("xyz", VOLUME.T, VOLUME),
        ("zyxc", channels, np.moveaxis(channels, -1, 0)),
    ):
        value = list(names)
        if key == "axistags":
            value = json.dumps({"axes": [{"key": name} for name in names]})
        with_attributes(write_array(tmp_path / names, array), {key: value})
        volume, voxels = opened(tmp_path / names, resolution=(40, 8, 8))
        np.testing.assert_array_equal(voxels, expected)
        assert volume.warnings == ()
        with h5py.File(tmp_path / f"{names}.h5", "w") as file:
            file.create_dataset("data", data=array).attrs[key] = value
        _, voxels = opened(tmp_path / f"{names}.h5", resolution=(40, 8, 8))
        np.testing.assert_array_equal(voxels, expected)


def test_units_of_attributes_count(tmp_path):
    attributes = {"voxel_size": [0.04, 0.008, 0.008], "offset": [0.4, 0.08, 0.16]}
    with_attributes(write_array(tmp_path / "a", VOLUME), {**attributes, "units": ["um"] * 3})
    volume, _ = opened(tmp_path / "a")
    assert volume.resolution == pytest.approx((40, 8, 8))
    assert volume.bounds.start == (10, 10, 20)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("data", data=VOLUME)
        data.attrs["element_size_um"] = [0.04, 0.008, 0.008]
    assert opened(tmp_path / "a.h5")[0].resolution == pytest.approx((40, 8, 8))
    with_attributes(write_array(tmp_path / "b", VOLUME), attributes)
    assert "has no unit; taken as nanometer" in " ".join(opened(tmp_path / "b")[0].warnings)


def test_an_offset_counts_next_to_a_declared_resolution(tmp_path):
    with_attributes(write_array(tmp_path / "a", VOLUME), {"offset": [400, 80, 160]})
    volume, voxels = opened(tmp_path / "a", resolution=(40, 8, 8))
    assert volume.bounds.start == (10, 10, 20)
    np.testing.assert_array_equal(voxels, VOLUME)
    assert opened(tmp_path / "a", offset=(1, 2, 3))[0].bounds.start == (1, 2, 3)
    with pytest.raises(StorageError, match="expected a voxel size with its offset of"):
        opened(tmp_path / "a")
    with pytest.raises(StorageError, match="expected a translation of whole voxels of 30, 8, 8"):
        opened(tmp_path / "a", resolution=(30, 8, 8))


@pytest.mark.parametrize("value", [["a", "b", "c"], [float("nan"), 8, 8], [-1, 8, 8], [8, 8], 0])
def test_a_voxel_size_of_other_things_is_unknown_and_named(tmp_path, value):
    with_attributes(write_array(tmp_path, VOLUME), {"resolution": value})
    volume, _ = opened(tmp_path)
    assert volume.resolution is None
    assert "expected a voxel size of positive numbers, got" in " ".join(volume.warnings)
    assert opened(tmp_path, resolution=(40, 8, 8))[0].resolution == (40, 8, 8)


def n5(folder, array, group=None, **attributes):
    path = folder / "s1" if group is not None else folder
    with_attributes(write_array(path, array, "n5"), attributes, "attributes.json")
    if group is not None:
        with_attributes(folder, group, "attributes.json")
    return f"n5://{path}"


TRANSFORM = {"axes": list("zyx"), "scale": [40, 8, 4], "translate": [400, 80, 80]}


@pytest.mark.parametrize(
    ("group", "attributes", "start", "resolution"),
    [
        (None, {"transform": {**TRANSFORM, "units": ["nanometers"] * 3}}, (10, 10, 20), (40, 8, 4)),
        (None, {"transform": {**TRANSFORM, "units": "nm"}}, (10, 10, 20), (40, 8, 4)),
        (None, {"transform": {**TRANSFORM, "translate": None}}, (0, 0, 0), None),
        (None, {"resolution": [4, 8, 40], "units": ["nm"] * 3}, (0, 0, 0), (40, 8, 4)),
        (
            None,
            {"pixelResolution": [0.004, 0.008, 0.04], "units": ["um"] * 3},
            (0, 0, 0),
            (40, 8, 4),
        ),
        (
            None,
            {
                "downsamplingFactors": [2, 2, 1],
                "pixelResolution": {"unit": "nm", "dimensions": [4, 8, 40]},
            },
            (0, 0, 0),
            (40, 16, 8),
        ),
        (
            {"pixelResolution": {"unit": "nm", "dimensions": [4, 8, 40]}},
            {
                "downsamplingFactors": [2, 2, 1],
                "pixelResolution": {"unit": "nm", "dimensions": [8, 16, 40]},
            },
            (0, 0, 0),
            (40, 16, 8),
        ),
        (
            {
                "pixelResolution": {"unit": "nm", "dimensions": [4, 8, 40]},
                "scales": [[1, 1, 1], [2, 2, 1]],
            },
            {},
            (0, 0, 0),
            (40, 16, 8),
        ),
        (
            {
                "multiscales": [
                    {"datasets": [{"path": "s1", "transform": {**TRANSFORM, "units": ["nm"] * 3}}]}
                ]
            },
            {},
            (10, 10, 20),
            (40, 8, 4),
        ),
    ],
)
def test_n5_metadata(tmp_path, group, attributes, start, resolution):
    path = n5(tmp_path, VOLUME.T, group, **attributes)
    volume, voxels = opened(path)
    np.testing.assert_array_equal(voxels, VOLUME)
    assert volume.bounds.start == start
    assert volume.resolution == (None if resolution is None else pytest.approx(resolution))


def test_axes_of_n5_are_listed_fastest_first(tmp_path):
    path = n5(tmp_path, VOLUME, axes=["z", "y", "x"])
    np.testing.assert_array_equal(opened(path)[1], VOLUME)


@pytest.mark.parametrize(
    ("array", "image"),
    [
        (VOLUME[None, None], {"version": "0.1", "axes": None}),
        (VOLUME[None, None], {"version": "0.2", "axes": None}),
        (VOLUME, {"version": "0.3", "axes": ["z", "y", "x"]}),
    ],
)
def test_old_groups_have_no_voxel_size(tmp_path, array, image):
    ome(tmp_path, array, **image)
    volume, voxels = opened(tmp_path)
    np.testing.assert_array_equal(voxels, VOLUME)
    assert volume.resolution is None


def test_axes_of_coordinate_systems(tmp_path):
    axes = [{"name": n, "type": "space", "unit": "nanometer"} for n in "xyz"]
    inner = [{"type": "scale", "scale": [4, 8, 40]}]
    sequence = {"type": "sequence", "output": "physical", "transformations": inner}
    others = {"name": "array", "axes": [{"name": str(n)} for n in range(3)]}
    systems = [others, {"name": "physical", "axes": axes}]
    ome(
        tmp_path,
        VOLUME.T,
        transforms=[sequence],
        version="0.6",
        axes=None,
        coordinateSystems=systems,
    )
    volume, voxels = opened(tmp_path)
    np.testing.assert_array_equal(voxels, VOLUME)
    assert volume.resolution == (40, 8, 4)
    assert "got 0.6; read as 0.5" in volume.warnings[0]


@pytest.mark.parametrize("kind", ["rotation", "affine", "translation"])
def test_a_transformation_that_is_not_understood_needs_a_declared_offset(tmp_path, kind):
    ome(tmp_path, VOLUME, transforms=[{"type": kind, "path": "elsewhere"}])
    with pytest.raises(StorageError, match="expected a scale or translation of 3 numbers, got"):
        opened(tmp_path)
    volume, _ = opened(tmp_path, offset=(1, 2, 3))
    assert volume.bounds.start == (1, 2, 3)
    assert volume.resolution is None


@pytest.mark.parametrize("listed", ["text", [{}], [{"datasets": [{}]}], [{"datasets": "0"}]])
def test_damaged_multiscales_are_named(tmp_path, listed):
    with_attributes(write_array(tmp_path / "0", VOLUME).parent, {"multiscales": listed})
    with pytest.raises(StorageError, match="multiscales: expected a list of datasets"):
        Volume.open(VolumeSpec(path=f"zarr://{tmp_path}"))


def test_centres_of_coarser_voxels_explain_parts_of_voxels():
    for factor in (2, 4, 8):
        side, fine = 8.0 * factor, 8.0
        shift = [5 * side + (side - fine) / 2] * 3
        coarse = Metadata(names="zyx", scale=[side] * 3, translation=shift, finest=[fine] * 3)
        assert place(coarse, (9, 9, 9), "v").start == zyx(5)
        assert place(coarse, (9, 9, 9), "v").notes.offset_problem == ""
        alone = Metadata(names="zyx", scale=[side] * 3, translation=shift)
        assert (
            "expected a translation of whole voxels"
            in place(alone, (9, 9, 9), "v").notes.offset_problem
        )
