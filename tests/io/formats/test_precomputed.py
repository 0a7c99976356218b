"""cloud-volume reads what we write; what it writes is read."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.io.test_volume import boxes, noise
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.errors import StorageError
from volflow.io.volume import Volume

pytestmark = pytest.mark.filterwarnings("ignore")  # cloud-volume's own


def cloud_volume():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cloudvolume import CloudVolume
    return CloudVolume


def second_reading(folder, mip=0):
    """The whole scale as cloud-volume reads it, turned to (c,) z, y, x."""
    volume = cloud_volume()(f"file://{folder}", mip=mip, progress=False)
    volume.fill_missing = False
    whole = np.asarray(volume[:]).T  # c, z, y, x
    return volume, whole


@settings(max_examples=25)
@given(st.data())
def test_cloud_volume_reads_every_layer_to_equality(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cv")
    bounds = data.draw(boxes(0, 40, 2, 30))
    chunk = tuple(data.draw(st.sampled_from([3, 4, 8])) for _ in range(3))
    shard = None
    if data.draw(st.booleans()):
        shard = tuple(c * data.draw(st.sampled_from([1, 2, 4])) for c in chunk)
    dtype = data.draw(st.sampled_from(["uint8", "uint16", "uint32", "uint64", "float32"]))
    kinds = ["image", "affinity"] + ["segmentation"] * dtype.startswith("uint")
    layer = Layer(dtype, data.draw(st.sampled_from([0, 3])), data.draw(st.sampled_from(kinds)))
    spec = VolumeSpec(path=f"precomputed://{folder}", shard=shard)
    try:
        volume, _ = Volume.create(spec, layer, bounds, (40, 4.5, 4), chunk)
    except StorageError as error:
        assume("Morton" not in str(error))
        raise
    shape = (*[layer.channels][: layer.channels > 0], *bounds.shape)
    whole = noise(np.random.default_rng(0), shape, dtype)
    volume.write(bounds, whole)
    other, actual = second_reading(folder)
    np.testing.assert_array_equal(actual, whole if layer.channels else whole[None], strict=True)
    assert tuple(other.resolution) == (4, 4.5, 40)
    assert tuple(other.voxel_offset) == bounds.start[::-1]
    assert other.layer_type == ("segmentation" if layer.kind == "segmentation" else "image")
    packed = layer.kind == "segmentation" and dtype in ("uint32", "uint64")
    assert other.encoding == ("compressed_segmentation" if packed else "raw")


def test_cloud_volume_reads_all_scales_with_ids_beyond_float64(tmp_path):
    spec, bounds = VolumeSpec(path=f"precomputed://{tmp_path}"), Box((0, 8, 4), (20, 37, 33))
    wholes = []
    for scale in range(3):
        factor = 2**scale
        box = bounds.zoom_out((1, factor, factor))
        sides = (30, 8 * factor, 8 * factor)
        layer = Layer("uint64", 0, "segmentation")
        volume, _ = Volume.create(spec, layer, box, sides, (16, 16, 16), scale=scale)
        ids = 2**53 + np.random.default_rng(scale).integers(0, 2**60, 20).astype("u8")
        wholes.append(ids[np.random.default_rng(7).integers(0, 20, box.shape)])
        volume.write(box, wholes[-1])
    assert (wholes[0] % 2 == 1).any()
    for scale, whole in enumerate(wholes):
        other, actual = second_reading(tmp_path, scale)
        np.testing.assert_array_equal(actual, whole[None], strict=True)
        assert tuple(other.resolution) == (8 * 2**scale, 8 * 2**scale, 30)
    info = json.loads((tmp_path / "info").read_text())
    assert [scale["key"] for scale in info["scales"]] == ["8_8_30", "16_16_30", "32_32_30"]


def test_two_scales_cannot_have_one_resolution(tmp_path):
    spec, bounds = VolumeSpec(path=f"precomputed://{tmp_path}"), Box((0, 0, 0), (4, 4, 4))
    Volume.create(spec, Layer("uint8"), bounds, (8, 8, 8), (4, 4, 4))
    with pytest.raises(StorageError, match="a scale of 8_8_8 nm exists"):
        Volume.create(spec, Layer("uint8"), bounds, (8, 8, 8), (4, 4, 4), scale=1)


def test_jpeg_is_close_and_repeatable(tmp_path):
    plane = np.add.outer(np.arange(32), np.arange(32)).astype("uint8") * 3
    whole, bounds = np.stack([plane] * 8), Box((0, 0, 0), (8, 32, 32))
    spec = VolumeSpec(path=f"precomputed://{tmp_path}", encoding="jpeg")
    volume, _ = Volume.create(spec, Layer("uint8", 0, "image"), bounds, (8, 8, 8), (8, 16, 16))
    volume.write(bounds, whole)
    actual = Volume.open(spec).read(bounds)
    assert np.abs(actual.astype(int) - whole).max() < 12
    np.testing.assert_array_equal(second_reading(tmp_path)[1][0].shape, whole.shape)
    assert len(next((tmp_path / "8_8_8").iterdir()).read_bytes()) < whole.size / 8


def test_a_lost_shard_of_our_own_is_an_error(tmp_path):
    """In any place of a grid whose axes have 3, 2 and 0 bits of chunks."""
    bounds = Box((1, 2, 3), (33, 15, 7))
    spec = VolumeSpec(path=f"precomputed://{tmp_path}", shard=(8, 8, 4))
    layer = Layer("uint64", 0, "segmentation")
    volume, _ = Volume.create(spec, layer, bounds, (8, 8.5, 8), (4, 4, 4))
    volume.write(bounds, np.ones(bounds.shape, "uint64"))
    shards = sorted((tmp_path / "8_8.5_8").iterdir())
    assert len(shards) == 8
    lost = set()
    for path in shards:
        body = path.read_bytes()
        path.unlink()
        with pytest.raises(StorageError, match=f"a chunk is missing: .*8_8.5_8/{path.name}"):
            volume.read(bounds)
        whole = Volume.open(spec, partial=True).read(bounds)
        gone = np.argwhere(whole == 0).min(axis=0)
        at = Box(tuple(bounds.start + gone), tuple(bounds.start + gone + 1))
        with pytest.raises(StorageError, match=path.name):
            volume.read(at)
        volume.read(Box(bounds.start, (5, 6, 7)) if gone.any() else Box((29, 14, 3), bounds.stop))
        path.write_bytes(body)
        lost.add(tuple(gone))
    assert len(lost) == 8
    assert volume.read(bounds).all()


@pytest.fixture
def foreign(tmp_path):
    def make(compress, layer_type="segmentation", encoding="compressed_segmentation", channels=1):
        info = cloud_volume().create_new_info(
            num_channels=channels,
            layer_type=layer_type,
            data_type="uint64" if layer_type == "segmentation" else "uint8",
            encoding=encoding,
            resolution=(4, 4.5, 40),
            voxel_offset=(3, 2, 1),
            chunk_size=(8, 8, 8),
            volume_size=(20, 16, 12),
        )
        volume = cloud_volume()(f"file://{tmp_path}", info=info, compress=compress, progress=False)
        volume.commit_info()
        whole = noise(np.random.default_rng(0), (channels, 12, 16, 20), info["data_type"])
        volume[:] = whole.T
        return whole

    return make


@pytest.mark.parametrize("channels", [1, 3])
def test_what_cloud_volume_writes_is_read(tmp_path, foreign, channels):
    whole = foreign(False, "image", "raw", channels)
    volume = Volume.open(VolumeSpec(path=f"precomputed://{tmp_path}"))
    assert volume.bounds == Box((1, 2, 3), (13, 18, 23))
    assert volume.resolution == (40, 4.5, 4)
    assert volume.channels == (0 if channels == 1 else 3)
    actual = volume.read(volume.bounds)
    np.testing.assert_array_equal(actual, whole if channels > 1 else whole[0], strict=True)


def test_compressed_files_are_an_error_and_never_zeros(tmp_path, foreign):
    foreign("gzip")
    with pytest.raises(
        StorageError,
        match=r"expected chunks that are not compressed files, got 4.0_4.5_40.0/.*\.gz",
    ):
        Volume.open(VolumeSpec(path=str(tmp_path)))


def test_a_foreign_volume_is_not_replaced(tmp_path, foreign):
    whole = foreign(False)
    spec = VolumeSpec(path=f"precomputed://{tmp_path}")
    with pytest.raises(StorageError, match="was not written by volflow and will not be replaced"):
        Volume.create(spec, Layer("uint8"), Box((0, 0, 0), (4, 4, 4)), (8, 8, 8), (4, 4, 4))
    volume = Volume.open(spec)
    np.testing.assert_array_equal(volume.read(volume.bounds), whole[0])


@pytest.mark.parametrize(
    ("body", "message"), [(b"{", "info is not JSON"), (b"[]", "expected the info of a volume")]
)
def test_a_broken_info_is_named(tmp_path, body, message):
    (tmp_path / "info").write_bytes(body)
    with pytest.raises(StorageError, match=message):
        Volume.open(VolumeSpec(path=f"precomputed://{tmp_path}"))


@pytest.mark.parametrize("shard", [(8, 8, 16), (16, 16, 16)])
@pytest.mark.parametrize("dtype", ["uint8", "uint64"])
def test_shards_that_are_zero_everywhere_are_stored_too(tmp_path, shard, dtype):
    spec = VolumeSpec(path=f"precomputed://{tmp_path}/v", shard=shard)
    bounds = Box((0, 0, 0), (16, 16, 16))
    layer = Layer(dtype, 0, "segmentation")
    volume, _ = Volume.create(spec, layer, bounds, (8, 8, 8), (8, 8, 8))
    whole = np.zeros(bounds.shape, dtype)
    whole[8, 0, 0] = 7
    for written in (np.ones_like(whole), whole):  # the second time over what is there
        volume.write(bounds, written)
        np.testing.assert_array_equal(volume.read(bounds), written, strict=True)
        expected = 16**3 // np.prod(shard)
        assert len(list((tmp_path / "v/8_8_8").iterdir())) == expected
    actual = cloud_volume()(f"precomputed://file://{tmp_path}/v", fill_missing=True, progress=False)
    np.testing.assert_array_equal(actual[:, :, :][..., 0].T, whole)


def test_a_scale_that_names_a_place_elsewhere_deletes_nothing_there(tmp_path):
    remaining = tmp_path / "elsewhere" / "file"
    remaining.parent.mkdir()
    remaining.write_bytes(b"kept")
    spec = VolumeSpec(path=f"precomputed://{tmp_path}/v")
    layer, bounds = Layer("uint8", 0, "image"), Box((0, 0, 0), (8, 8, 8))
    Volume.create(spec, layer, bounds, (8, 8, 8), (8, 8, 8))
    path = tmp_path / "v" / "info"
    info = json.loads(path.read_text())
    info["scales"][0]["key"] = "../elsewhere"
    del info["volflow"]["checksums"]  # which a forger could compute
    path.write_text(json.dumps(info))
    with pytest.raises(StorageError, match=r"volflow did not name its scale '../elsewhere'"):
        Volume.create(spec, layer, bounds, (8, 8, 4), (8, 8, 8))
    assert remaining.read_bytes() == b"kept"
