"""Zarr and N5 volumes that others wrote, ours as others read them, and reading over http."""

import functools
import http.server
import json
import threading

import numpy as np
import pytest
import tensorstore as ts

from tests.io.test_volume import noise
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.errors import StorageError
from volflow.io.volume import Volume

SHAPE = (6, 7, 8)
WHOLE = noise(np.random.default_rng(0), SHAPE, "uint16")


def write_array(folder, array, driver="zarr", **metadata):
    """An array as tensorstore alone writes it."""
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{folder}/"}}
    if metadata:
        spec["metadata"] = metadata
    ts.open(spec, create=True, dtype=str(array.dtype), shape=array.shape).result()[...] = array


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def space(names="zyx", unit="nanometer"):
    axes = [{"name": n, "type": {"t": "time", "c": "channel"}.get(n, "space")} for n in names]
    return [{**axis, "unit": unit} if axis["type"] == "space" else axis for axis in axes]


def multiscales(axes, *transforms):
    datasets = [
        {"path": f"s{number}", "coordinateTransformations": each}
        for number, each in enumerate(transforms)
    ]
    return [{"version": "0.4", "axes": axes, "datasets": datasets}]


def scaled(*sides, shift=None):
    actual = [{"type": "scale", "scale": sides}]
    return [*actual, {"type": "translation", "translation": shift}] if shift else actual


def test_a_foreign_group_gives_its_scales_resolution_and_offset(tmp_path):
    write_array(tmp_path / "s0", WHOLE)
    write_array(tmp_path / "s1", WHOLE[:, :4, :4])
    fine = scaled(0.04, 0.004, 0.004, shift=(0.08, -0.004, 0))
    coarse = scaled(0.04, 0.008, 0.008, shift=(0.08, -0.002, 0.002))  # half a voxel is lost
    write_json(tmp_path / ".zgroup", {"zarr_format": 2})
    axes = space(unit="micrometer")
    write_json(tmp_path / ".zattrs", {"multiscales": multiscales(axes, fine, coarse)})
    volume = Volume.open(VolumeSpec(path=f"zarr://{tmp_path}"))
    assert volume.bounds == Box((2, -1, 0), (8, 6, 8))
    assert volume.resolution == pytest.approx((40, 4, 4))
    assert volume.scales == 2
    np.testing.assert_array_equal(volume.read(volume.bounds), WHOLE, strict=True)
    with pytest.raises(
        StorageError, match=r"expected a translation of whole voxels of .*; declare `offset`"
    ):
        Volume.open(VolumeSpec(path=f"zarr://{tmp_path}", level=1))
    with pytest.raises(StorageError, match=r"has no scale 2 \(it has 2\)"):
        Volume.open(VolumeSpec(path=f"zarr://{tmp_path}", level=2))


def test_half_a_voxel_of_translation_counts_as_none(tmp_path):
    write_array(tmp_path / "s0", WHOLE)
    shifted = scaled(40, 8, 8, shift=(0, 4, 4))
    write_json(tmp_path / ".zattrs", {"multiscales": multiscales(space(), shifted)})
    assert Volume.open(VolumeSpec(path=str(tmp_path))).bounds.start == (0, 0, 0)


def test_a_group_may_scale_and_move_all_its_scales(tmp_path):
    # Voxel i is at 2 * (20 * i + 20) + 80 nm along z: 40 nm a voxel, the first at 120 nm.
    write_array(tmp_path / "s0", WHOLE)
    actual = multiscales(space(), scaled(20, 4, 4, shift=(20, 0, 0)))
    actual[0]["coordinateTransformations"] = scaled(2, 2, 2, shift=(80, 0, 16))
    write_json(tmp_path / ".zattrs", {"multiscales": actual})
    volume = Volume.open(VolumeSpec(path=str(tmp_path)))
    assert (volume.resolution, volume.bounds.start) == ((40, 8, 8), (3, 0, 2))


