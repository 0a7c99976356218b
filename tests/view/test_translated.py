"""Volumes of other formats, as Neuroglancer would read them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.errors import StorageError
from volflow.io.formats.as_precomputed import Translated, chunk_box
from volflow.io.formats.stored_array import Layout
from volflow.io.volume import Volume

NM = (30.0, 8.0, 4.0)


def put_together(translated: Translated, level: int = 0) -> np.ndarray:
    """All voxels of a scale, from its info and its chunks, axes (c) z y x."""
    body = translated.find(["info"])
    assert body is not None
    info = json.loads(body.read())
    scale = info["scales"][level]
    size, chunk, first = scale["size"], scale["chunk_sizes"][0], scale["voxel_offset"]
    channels = info["num_channels"]
    whole = np.zeros((channels, *size[::-1]), info["data_type"])
    starts = [range(0, n, c) for n, c in zip(size, chunk, strict=True)]
    for x in starts[0]:
        for y in starts[1]:
            for z in starts[2]:
                start = (x, y, z)
                stop = [min(a + c, n) for a, c, n in zip(start, chunk, size, strict=True)]
                name = "_".join(
                    f"{a + o}-{b + o}" for a, b, o in zip(start, stop, first, strict=True)
                )
                actual = translated.find([scale["key"], name])
                assert actual is not None
                shape = [b - a for a, b in zip(start, stop, strict=True)]
                part = np.frombuffer(actual.read(), info["data_type"])
                part = part.reshape((channels, *shape[::-1]))
                region = tuple(slice(a, b) for a, b in zip(start[::-1], stop[::-1], strict=True))
                whole[(slice(None), *region)] = part
    return whole if channels > 1 else whole[0]


def numbers(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    rng = np.random.default_rng(7)
    return rng.integers(0, 200, shape).astype(dtype)


def test_a_tiff_stack_reads_as_a_precomputed_image(tmp_path: Path) -> None:
    voxels = numbers((21, 70, 300), "uint8")
    tifffile.imwrite(tmp_path / "em.tif", voxels)
    spec = VolumeSpec(path=str(tmp_path / "em.tif"), resolution=NM, offset=(5, -3, 7))
    translated = Translated(spec, "image", (1, 1, 1))
    assert_array_equal(put_together(translated), voxels)
    scale = translated.info()["scales"][0]
    assert (scale["resolution"], scale["voxel_offset"]) == ([4, 8, 30], [7, -3, 5])


@pytest.mark.parametrize(
    ("dtype", "kind", "shown"),
    [
        ("uint64", "segmentation", "uint64"),
        ("float64", "image", "float32"),
        ("bool", "image", "uint8"),
        ("uint16", "image", "uint16"),
    ],
)
def test_hdf5_is_shown_in_the_nearest_type(
    tmp_path: Path, dtype: str, kind: str, shown: str
) -> None:
    voxels = numbers((9, 65, 64), dtype)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["a"] = voxels
    translated = Translated(VolumeSpec(path=f"hdf5://{tmp_path}/v.h5?dataset=a"), kind, NM)
    info = translated.info()
    assert (info["type"], info["data_type"]) == (kind, shown)
    assert info["scales"][0]["resolution"] == [4, 8, 30]  # the run's: the file has none
    assert_array_equal(put_together(translated), voxels.astype(shown))


@pytest.mark.parametrize("dtype", ["int32", "float32", "int64"])
def test_what_neuroglancer_cannot_show_is_refused(tmp_path: Path, dtype: str) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["a"] = numbers((4, 5, 6), dtype)
    spec = VolumeSpec(path=f"hdf5://{tmp_path}/v.h5?dataset=a")
    with pytest.raises(StorageError, match=f"does not display {dtype} of a segmentation"):
        Translated(spec, "segmentation", NM)


def test_what_is_declared_is_what_is_shown(tmp_path: Path) -> None:
    stored = np.random.default_rng(1).random((3, 8, 9, 10)).astype("float32")
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["a"] = stored
    spec = VolumeSpec(
        path=f"hdf5://{tmp_path}/v.h5?dataset=a", channels=(2, 1, 0), scale=255, offset_sign=1
    )
    volume = Volume.open(spec)
    shown = put_together(Translated(spec, "affinity", NM))
    assert shown.dtype == "uint8"
    assert_array_equal(shown, volume.read(volume.bounds))
    assert shown.any()


def test_every_scale_is_offered(run: Path) -> None:
    spec = VolumeSpec(path=f"precomputed://{run}/segmentation")
    translated = Translated(spec, "segmentation", NM)
    scales = translated.info()["scales"]
    assert isinstance(scales, list)
    assert len(scales) == Volume.open(spec).scales > 1
    for level in range(len(scales)):
        volume = Volume.open(spec.model_copy(update={"level": level}))
        assert_array_equal(put_together(translated, level), volume.read(volume.bounds))


@pytest.mark.parametrize(
    "key",
    [
        ["info", "x"],
        [],
        ["4_8_30"],
        ["4_8_30", "x"],
        ["4_8_30", "0-5_0-5_0-4"],
        ["4_8_30", "0-6_0-5_0-4_0-1"],
        ["4_8_30", "1-6_0-5_0-4"],
        ["4_8_30", "-64-0_0-5_0-4"],
        ["4_8_30", "64-128_0-5_0-4"],
        ["4_8_30", "0-99999999999999999999999_0-5_0-4"],
        ["1_1_1", "0-6_0-5_0-4"],
    ],
)
def test_there_is_nothing_under_other_keys(tmp_path: Path, key: list[str]) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["a"] = numbers((4, 5, 6), "uint8")
    translated = Translated(VolumeSpec(path=f"hdf5://{tmp_path}/v.h5?dataset=a"), "image", NM)
    assert translated.find(["4_8_30", "0-6_0-5_0-4"]) is not None
    assert translated.find(key) is None


_side = st.integers(1, 5)
_triples: Any = st.tuples(_side, _side, _side)


@given(_triples, _triples, st.tuples(*[st.integers(-9, 9)] * 3))
def test_the_chunks_partition_the_bounds(
    shape: tuple[int, int, int], chunk: tuple[int, int, int], start: tuple[int, int, int]
) -> None:
    box = Box((0, 0, 0), shape).shift(start)
    layout = Layout(box, NM, np.dtype("uint8"), 0, chunk)
    covered = np.zeros(shape, int)
    spans = [
        [(a, b) for a in range(first, last) for b in range(a + 1, last + 1)]
        for first, last in zip(box.start, box.stop, strict=True)
    ]
    for z, y, x in itertools.product(*spans):
        actual = chunk_box(layout, "_".join(f"{a}-{b}" for a, b in (x, y, z)))
        if actual is not None:
            assert actual == Box((z[0], y[0], x[0]), (z[1], y[1], x[1]))
            covered[actual.within(box)] += 1
    assert_array_equal(covered, np.ones(shape, int))
