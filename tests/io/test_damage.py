"""Chunks that are lost, cut short or changed: an error that names them, never other voxels."""

import numpy as np
import pytest

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.errors import StorageError
from volflow.io.volume import Volume

BOUNDS = Box((0, 0, 0), (16, 16, 16))
CASES = [
    ("precomputed", "raw", None),
    ("precomputed", "compressed_segmentation", None),
    ("precomputed", "compressed_segmentation", (16, 16, 16)),
    ("zarr", "raw", None),
    ("zarr", "zstd", None),
    ("zarr", "gzip", None),
    ("zarr", "blosc", None),
    ("zarr3", "raw", None),
    ("zarr3", "zstd", None),
    ("zarr3", "zstd", (16, 16, 16)),
    ("n5", "raw", None),
    ("n5", "zstd", None),
    ("n5", "gzip", None),
]


def summed(case):
    """Whether a changed byte is known: by a checksum of the format, of gzip or of a shard."""
    format_, encoding, shard = case
    return format_ == "zarr3" or encoding == "gzip" or shard is not None


METADATA = ("info", ".zarray", ".zgroup", ".zattrs", "zarr.json", "attributes.json")


@pytest.fixture(params=CASES, ids=lambda case: "-".join(str(part) for part in case))
def layer(request, tmp_path):
    format_, encoding, shard = request.param
    spec = VolumeSpec(path=f"{format_}://{tmp_path}/v", encoding=encoding, shard=shard)
    layer = Layer("uint64", 0, "segmentation")
    volume, _ = Volume.create(spec, layer, BOUNDS, (8, 8, 8), (8, 8, 8))
    volume.write(BOUNDS, np.random.default_rng(0).integers(0, 2**60, BOUNDS.shape).astype("u8"))
    files = [path for path in (tmp_path / "v").rglob("*") if path.is_file()]
    chunks = sorted(path for path in files if path.name not in METADATA)
    assert len(chunks) == (1 if shard else 8)
    return spec, chunks[-1]


def read(spec, own=True):
    return Volume.open(spec, own=own).read(BOUNDS)


def test_a_deleted_chunk_is_an_error_in_our_own(layer):
    spec, chunk = layer
    chunk.unlink()
    with pytest.raises(StorageError, match=rf"{spec.path}, box {BOUNDS}: a chunk is missing") as e:
        read(spec)
    assert chunk.stem in str(e.value)
    with pytest.raises(StorageError, match="a chunk is missing"):  # in another run, too
        read(spec, own=False)
    assert not Volume.open(spec, partial=True).read(BOUNDS)[8:, 8:, 8:].any()  # in a viewer


@pytest.mark.parametrize("own", [True, False])
def test_a_chunk_cut_short_is_an_error(layer, own):
    spec, chunk = layer
    body, whole = chunk.read_bytes(), read(spec)
    lengths = [len(body) // 2, 3, 0]
    if spec.shard and spec.path.startswith("precomputed") and not own:
        lengths.pop()  # an empty shard reads as one that is missing
    for length in lengths:
        chunk.write_bytes(body[:length])
        with pytest.raises(StorageError, match=rf"{spec.path}, box {BOUNDS}: ") as error:
            read(spec, own)
        assert chunk.name in str(error.value)
    chunk.write_bytes(body[:-1])
    try:
        np.testing.assert_array_equal(read(spec, own), whole)
    except StorageError:
        return  # only gzip may not miss its last byte, and has all voxels without it
    assert spec.encoding == "gzip"


@pytest.mark.parametrize("layer", [case for case in CASES if summed(case)], indirect=True)
@pytest.mark.parametrize("own", [True, False])
def test_a_changed_byte_is_an_error_where_the_format_has_a_checksum(layer, own):
    spec, chunk = layer
    body = chunk.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(8):
        garbled = bytearray(body)
        garbled[rng.integers(len(body) // 4, 3 * len(body) // 4)] ^= 0x10
        chunk.write_bytes(garbled)
        with pytest.raises(StorageError, match=rf"{spec.path}, box {BOUNDS}: ") as error:
            read(spec, own)
        assert chunk.name in str(error.value)


def test_a_chunk_of_noise_is_an_error(layer):
    spec, chunk = layer
    rng = np.random.default_rng(2)
    chunk.write_bytes(rng.bytes(len(chunk.read_bytes()) + 5))
    with pytest.raises(StorageError, match=rf"{spec.path}, box {BOUNDS}: "):
        read(spec)


@pytest.mark.parametrize("shape", [(16, 16, 16), (96, 96, 96)])
def test_a_lost_entry_in_the_index_of_our_own_shards_is_not_read_as_zeros(tmp_path, shape):
    bounds = Box((0, 0, 0), shape)
    spec = VolumeSpec(path=f"precomputed://{tmp_path}/v", shard=(128, 128, 128))
    layer = Layer("uint32", 0, "segmentation")
    volume, _ = Volume.create(spec, layer, bounds, (8, 8, 8), (8, 8, 8))
    whole = np.ones(shape, "uint32")
    whole[:8] = 0  # chunks that are not stored
    volume.write(bounds, whole)
    (shard,) = (tmp_path / "v").rglob("*.shard")
    body = shard.read_bytes()
    np.testing.assert_array_equal(Volume.open(spec, own=True).read(bounds), whole)
    entries = 16 << (3 if shape[0] > 16 else 0)
    filled = [at for at in range(0, entries, 16) if any(body[at : at + 16])]
    assert filled
    for at in filled:
        shard.write_bytes(body[:at] + bytes(16) + body[at + 16 :])
        for own in (True, False):
            with pytest.raises(StorageError, match=rf"box {bounds}: .*0\.shard is damaged"):
                Volume.open(spec, own=own).read(bounds)
    shard.write_bytes(body[:9])
    with pytest.raises(StorageError, match=r"0\.shard"):
        Volume.open(spec, own=True).read(bounds)