@pytest.mark.parametrize(
    ("names", "shape", "channels"),
    [("tczyx", (1, 1, *SHAPE), 0), ("tczyx", (1, 2, *SHAPE), 2), ("czyx", (2, *SHAPE), 2)],
)
@pytest.mark.parametrize("format_", ["zarr", "zarr3"])
def test_axes_of_one_entry_are_dropped(tmp_path, format_, names, shape, channels):
    array = noise(np.random.default_rng(1), shape, "uint8")
    write_array(tmp_path / "s0", array, format_)
    actual = multiscales(space(names), scaled(*[1.0] * (len(names) - 3), 40, 8, 8))
    if format_ == "zarr":
        write_json(tmp_path / ".zattrs", {"multiscales": actual})
    else:
        ome = {"ome": {"version": "0.5", "multiscales": actual}}
        group = {"zarr_format": 3, "node_type": "group", "attributes": ome}
        write_json(tmp_path / "zarr.json", group)
    volume = Volume.open(VolumeSpec(path=str(tmp_path)))
    assert (volume.format, volume.channels, volume.resolution) == (format_, channels, (40, 8, 8))
    expected = array.reshape(shape[-4:] if channels else SHAPE)
    np.testing.assert_array_equal(volume.read(volume.bounds), expected, strict=True)


def test_axes_are_ordered_by_their_names(tmp_path):
    array = noise(np.random.default_rng(1), (*SHAPE[::-1], 2), "uint8")
    write_array(tmp_path / "s0", array)
    axes = space("xyzc")
    write_json(tmp_path / ".zattrs", {"multiscales": multiscales(axes, scaled(4, 5, 40, 1))})
    volume = Volume.open(VolumeSpec(path=str(tmp_path)))
    assert (volume.bounds.shape, volume.resolution) == (SHAPE, (40, 5, 4))
    np.testing.assert_array_equal(volume.read(volume.bounds), array.T, strict=True)


def test_what_is_no_volume_is_refused(tmp_path):
    write_array(tmp_path / "flat", WHOLE[0])
    with pytest.raises(
        StorageError, match=r"expected axes \(c,\) z, y, x; got .* of shape \(7, 8\)"
    ):
        Volume.open(VolumeSpec(path=f"zarr://{tmp_path}/flat"))
    write_array(tmp_path / "film" / "s0", np.stack([WHOLE, WHOLE]))
    actual = multiscales(space("tzyx"), scaled(1, 40, 8, 8))
    write_json(tmp_path / "film" / ".zattrs", {"multiscales": actual})
    with pytest.raises(
        StorageError, match=r"expected length 1 of axis 't', .* got shape \(2, 6, 7, 8\)"
    ):
        Volume.open(VolumeSpec(path=f"{tmp_path}/film"))
    write_json(tmp_path / "group" / ".zgroup", {"zarr_format": 2})
    with pytest.raises(
        StorageError, match="expected multiscales in the zarr group; name one of its arrays"
    ):
        Volume.open(VolumeSpec(path=f"{tmp_path}/group"))
    write_json(tmp_path / "torn" / ".zarray", {"zarr_format": 2})
    with pytest.raises(StorageError, match="cannot be opened"):
        Volume.open(VolumeSpec(path=f"{tmp_path}/torn"))


@pytest.mark.parametrize("format_", ["zarr", "zarr3"])
def test_a_bare_array_takes_resolution_and_offset_from_its_attributes(tmp_path, format_):
    attributes = {"voxel_size": [40, 8, 8], "offset": [80, 0, -16]}
    if format_ == "zarr3":
        write_array(tmp_path, WHOLE, format_, attributes=attributes)
    else:
        write_array(tmp_path, WHOLE, format_)
        write_json(tmp_path / ".zattrs", attributes)
    volume = Volume.open(VolumeSpec(path=f"{format_}://{tmp_path}"))
    assert (volume.resolution, volume.bounds.start) == ((40, 8, 8), (2, 0, -2))
    np.testing.assert_array_equal(volume.read(volume.bounds), WHOLE, strict=True)
    spec = VolumeSpec(path=f"{format_}://{tmp_path}")
    with pytest.raises(StorageError, match="was not written by volflow"):
        Volume.create(spec, Layer("uint16"), volume.bounds, (8, 8, 8), (4, 4, 4))


