"""Zarr arrays with codecs that tensorstore lacks."""

import json
import warnings

import numcodecs
import numpy as np
import pytest

from volflow.config.pipeline import VolumeSpec
from volflow.errors import StorageError
from volflow.io.volume import Volume

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import numcodecs.zarr3
    import zarr

VOLUME = np.random.default_rng(0).integers(1, 60000, (6, 16, 20)).astype("u2")
CODECS = {
    "delta": {"filters": [numcodecs.Delta(dtype=">u2")]},
    "offset": {"filters": [numcodecs.FixedScaleOffset(offset=5, scale=1, dtype=">u2")]},
    "shuffle": {"filters": [numcodecs.Shuffle(2)]},
    "lz4": {"compressors": numcodecs.LZ4()},
    "lzma": {"compressors": numcodecs.LZMA()},
    "bz2": {"compressors": numcodecs.BZ2()},
    "zlib": {"compressors": numcodecs.Zlib()},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("codec", CODECS)
def test_codecs_of_zarr_2(tmp_path, codec):
    array = zarr.create_array(
        tmp_path, shape=VOLUME.shape, chunks=(3, 8, 8), dtype=">u2", zarr_format=2, **CODECS[codec]
    )
    array[...] = VOLUME
    array.attrs.update({"axis_names": list("zyx"), "voxel_size": [40, 8, 8], "units": "nm"})
    volume = Volume.open(VolumeSpec(path=f"zarr://{tmp_path}"))
    volume.verify()
    assert (volume.dtype, volume.chunk, volume.resolution) == ("uint16", (3, 8, 8), (40, 8, 8))
    np.testing.assert_array_equal(volume.read(volume.bounds), VOLUME, strict=True)
    by_others = [] if codec in ("bz2", "zlib") else ["read by zarr-python, which is slower"]
    assert [text.partition("; ")[2] for text in volume.warnings] == by_others
    if by_others:
        (tmp_path / "0.1.1").unlink()
        volume.verify()
        assert volume.warnings[-1].startswith("1 of 12 chunks are missing")
        (tmp_path / "0.0.0").write_bytes(b"damaged")
        with pytest.raises(StorageError, match="cannot be read: zarr-python: "):
            Volume.open(VolumeSpec(path=f"zarr://{tmp_path}")).read(volume.bounds)


@pytest.mark.filterwarnings("ignore")
def test_codecs_of_zarr_3(tmp_path):
    array = zarr.create_array(
        tmp_path,
        shape=VOLUME.T.shape,
        chunks=(8, 8, 3),
        dtype="u2",
        zarr_format=3,
        filters=[numcodecs.zarr3.Delta(dtype="<u2")],
        dimension_names=("x", "y", "z"),
    )
    array[...] = VOLUME.T
    volume = Volume.open(VolumeSpec(path=f"zarr3://{tmp_path}", resolution=(40, 8, 8)))
    volume.verify()
    np.testing.assert_array_equal(volume.read(volume.bounds), VOLUME, strict=True)
    assert "tensorstore lacks a codec of numcodecs.delta" in volume.warnings[0]


def test_codecs_that_could_run_code_are_refused(tmp_path):
    metadata = {
        "zarr_format": 2,
        "shape": [6, 16, 20],
        "chunks": [3, 8, 8],
        "dtype": "<u2",
        "order": "C",
        "fill_value": 0,
        "compressor": None,
        "filters": [{"id": "pickle"}],
    }
    (tmp_path / ".zarray").write_text(json.dumps(metadata))
    with pytest.raises(StorageError, match="filters are not supported"):
        Volume.open(VolumeSpec(path=f"zarr://{tmp_path}"))
