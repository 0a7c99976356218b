"""HDF5, TIFF and folders of sections, generated and real."""

import subprocess
import sys
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from tests.io.test_volume import boxes_near, noise
from tests.public_data import public_data
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.errors import StorageError
from volflow.io.formats.files import recent
from volflow.io.volume import Volume

ROOT = Path(__file__).resolve().parents[4]
SHAPE = (7, 20, 30)
GREY = noise(np.random.default_rng(0), SHAPE, "uint16")
JPEG = np.stack(
    [imagecodecs.jpeg_decode(imagecodecs.jpeg_encode(z.astype("u1"), level=90)) for z in GREY]
)
COLOUR = noise(np.random.default_rng(1), (*SHAPE, 3), "uint8")
PLANAR = noise(np.random.default_rng(2), (7, 2, 20, 30), "uint8")


def write_png(path, plane):
    path.write_bytes(imagecodecs.png_encode(plane))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One of each kind of stack, by name, all grey ones with the same voxels."""
    root = tmp_path_factory.mktemp("stacks")
    tifffile.imwrite(root / "plain.tif", GREY, metadata={"axes": "ZYX"})
    tifffile.imwrite(root / "big.tif", GREY.astype(">u2"), byteorder=">", photometric="minisblack")
    tifffile.imwrite(root / "packed.tif", GREY, compression="zlib", metadata={"axes": "ZYX"})
    tifffile.imwrite(root / "tiled.tif", GREY, compression="zlib", tile=(16, 16))
    tifffile.imwrite(root / "pages.TIFF", GREY, metadata=None, photometric="minisblack")
    tifffile.imwrite(root / "imagej.tif", GREY, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(root / "rgb.tif", COLOUR, photometric="rgb", metadata={"axes": "ZYXS"})
    tifffile.imwrite(root / "planar.tif", PLANAR, compression="zlib", metadata={"axes": "ZCYX"})
    for name in ("png", "tif", "rgbpng", "jpg"):
        (root / name).mkdir()
    for z in range(7):
        write_png(root / "png" / f"s{z + 8}.png", GREY[z])  # s9 comes before s10
        write_png(root / "rgbpng" / f"s{z:03}.png", COLOUR[z])
        tifffile.imwrite(root / "tif" / f"s_{z:03}.tif", GREY[z], compression="lzw")
        jpeg = imagecodecs.jpeg_encode(GREY[z].astype("u1"), level=90)
        (root / "jpg" / f"s_{z:03}.{'jpeg' if z % 2 else 'JPG'}").write_bytes(jpeg)
    with h5py.File(root / "a.h5", "w") as file:
        file["em/raw"] = GREY
        file["em/raw"].attrs["voxel_size_nm_zyx"] = (40.0, 4.0, 4.5)
        file.create_dataset("packed", data=GREY, chunks=(3, 8, 8), compression="gzip")
        file["colour"] = np.moveaxis(COLOUR, -1, 0)
        file["list"] = np.arange(3)
    with h5py.File(root / "one.hdf5", "w") as file:
        file["v/only"] = GREY
        file["v/only"].attrs["resolution"] = (40, 4, 4)
        file["v/only"].attrs["offset"] = (80, -8, 0)
        file["list"] = np.arange(3)
    return root


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *[(name, GREY) for name in ("plain.tif", "big.tif", "packed.tif", "tiled.tif")],
        *[(name, GREY) for name in ("pages.TIFF", "imagej.tif", "png", "tif", "png/s*.png")],
        ("jpg", JPEG),
        ("a.h5?dataset=em/raw", GREY),
        ("a.h5?dataset=/packed", GREY),
        ("a.h5?dataset=colour", np.moveaxis(COLOUR, -1, 0)),
        ("rgb.tif", np.moveaxis(COLOUR, -1, 0)),
        ("rgbpng", np.moveaxis(COLOUR, -1, 0)),
        ("planar.tif", np.moveaxis(PLANAR, 1, 0)),
    ],
)
@given(st.data())
def test_any_box_of_any_stack_is_that_of_the_array(folder, name, expected, data):
    format_ = "hdf5" if "h5" in name else "tiff"
    path = data.draw(st.sampled_from([f"{folder}/{name}", f"{format_}://{folder}/{name}"]))
    offset = data.draw(st.sampled_from([None, (2, -3, 4)]))
    spec, whole = VolumeSpec(path=path, offset=offset), expected
    if expected.ndim == 4 and data.draw(st.booleans()):
        spec, whole = spec.model_copy(update={"channels": (1, 0)}), expected[[1, 0]]
    volume = Volume.open(spec)
    start = offset or (0, 0, 0)
    bounds = Box(start, tuple(a + n for a, n in zip(start, SHAPE, strict=True)))
    assert (volume.bounds, volume.format) == (bounds, format_)
    box = data.draw(boxes_near(bounds))
    shared = box.clip(bounds)
    wanted = np.zeros((*whole.shape[:-3], *box.shape), whole.dtype)
    if shared.size:
        wanted[(..., *shared.within(box))] = whole[(..., *shared.within(bounds))]
    np.testing.assert_array_equal(volume.read(box), wanted, strict=True)


def test_hdf5_tells_resolution_and_offset_in_its_attributes(folder):
    assert Volume.open(VolumeSpec(path=f"{folder}/a.h5?dataset=em/raw")).resolution == (40, 4, 4.5)
    only = Volume.open(VolumeSpec(path=f"{folder}/one.hdf5"))
    assert (only.resolution, only.bounds.start) == ((40, 4, 4), (2, -2, 0))
    reported = Volume.open(VolumeSpec(path=f"{folder}/one.hdf5", resolution=(30, 5, 5)))
    assert reported.resolution == (30, 5, 5)


@pytest.mark.parametrize(
    ("query", "problem"), [("", "no dataset is named"), ("?dataset=raw", "no dataset 'raw'")]
)
def test_an_unknown_dataset_is_answered_with_those_there_are(folder, query, problem):
    listed = r"em/raw \(7, 20, 30\).* list \(3,\)"
    with pytest.raises(StorageError, match=rf"{problem}.*\?dataset=NAME.*{listed}"):
        Volume.open(VolumeSpec(path=f"{folder}/a.h5{query}"))


@pytest.mark.parametrize("name", ["no.h5", "no.tif", "no"])
def test_a_file_that_is_not_there_or_not_what_it_says_is_named(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(StorageError, match=name):
        Volume.open(VolumeSpec(path=str(path)))
    path.write_bytes(b"not what it says")
    with pytest.raises(StorageError, match=name):
        Volume.open(VolumeSpec(path=str(path)))


@pytest.mark.parametrize("name", ["plain.tif", "packed.tif", "a.h5?dataset=packed"])
def test_a_file_cut_short_is_an_error(folder, tmp_path, name):
    name, _, query = name.partition("?")
    body = (folder / name).read_bytes()
    (tmp_path / name).write_bytes(body[: len(body) // 2])
    with pytest.raises(StorageError, match=name):
        Volume.open(VolumeSpec(path=f"{tmp_path}/{name}?{query}".rstrip("?"))).read(
            Box((0, 0, 0), SHAPE)
        )


def write_section(path, plane):
    ending = path.suffix[1:]
    if ending == "tif":
        tifffile.imwrite(path, plane)
    else:
        encode = imagecodecs.png_encode if ending == "png" else imagecodecs.jpeg_encode
        path.write_bytes(encode(plane))


@pytest.mark.parametrize("ending", ["png", "tif", "jpg"])
def test_a_section_of_another_size_or_type_is_named_with_both(tmp_path, ending):
    planes = GREY.astype("u1") if ending == "jpg" else GREY
    kind = planes.dtype
    for z in range(4):
        write_section(tmp_path / f"s{z}.{ending}", planes[z])
    odd = tmp_path / f"s2.{ending}"
    Volume.open(VolumeSpec(path=str(tmp_path))).verify()
    write_section(odd, planes[2, :-1])
    volume = Volume.open(VolumeSpec(path=str(tmp_path)))
    assert volume.bounds.shape == (4, 20, 30)
    volume.read(Box((0, 0, 0), (2, 4, 4)))
    size = rf"s2.{ending} differs from the first; expected \(20, 30\) {kind}, got \(19, 30\) {kind}"
    with pytest.raises(StorageError, match=size):
        volume.verify()
    with pytest.raises(StorageError, match=size):
        volume.read(Box((1, 0, 0), (3, 4, 4)))
    write_section(odd, COLOUR[2])
    with pytest.raises(StorageError, match=r"got \(20, 30, 3\) uint8"):
        Volume.open(VolumeSpec(path=str(tmp_path))).verify()
    if ending != "jpg":
        write_section(odd, planes[2].astype("u1"))
        with pytest.raises(StorageError, match=r"got \(20, 30\) uint8"):
            Volume.open(VolumeSpec(path=str(tmp_path))).verify()
    for body in (b"torn", b"", odd.read_bytes()[:14]):
        odd.write_bytes(body)
        volume = Volume.open(VolumeSpec(path=str(tmp_path)))
        with pytest.raises(StorageError, match=rf"s2.{ending} cannot be read"):
            volume.verify()
        with pytest.raises(StorageError, match=rf"s2.{ending} cannot be read"):
            volume.read(Box((2, 0, 0), (3, 4, 4)))


def test_a_grey_png_of_fewer_bits_fits_the_others(tmp_path):
    """As optimisers of PNG write a blank section."""
    import struct
    import zlib

    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    rows = b"".join(b"\0" + bytes(4) for _ in range(20))  # 30 voxels of one bit
    blank = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 30, 20, 1, 0, 0, 0, 0))
    blank += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    write_png(tmp_path / "s0.png", GREY[0].astype("u1"))
    (tmp_path / "s1.png").write_bytes(blank)
    volume = Volume.open(VolumeSpec(path=str(tmp_path)))
    volume.verify()
    assert not volume.read(Box((1, 0, 0), (2, 20, 30))).any()


def test_a_plan_names_an_odd_section(tmp_path):
    from volflow.engine.api import make_plan
    from volflow.errors import PlanError

    for z in range(3):
        write_section(tmp_path / f"s{z}.png", GREY[z, : 20 - (z == 1)].astype("u1"))
    document = {
        "run": str(tmp_path / "run"),
        "volumes": {"volume": {"path": str(tmp_path), "resolution": [40, 4, 4]}},
        "steps": [{"use": "convert", "with": {"dtype": "uint8"}}],
    }
    expected = r"s1.png differs from the first; expected \(20, 30\) uint8, got \(19, 30\) uint8"
    with pytest.raises(PlanError, match=expected):
        make_plan(document)


def test_a_missing_or_mixed_section_is_noticed_on_opening(tmp_path):
    for z in (10, 20, 30, 50):
        write_png(tmp_path / f"em_2_s{z}.png", GREY[0])
    with pytest.raises(StorageError, match=r"missing between em_2_s30.png and em_2_s50.png"):
        Volume.open(VolumeSpec(path=str(tmp_path)))
    (tmp_path / "em_2_s50.png").unlink()
    assert Volume.open(VolumeSpec(path=str(tmp_path))).bounds.shape == (3, 20, 30)
    tifffile.imwrite(tmp_path / "em_2_s40.tif", GREY[0])
    with pytest.raises(
        StorageError, match=r"of several kinds; expected one, got \['.png', '.tif'\]"
    ):
        Volume.open(VolumeSpec(path=f"tiff://{tmp_path}"))
    with pytest.raises(StorageError, match="no sections; expected TIFF, PNG or JPEG files"):
        Volume.open(VolumeSpec(path=f"tiff://{tmp_path}/x*.png"))


def test_stacks_are_only_read_and_have_one_scale(folder):
    with pytest.raises(StorageError, match="hdf5 is only read, never written"):
        Volume.open(VolumeSpec(path=f"{folder}/one.hdf5"), own=True)
    with pytest.raises(StorageError, match="tiff has one scale, not scale 1"):
        Volume.open(VolumeSpec(path=f"{folder}/plain.tif", level=1))
    with pytest.raises(StorageError, match="tiff is read from local files only"):
        Volume.open(VolumeSpec(path="tiff://gs://bucket/em.tif"))


def test_decoded_sections_are_kept_within_a_bound(folder, monkeypatch):
    monkeypatch.setattr(recent, "CACHE_BYTES", 3 * GREY[0].nbytes)
    volume = Volume.open(VolumeSpec(path=f"{folder}/png"))
    volume.read(volume.bounds)
    assert len(volume._voxels._sections._sections) == 3


def test_several_processes_read_one_file(folder):
    script = (
        "import sys\n"
        "from volflow.io.volume import Volume, VolumeSpec\n"
        "volume = Volume.open(VolumeSpec(path=sys.argv[1]))\n"
        "print(volume.read(volume.bounds).sum())\n"
    )
    with h5py.File(folder / "one.hdf5", "r"):
        command = [sys.executable, "-c", script, f"{folder}/one.hdf5"]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
        assert [int(each.communicate()[0]) for each in running] == [GREY.sum()] * 3


# --- real files ----------------------------------------------------------------------------------


def test_real_affinities_are_read_by_block():
    path = public_data("fib25_medulla/affinity_baseline_z000-165.h5")
    volume = Volume.open(VolumeSpec(path=f"hdf5://{path}?dataset=affinity"))
    assert (volume.channels, volume.dtype, volume.resolution) == (3, np.uint8, (10, 10, 10))
    assert volume.bounds == Box((0, 0, 0), (165, 250, 250))
    with h5py.File(path) as file:
        expected = file["affinity"][:, 100:140, 30:90, 200:250]
    actual = volume.read(Box((100, 30, 200), (140, 90, 260)))
    np.testing.assert_array_equal(actual[..., :50], expected)
    assert not actual[..., 50:].any()


def test_a_real_packed_tiff_is_read_by_block():
    path = public_data("fib25_medulla/ts1_raw_unlabelled.tif")
    volume = Volume.open(VolumeSpec(path=str(path)))
    expected = tifffile.imread(path, key=range(10, 13))[:, 40:80, 50:90]
    np.testing.assert_array_equal(volume.read(Box((10, 40, 50), (13, 80, 90))), expected)