def test_foreign_n5_is_turned_and_its_attributes_understood(tmp_path):
    write_array(tmp_path / "a", WHOLE.T, "n5")
    path = tmp_path / "a" / "attributes.json"
    plain = json.loads(path.read_text())
    volume = Volume.open(VolumeSpec(path=f"n5://{tmp_path}/a"))
    assert (volume.bounds, volume.resolution) == (Box((0, 0, 0), SHAPE), None)
    np.testing.assert_array_equal(volume.read(volume.bounds), WHOLE, strict=True)
    write_json(
        path, {**plain, "pixelResolution": {"dimensions": [0.004, 0.005, 0.04], "unit": "um"}}
    )
    actual = Volume.open(VolumeSpec(path=f"{tmp_path}/a")).resolution
    assert actual == pytest.approx((40, 5, 4))
    named = {"axes": ["x", "z", "y"], "units": ["nm"] * 3, "scale": [4, 40, 5]}
    write_json(path, {**plain, "transform": {**named, "translate": [8, 80, -5]}})
    volume = Volume.open(VolumeSpec(path=f"{tmp_path}/a"))
    assert (volume.resolution, volume.bounds.start) == ((40, 5, 4), (2, -1, 2))


def test_foreign_n5_scales_are_the_folders_s0_s1(tmp_path):
    write_json(tmp_path / "attributes.json", {"n5": "2.0.0"})
    write_array(tmp_path / "s0", WHOLE.T, "n5")
    write_array(tmp_path / "s1", WHOLE[:3].T, "n5")
    volume = Volume.open(VolumeSpec(path=str(tmp_path), level=1))
    np.testing.assert_array_equal(volume.read(volume.bounds), WHOLE[:3], strict=True)
    with pytest.raises(StorageError, match="no N5 array in 's2'"):
        Volume.open(VolumeSpec(path=str(tmp_path), level=2))
    with pytest.raises(StorageError, match="has no scale 1"):
        Volume.open(VolumeSpec(path=f"{tmp_path}/s0", level=1))


@pytest.mark.parametrize(("format_", "version"), [("zarr", "0.4"), ("zarr3", "0.5")])
def test_our_own_groups_are_ome_zarr(tmp_path, format_, version):
    spec, bounds = VolumeSpec(path=f"{format_}://{tmp_path}/v"), Box((2, 4, -2), (8, 11, 6))
    layer = Layer("uint16", 0)
    for scale, factor in enumerate((1, 2)):
        box = bounds.zoom_out((1, factor, factor))
        sides = (40, 4 * factor, 4 * factor)
        volume, _ = Volume.create(spec, layer, box, sides, (4, 4, 4), scale=scale)
        volume.write(box, np.full(box.shape, scale + 1, "uint16"))
    name = ".zattrs" if format_ == "zarr" else "zarr.json"
    body = json.loads((tmp_path / "v" / name).read_text())
    attributes = body if format_ == "zarr" else body["attributes"]
    del attributes["volflow"]  # read as a foreign group from here on
    actual = attributes if format_ == "zarr" else attributes["ome"]
    reported = actual["multiscales"][0]["version"] if format_ == "zarr" else actual["version"]
    assert reported == version
    write_json(tmp_path / "v" / name, body)
    for level, factor in enumerate((1, 2)):
        volume = Volume.open(spec.model_copy(update={"level": level}))
        assert volume.bounds == bounds.zoom_out((1, factor, factor))
        assert volume.resolution == (40, 4 * factor, 4 * factor)
        assert (volume.read(volume.bounds) == level + 1).all()


# --- http ----------------------------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def served(tmp_path):
    handler = functools.partial(Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield tmp_path, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("format_", ["precomputed", "zarr", "zarr3", "n5"])
def test_volumes_are_read_over_http(served, format_):
    folder, url = served
    bounds = Box((1, 2, 3), (7, 9, 11))
    spec = VolumeSpec(path=f"{format_}://{folder}/a/v")
    volume, _ = Volume.create(spec, Layer("uint16"), bounds, (40, 8, 8), (4, 4, 4))
    volume.write(bounds, WHOLE)
    for path in (f"{format_}://{url}/a/v", f"{url}/a/v"):
        actual = Volume.open(VolumeSpec(path=path))
        assert (actual.bounds, actual.resolution, actual.format) == (bounds, (40, 8, 8), format_)
        np.testing.assert_array_equal(actual.read(bounds), WHOLE, strict=True)
    with pytest.raises(StorageError, match=f"{url}/a/w does not exist"):
        Volume.open(VolumeSpec(path=f"{format_}://{url}/a/w"))
