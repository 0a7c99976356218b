"""Missing chunks of volumes that others wrote, and objects that are no chunks."""

import bz2
import json
import time

import numpy as np
import pytest
import tensorstore as ts

from volflow.config.pipeline import VolumeSpec
from volflow.errors import StorageError
from volflow.io.volume import Volume

VOLUME = np.random.default_rng(0).integers(1, 255, (6, 16, 20), dtype=np.uint8)
DRIVERS = {
    "zarr": {"chunks": [3, 8, 8]},
    "zarr nested": {"chunks": [3, 8, 8], "dimension_separator": "/"},
    "zarr3": {},
    "zarr3 flat": {"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}}},
    "n5": {},
    "precomputed": {},
}


def write(folder, kind, array=VOLUME):
    driver = kind.split()[0]
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{folder}/"}}
    if driver == "precomputed":
        spec |= {
            "driver": "neuroglancer_precomputed",
            "multiscale_metadata": {"data_type": "uint8", "num_channels": 1, "type": "image"},
            "scale_metadata": {
                "size": array.shape[::-1],
                "chunk_size": [8, 8, 3],
                "resolution": [8, 8, 40],
                "encoding": "raw",
                "voxel_offset": [-3, 5, 0],
            },
        }
        ts.open(spec, create=True).result()[..., 0] = array.T
        return f"precomputed://{folder}"
    if DRIVERS[kind]:
        spec["metadata"] = DRIVERS[kind]
    stored = array.T if driver == "n5" else array
    layout = ts.ChunkLayout(chunk_shape=(8, 8, 3) if driver == "n5" else (3, 8, 8))
    opened = ts.open(spec, create=True, dtype="uint8", shape=stored.shape, chunk_layout=layout)
    opened.result()[...] = stored
    return f"{driver}://{folder}"


def checked(path):
    volume = Volume.open(VolumeSpec(path=path))
    volume.verify()
    return volume


def chunks(folder):
    plain = ("zarr.json", "attributes.json", "info")
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return [p for p in files if p.name not in plain and p.name[0] != "."]


def about_chunks(volume):
    return [warning for warning in volume.warnings if "chunks" in warning]


@pytest.mark.parametrize("kind", DRIVERS)
def test_missing_chunks_are_counted(tmp_path, kind):
    path = write(tmp_path, kind)
    assert about_chunks(checked(path)) == []
    (tmp_path / "README.md").write_text("")
    chunks(tmp_path)[0].unlink() if kind != "precomputed" else None
    objects = [p for p in chunks(tmp_path) if p.name != "README.md"]
    for each in objects[: len(objects) - 10]:
        each.unlink()
    assert about_chunks(checked(path)) == [
        "2 of 12 chunks are missing and are read as the fill value"
    ]
    for each in objects[-10:]:
        each.unlink()
    with pytest.raises(StorageError, match="no chunk of 12 exist"):
        checked(path)


@pytest.mark.parametrize("kind", DRIVERS)
def test_packed_chunks_are_not_background(tmp_path, kind):
    path = write(tmp_path, kind)
    packed = chunks(tmp_path)[5]
    packed.with_name(packed.name + ".bz2").write_bytes(bz2.compress(packed.read_bytes()))
    assert about_chunks(checked(path)) == []  # next to its chunk it is harmless
    packed.unlink()
    with pytest.raises(StorageError, match=r"11 chunks of 12 exist: .*, got .*\.bz2; correct"):
        checked(path)


@pytest.mark.parametrize(("printed", "stored"), [(".", "/"), ("/", ".")])
def test_chunks_of_another_separator_are_not_background(tmp_path, printed, stored):
    write(tmp_path, "zarr nested" if stored == "/" else "zarr")
    metadata = json.loads((tmp_path / ".zarray").read_text())
    (tmp_path / ".zarray").write_text(json.dumps({**metadata, "dimension_separator": printed}))
    with pytest.raises(StorageError, match=r"no chunk of 12 exist: expected chunks such as 0"):
        checked(f"zarr://{tmp_path}")


def test_many_chunks_are_counted_in_time(tmp_path):
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{tmp_path}/"}}
    spec["metadata"] = {"chunks": [1, 1, 1], "dimension_separator": "/"}
    array = ts.open(spec, create=True, dtype="uint8", shape=(100, 100, 100)).result()
    array[:1, :10] = 1
    start = time.monotonic()
    volume = checked(f"zarr://{tmp_path}")
    assert time.monotonic() - start < 5
    assert about_chunks(volume)[0].startswith("999,000 of 1,000,000 chunks are missing")


def test_a_remote_volume_is_sampled():
    spec = {"driver": "zarr", "kvstore": "memory://chunks/v/", "metadata": DRIVERS["zarr"]}
    from volflow.io.address import context

    opened = ts.open(spec, create=True, dtype="uint8", shape=VOLUME.shape, context=context())
    array = opened.result()
    with pytest.raises(StorageError, match=r"expected chunks with names such as 0\.0\.0, got none"):
        checked("zarr://memory://chunks/v")
    array[:3] = VOLUME[:3]
    assert about_chunks(checked("zarr://memory://chunks/v"))[0].startswith("6 of 12 chunks")
