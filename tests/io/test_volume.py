"""Laws of every format that volflow writes."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.errors import StorageError
from volflow.io.address import context, set_limits
from volflow.io.run.owners import owner, set_owner
from volflow.io.volume import Volume, open_cached

FORMATS = ("precomputed", "zarr", "zarr3", "n5")
IMAGE = Layer("uint8", 0, "image")
SEGMENTATION = Layer("uint64", 0, "segmentation")
DTYPES = {
    "precomputed": ["uint8", "uint16", "uint32", "uint64", "float32"],
    "zarr": ["uint8", "int16", "uint64", "float32", "float64", "bool"],
    "zarr3": ["uint8", "int16", "uint64", "float32", "float64", "bool"],
    "n5": ["uint8", "int16", "uint64", "float32", "float64"],
}
ENCODINGS = ("raw", "gzip", "zstd", "blosc")
_counter = itertools.count()


def place(format_):
    return f"{format_}://memory://volumes/{next(_counter)}"


def noise(rng, shape, dtype):
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    values = rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    return values * (rng.random(shape) < 0.7).astype(dtype)  # with zeros


@st.composite
def boxes(draw, low=-20, high=40, least=1, most=12):
    start = [draw(st.integers(low, high)) for _ in range(3)]
    return Box(tuple(start), tuple(a + draw(st.integers(least, most)) for a in start))


@st.composite
def boxes_near(draw, bounds):
    """A box that mostly meets the bounds: inside, over their edge, around them, or empty."""
    start = [draw(st.integers(a - 3, b)) for a, b in zip(bounds.start, bounds.stop, strict=True)]
    longest = [b - a + 4 for a, b in zip(start, bounds.stop, strict=True)]
    shape = [draw(st.integers(0 if n < 6 else 1, n)) for n in longest]
    return Box(tuple(start), tuple(a + n for a, n in zip(start, shape, strict=True)))


@pytest.mark.parametrize("format_", FORMATS)
@settings(max_examples=40)
@given(st.data())
def test_what_is_written_block_by_block_is_read_in_any_box(format_, data):
    bounds = data.draw(boxes())
    chunk = tuple(data.draw(st.integers(1, 6)) for _ in range(3))
    dtype = data.draw(st.sampled_from(DTYPES[format_]))
    channels = data.draw(st.sampled_from([0, 1, 3]))
    encoding = None if format_ == "precomputed" else data.draw(st.sampled_from(ENCODINGS))
    kind = "segmentation" if dtype in ("uint32", "uint64") else ""
    spec = VolumeSpec(path=place(format_), encoding=encoding)
    layer = Layer(dtype, channels, kind)
    volume, fresh = Volume.create(spec, layer, bounds, (40, 8.5, 8), chunk)
    assert fresh
    whole = noise(np.random.default_rng(0), (*[channels][: channels > 0], *bounds.shape), dtype)
    steps = [c * data.draw(st.integers(1, 2)) for c in chunk]
    starts = [range(a, b, s) for a, b, s in zip(bounds.start, bounds.stop, steps, strict=True)]
    for start in itertools.product(*starts):
        stop = tuple(a + s for a, s in zip(start, steps, strict=True))
        part = Box(start, stop).clip(bounds)
        volume.write(part, whole[(..., *part.within(bounds))])

    own, foreign = Volume.open(spec, own=True), Volume.open(spec)
    for actual in (volume, own, foreign):
        assert (actual.bounds, actual.dtype, actual.channels) == (bounds, np.dtype(dtype), channels)
        assert (actual.resolution, actual.scales) == ((40, 8.5, 8), 1)
    box = data.draw(boxes_near(bounds))
    fill = data.draw(st.sampled_from([0, 1]))
    shared = box.clip(bounds)
    expected = np.full((*whole.shape[:-3], *box.shape), fill, dtype)
    if shared.size:
        expected[(..., *shared.within(box))] = whole[(..., *shared.within(bounds))]
    for actual in (own, foreign):
        read = actual.read(box, fill)
        np.testing.assert_array_equal(read, expected, strict=True)
        assert read.flags.c_contiguous


@pytest.mark.parametrize("format_", ["precomputed", "zarr3"])
@settings(max_examples=25)
@given(st.data())
def test_sharded_volumes_are_written_by_whole_shards(format_, data):
    bounds = data.draw(boxes(least=4, most=30))
    chunk = tuple(data.draw(st.sampled_from([2, 3, 4])) for _ in range(3))
    shard = tuple(c * data.draw(st.sampled_from([1, 2, 4])) for c in chunk)
    spec = VolumeSpec(path=place(format_), shard=shard)
    try:
        volume, _ = Volume.create(spec, SEGMENTATION, bounds, (8, 8, 8), chunk)
    except StorageError as error:
        assume("Morton" not in str(error))
        raise
    assert volume.chunk == chunk
    whole = noise(np.random.default_rng(0), bounds.shape, "uint64")
    unit = volume.shard or volume.chunk
    assert all(u == s or u >= n for u, s, n in zip(unit, shard, bounds.shape, strict=True))
    steps = [2 * unit[0], *unit[1:]]  # two shards at a time along z
    starts = [range(a, b, s) for a, b, s in zip(bounds.start, bounds.stop, steps, strict=True)]
    for start in itertools.product(*starts):
        part = Box(start, tuple(a + s for a, s in zip(start, steps, strict=True))).clip(bounds)
        volume.write(part, whole[part.within(bounds)])
    np.testing.assert_array_equal(Volume.open(spec, own=True).read(bounds), whole, strict=True)
    np.testing.assert_array_equal(
        Volume.open(spec).read(bounds.grow((1, 1, 1)))[1:-1, 1:-1, 1:-1], whole
    )


@pytest.mark.parametrize("format_", FORMATS)
def test_the_same_voxels_make_the_same_bytes(format_, tmp_path):
    bounds, files = Box((3, 0, 0), (20, 20, 20)), []
    whole = noise(np.random.default_rng(1), bounds.shape, "uint64")
    shards = [None, (16, 16, 16)] if format_ in ("precomputed", "zarr3") else [None]
    for shard, name in itertools.product(shards, "ab"):
        folder = tmp_path / f"{name}{shard}" / "v"
        spec = VolumeSpec(path=f"{format_}://{folder}", shard=shard)
        volume, _ = Volume.create(spec, SEGMENTATION, bounds, (8, 8, 8), (8, 8, 8))
        volume.write(bounds, whole)
        if name == "b":
            volume.write(bounds, whole)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files.append({path.relative_to(folder): path.read_bytes() for path in paths})
    for first, second in zip(files[::2], files[1::2], strict=True):
        assert len(first) > 2
        assert first == second


@pytest.mark.parametrize("format_", FORMATS)
def test_an_equal_volume_is_kept_and_another_one_is_made_new(format_, tmp_path):
    spec, bounds = VolumeSpec(path=f"{format_}://{tmp_path}/v"), Box((0, 2, 0), (8, 8, 8))
    ones = np.ones(bounds.shape, "uint64")

    def make(bounds=bounds, chunk=(4, 4, 4), layer=SEGMENTATION, resolution=(8, 8, 8), scale=0):
        return Volume.create(spec, layer, bounds, resolution, chunk, scale=scale)

    volume, _ = make()
    volume.write(bounds, ones)
    set_owner(spec.path, "d1")
    again, fresh = make()
    assert not fresh
    np.testing.assert_array_equal(again.read(bounds), ones)
    others = [
        {"bounds": Box((0, 2, 0), (8, 8, 9))},
        {"bounds": Box((1, 2, 0), (9, 8, 8))},
        {"chunk": (4, 4, 2)},
        {"layer": Layer("uint32", 0, "segmentation")},
        {"layer": Layer("uint64", 1, "segmentation")},
        {"resolution": (8, 8, 4)},
    ]
    for other in others:
        volume, fresh = make()
        volume.write(bounds, ones)
        set_owner(spec.path, "d1")
        volume, fresh = make(**other)
        assert fresh, other
        assert owner(spec.path) is None
        with pytest.raises(StorageError, match="a chunk is missing"):
            volume.read(volume.bounds)
        volume, fresh = make()
        assert fresh, other


@pytest.mark.parametrize("format_", FORMATS)
def test_coarser_scales_are_added_kept_and_replaced(format_, tmp_path):
    spec, bounds = VolumeSpec(path=f"{format_}://{tmp_path}/v"), Box((0, 2, 6), (8, 8, 14))

    def make(scale, chunk=(4, 4, 4)):
        factor = 2**scale
        box, sides = bounds.zoom_out((1, factor, factor)), (40, 8 * factor, 8 * factor)
        return Volume.create(spec, SEGMENTATION, box, sides, chunk, scale=scale)

    with pytest.raises(StorageError, match="scale 1 needs scale 0 first"):
        make(1)
    for scale in (0, 1, 2):
        volume, fresh = make(scale)
        assert fresh
        volume.write(volume.bounds, np.full(volume.bounds.shape, scale + 1, "uint64"))
        set_owner(spec.path, f"d{scale}", scale)
    for scale in (0, 1, 2):
        assert not make(scale)[1]
        actual = Volume.open(spec.model_copy(update={"level": scale}), own=True)
        assert actual.scales == 3
        assert actual.resolution == (40, 8 * 2**scale, 8 * 2**scale)
        assert actual.bounds == bounds.zoom_out((1, 2**scale, 2**scale))
        assert (actual.read(actual.bounds) == scale + 1).all()
    with pytest.raises(StorageError, match="has no scale 3"):
        Volume.open(spec.model_copy(update={"level": 3}))
    volume, fresh = make(1, (2, 2, 2))
    assert fresh
    assert volume.scales == 2  # the third was made from it
    assert [owner(spec.path, scale) for scale in (0, 1, 2)] == ["d0", None, None]
    assert (Volume.open(spec, own=True).read(bounds) == 1).all()


@pytest.mark.parametrize("format_", FORMATS)
def test_a_volume_that_lost_part_of_its_metadata_is_made_again(format_, tmp_path):
    spec, bounds = VolumeSpec(path=f"{format_}://{tmp_path}/v"), Box((0, 0, 0), (8, 8, 8))
    Volume.create(spec, SEGMENTATION, bounds, (8, 8, 8), (4, 4, 4))
    lost = {"precomputed": "info", "zarr": "0/.zarray", "zarr3": "0/zarr.json"}
    (tmp_path / "v" / lost.get(format_, "s0/attributes.json")).unlink()
    _, fresh = Volume.create(spec, SEGMENTATION, bounds, (8, 8, 8), (4, 4, 2))
    assert fresh
    root = {"precomputed": "info", "zarr": ".zattrs", "zarr3": "zarr.json"}
    (tmp_path / "v" / root.get(format_, "attributes.json")).unlink()
    (tmp_path / "v" / ".zgroup").unlink(missing_ok=True)
    if format_ == "precomputed":  # no object is left
        _, fresh = Volume.create(spec, SEGMENTATION, bounds, (8, 8, 8), (4, 4, 2))
        assert fresh
        return
    with pytest.raises(StorageError, match=r"volflow did not write .*move them"):
        Volume.create(spec, SEGMENTATION, bounds, (8, 8, 8), (4, 4, 2))  # the mark is gone


@pytest.mark.parametrize("format_", FORMATS)
def test_a_lost_chunk_of_our_own_is_an_error_and_zeros_are_not(format_):
    spec, bounds = VolumeSpec(path=place(format_)), Box((0, 0, 0), (8, 8, 8))
    volume, _ = Volume.create(spec, SEGMENTATION, bounds, (8, 8, 8), (4, 4, 4))
    half = Box((0, 0, 0), (4, 8, 8))
    volume.write(half, np.zeros(half.shape, "uint64"))
    own = Volume.open(spec, own=True)
    assert not own.read(half.grow((2, 0, 0)).clip(half)).any()
    with pytest.raises(StorageError, match=rf"{spec.path}, box 3:5,0:8,0:8: a chunk is missing"):
        own.read(Box((3, 0, 0), (5, 8, 8)))
    with pytest.raises(StorageError, match="a chunk is missing"):
        Volume.open(spec).read(bounds)
    assert not Volume.open(spec, partial=True).read(bounds).any()


def test_writes_are_checked():
    spec, bounds = VolumeSpec(path=place("zarr")), Box((2, 0, 0), (12, 10, 10))
    volume, _ = Volume.create(spec, IMAGE, bounds, (8, 8, 8), (4, 4, 4))

    def write(box, shape=None, dtype="uint8"):
        volume.write(box, np.zeros(shape or box.shape, dtype))

    write(bounds)
    write(Box((6, 4, 8), (10, 8, 10)))
    write(Box((5, 5, 5), (5, 5, 5)))  # nothing
    with pytest.raises(StorageError, match=r"expected a box of whole chunks \(4, 4, 4\)"):
        write(Box((4, 0, 0), (8, 4, 4)))
    with pytest.raises(StorageError, match="expected a box of whole chunks"):
        write(Box((2, 0, 0), (5, 4, 4)))
    with pytest.raises(StorageError, match=r"expected a box in 2:12,0:10,0:10; got 10:14,0:4,0:4"):
        write(Box((10, 0, 0), (14, 4, 4)))
    with pytest.raises(ValueError, match=r"expected an array of shape \(4, 4, 4\); got \(4, 4\)"):
        write(Box((2, 0, 0), (6, 4, 4)), (4, 4))
    with pytest.raises(ValueError, match="expected uint8; got int64"):
        write(bounds, dtype="int64")
    with pytest.raises(StorageError, match="was opened for reading"):
        Volume.open(spec).write(bounds, np.zeros(bounds.shape, "uint8"))


def test_half_a_shard_is_refused():
    spec = VolumeSpec(path=place("zarr3"), shard=(8, 8, 8))
    bounds = Box((0, 0, 0), (16, 16, 16))
    volume, _ = Volume.create(spec, IMAGE, bounds, (8, 8, 8), (4, 4, 4))
    with pytest.raises(StorageError, match=r"expected a box of whole shards \(8, 8, 8\)"):
        volume.write(Box((0, 0, 0), (4, 8, 8)), np.zeros((4, 8, 8), "uint8"))


@pytest.mark.parametrize(
    ("path", "layer", "more", "message"),
    [
        (
            "precomputed",
            Layer("int32", 0, "segmentation"),
            {},
            "Neuroglancer does not display segmentations of int32",
        ),
        ("precomputed", Layer("float32", 0, "segmentation"), {}, "segmentations of float32"),
        ("precomputed", Layer("float64", 0, "image"), {}, "in precomputed, got float64"),
        ("precomputed", IMAGE, {"encoding": "zstd"}, r"'zstd' does not fit a uint8 image"),
        ("precomputed", SEGMENTATION, {"encoding": "jpeg"}, "'jpeg' does not fit a uint64 segm"),
        ("precomputed", Layer("uint8", 3, "affinity"), {"encoding": "jpeg"}, "does not fit"),
        ("precomputed", IMAGE, {"shard": (4, 4, 12)}, r"nearest: \(4, 8, 8\)"),
        ("precomputed", IMAGE, {"shard": (16, 4, 4)}, r"nearest: \(4, 8, 8\)"),
        ("zarr", IMAGE, {"encoding": "lzw"}, "no encoding 'lzw' in zarr"),
        ("zarr", IMAGE, {"shard": (8, 8, 8)}, "zarr 2 has no shards"),
        ("zarr3", IMAGE, {"shard": (6, 8, 8)}, r"expected a shard of whole chunks"),
        ("n5", IMAGE, {"encoding": "lzw"}, "no encoding 'lzw' in n5"),
        ("n5", IMAGE, {"shard": (8, 8, 8)}, "n5 has no shards"),
        ("n5", Layer("bool", 0), {}, "cannot be created"),
        ("tiff", IMAGE, {}, "tiff is only read, never written"),
        ("hdf5", IMAGE, {}, "hdf5 is only read, never written"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_anything_is_written(
    tmp_path, path, layer, more, message
):
    spec = VolumeSpec(path=f"{path}://{tmp_path}/v", **more)
    with pytest.raises(StorageError, match=message):
        Volume.create(spec, layer, Box((0, 0, 0), (32, 32, 32)), (8, 8, 8), (4, 4, 4))
    assert not list(tmp_path.rglob("*.*"))


def test_a_plain_path_finds_its_format(tmp_path):
    bounds = Box((0, 0, 0), (4, 4, 4))
    for format_, name in [
        *zip(FORMATS, "abcd", strict=True),
        ("", "e"),
        ("", "f.zarr"),
        ("", "g.n5"),
    ]:
        path = f"{tmp_path}/{name}"
        spec = VolumeSpec(path=f"{format_}://{path}" if format_ else path)
        volume, _ = Volume.create(spec, IMAGE, bounds, (8, 8, 8), (4, 4, 4))
        assert Volume.open(VolumeSpec(path=path)).address == volume.address
    assert Volume.open(VolumeSpec(path=f"{tmp_path}/e")).format == "precomputed"
    assert Volume.open(VolumeSpec(path=f"{tmp_path}/f.zarr")).format == "zarr"
    assert Volume.open(VolumeSpec(path=f"{tmp_path}/g.n5")).format == "n5"
    (tmp_path / "empty").mkdir()
    for path in ("empty", "nowhere"):
        with pytest.raises(StorageError, match=f"{path}: no volume there"):
            Volume.open(VolumeSpec(path=f"{tmp_path}/{path}"))
    for format_ in FORMATS:
        with pytest.raises(StorageError, match=f"{format_}://{tmp_path}/nowhere does not exist"):
            Volume.open(VolumeSpec(path=f"{format_}://{tmp_path}/nowhere"))


def test_a_declared_offset_and_resolution_win_for_foreign_volumes_only():
    spec, bounds = VolumeSpec(path=place("zarr")), Box((5, 0, 0), (9, 4, 4))
    volume, _ = Volume.create(spec, IMAGE, bounds, (8, 8, 8), (4, 4, 4))
    whole = noise(np.random.default_rng(0), bounds.shape, "uint8")
    volume.write(bounds, whole)
    declared = spec.model_copy(update={"offset": (0, -2, 0), "resolution": (30.0, 4.0, 4.0)})
    foreign = Volume.open(declared)
    assert (foreign.bounds, foreign.resolution) == (Box((0, -2, 0), (4, 2, 4)), (30, 4, 4))
    np.testing.assert_array_equal(foreign.read(foreign.bounds), whole)
    own = Volume.open(declared, own=True)
    assert (own.bounds, own.resolution) == (bounds, (8, 8, 8))


def test_a_volume_pickles_and_is_opened_once_per_process():
    spec, bounds = VolumeSpec(path=place("zarr3")), Box((0, 0, 0), (4, 4, 4))
    volume, _ = Volume.create(spec, IMAGE, bounds, (8, 8, 8), (4, 4, 4))
    volume.write(bounds, np.ones(bounds.shape, "uint8"))
    assert pickle.loads(pickle.dumps(volume)).read(bounds).all()
    first = open_cached(spec, True)
    assert open_cached(spec, True) is first
    Volume.create(spec, IMAGE, bounds, (8, 8, 8), (2, 2, 2))
    assert open_cached(spec, True).chunk == (2, 2, 2)


def test_the_identity_changes_with_the_voxels_read_and_nothing_else():
    spec, bounds = VolumeSpec(path=place("zarr")), Box((0, 0, 0), (4, 4, 4))
    Volume.create(spec, Layer("uint8", 3), bounds, (8, 8, 8), (4, 4, 4))
    first = Volume.open(spec).identity()
    assert first["bounds"] == "0:4,0:4,0:4"
    assert first["dtype"] == "uint8"
    same = [{"chunk": (4, 4, 4)}, {"encoding": "raw"}]
    other = [{"version": 2}, {"channels": (2, 1, 0)}, {"offset_sign": 1}, {"offset": (1, 0, 0)}]
    for change in same:
        assert Volume.open(spec.model_copy(update=change)).identity() == first
    for change in [*other, {"scale": 2.0}, {"resolution": (1.0, 1.0, 1.0)}]:
        assert Volume.open(spec.model_copy(update=change)).identity() != first
    assert Volume.open(spec).describe()["encoding"] == "zstd"


def test_limits_hold_for_what_is_opened_later_and_memory_stays_the_same_store():
    spec, bounds = VolumeSpec(path=place("precomputed")), Box((0, 0, 0), (8, 8, 8))
    volume, _ = Volume.create(spec, IMAGE, bounds, (8, 8, 8), (4, 4, 4))
    volume.write(bounds, np.ones(bounds.shape, "uint8"))
    try:
        set_limits(cache_bytes=1 << 20, threads=1)
        assert context()["cache_pool"].to_json() == {"total_bytes_limit": 1 << 20}
        assert Volume.open(spec, own=True).read(bounds).all()
        volume.write(bounds, np.full(bounds.shape, 2, "uint8"))
        assert (Volume.open(spec, own=True).read(bounds) == 2).all()
    finally:
        set_limits()


@pytest.mark.parametrize(("value", "synced"), [(None, False), ("0", False), ("1", True)])
def test_files_are_synced_if_the_environment_says_so(monkeypatch, value, synced):
    monkeypatch.delenv("VOLFLOW_SYNC", raising=False)
    if value is not None:
        monkeypatch.setenv("VOLFLOW_SYNC", value)
    try:
        set_limits()
        assert context()["file_io_sync"].to_json() is synced
    finally:
        monkeypatch.undo()
        set_limits()
