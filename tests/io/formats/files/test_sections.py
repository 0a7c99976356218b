"""Folders of sections and TIFF pages as other programs write them: whole, in order, or refused."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from volflow.config.pipeline import VolumeSpec
from volflow.errors import StorageError
from volflow.io.volume import Volume

VOLUME = np.random.default_rng(0).integers(1, 255, (6, 16, 20), dtype=np.uint8)


def write_sections(folder, names, planes=VOLUME):
    for name, plane in zip(names, planes, strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / name, plane)


def opened(path):
    volume = Volume.open(VolumeSpec(path=str(path)))
    volume.verify()
    return volume


def test_sections_of_several_folders_are_in_the_order_of_their_whole_paths(tmp_path):
    names = ["b2/s1.tif", "b2/s2.tif", "b3/s1.tif", "b3/s2.tif"]
    write_sections(tmp_path, names)
    volume = opened(f"{tmp_path}/b*/s*.tif")
    np.testing.assert_array_equal(volume[...], VOLUME[:4])


def test_folders_that_go_on_counting_are_joined_and_a_hole_between_them_is_refused(tmp_path):
    write_sections(tmp_path, ["a/s1.tif", "a/s2.tif", "b/s3.tif", "b/s4.tif"])
    np.testing.assert_array_equal(opened(f"{tmp_path}/*/s*.tif")[...], VOLUME[:4])
    (tmp_path / "b/s3.tif").unlink()
    with pytest.raises(StorageError, match=r"expected sections from 1 or, after .*, from 3; got 4"):
        opened(f"{tmp_path}/*/s*.tif")


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ([f"s{z}_t{100 + 7 * z}.tif" for z in (1, 2, 4, 5, 6)], "missing between s2_t114"),
        ([f"s{z}_t{107 + 7 * i}.tif" for i, z in enumerate((1, 2, 4, 5))], "missing between s2"),
        ([f"t{100 + 13 * z * z}_s{z}.tif" for z in (1, 2, 4, 5, 6)], "missing between t152_s2"),
        (["s1.tif", "s01.tif", "s2.tif"], "section 1 is there twice: s01.tif and s1.tif"),
        (["s1.tif", "s1.tiff", "s2.tif"], "are the same section"),
        (["s1_take1.tif", "s1_take2.tif", "s2_take1.tif"], "section 1 is there twice"),
        (["0.tif", "1.tif", "2.tif", "overview.tif"], "names like ..tif, got overview.tif"),
        (["c0_z0.tif", "c0_z1.tif", "c1_z0.tif", "c1_z1.tif"], "none counts sections"),
        (["t1_z9.tif", "t2_z8.tif", "t3_z7.tif"], "opposite ways"),
    ],
)
def test_names_that_contradict_one_row_of_sections_are_refused_unless_declared(
    tmp_path, names, problem
):
    write_sections(tmp_path, names)
    with pytest.raises(StorageError, match=f"{problem}.*order=names"):
        opened(tmp_path)
    assert opened(f"{tmp_path}?order=names").bounds.shape[0] == len(names)
    with pytest.raises(StorageError, match=r"no option but order=names, order=signed"):
        opened(f"{tmp_path}?order=name")


@settings(max_examples=20, deadline=None)
@given(st.integers(-12, 12), st.sampled_from(["z{}", "scan_07_z{}_8nm", "s{:04d}_t{}"]))
def test_sections_are_in_the_order_of_their_numbers(tmp_path_factory, first, pattern):
    folder = tmp_path_factory.mktemp("row")
    numbers = range(first, first + 6)
    if pattern.count("{") == 2:
        numbers = range(abs(first), abs(first) + 6)
    names = [pattern.format(z, 1000 + 61 * z + z % 3) + ".tif" for z in numbers]
    write_sections(folder, names)
    volume = opened(folder)
    if max(numbers) >= 0:
        np.testing.assert_array_equal(volume[...], VOLUME)
        return
    np.testing.assert_array_equal(volume[...], VOLUME[::-1])  # z-1 might be section 1 as well
    (warning,) = volume.warnings
    assert f"from {names[-1]} to {names[0]}; if it is a sign, declare it" in warning
    declared = opened(f"{folder}?order=signed")
    np.testing.assert_array_equal(declared[...], VOLUME)
    assert declared.warnings == ()


@pytest.mark.parametrize(
    ("pattern", "sign"),
    [
        ("{}.tif", True),
        ("z_{}.tif", True),
        ("scan-07 z={}.tif", True),
        ("s ({}).tif", True),
        ("2024-01-02_z_{}.tif", True),
        ("scan-{}.tif", False),
        ("scan--{}.tif", False),
        ("s2024-{}.tif", False),
    ],
)
@pytest.mark.parametrize("query", ["", "?order=names"])
def test_a_sign_follows_no_letter_or_digit(tmp_path, pattern, sign, query):
    numbers = range(-9, -3) if sign else [f"{n:02d}" for n in range(4, 10)]
    write_sections(tmp_path, [pattern.format(n) for n in numbers])
    volume = opened(f"{tmp_path}{query}")
    np.testing.assert_array_equal(volume[...], VOLUME)
    assert volume.warnings == ()


def test_hidden_files_are_no_sections_and_wide_steps_are_a_warning(tmp_path):
    write_sections(tmp_path, [f"s{z}.tif" for z in (10, 20, 30)])
    (tmp_path / "._s10.tif").write_bytes(b"resource fork")
    assert "steps of 10" in " ".join(opened(tmp_path).warnings)


@pytest.mark.parametrize("sizes", [[6], [4, 2], [5, 1]])
def test_a_folder_of_stacks_is_joined_in_order(tmp_path, sizes):
    start = 0
    for number, size in enumerate(sizes):
        part = VOLUME[start : start + size]
        tifffile.imwrite(tmp_path / f"stack_{number}.tif", part, photometric="minisblack")
        start += size
    volume = opened(tmp_path)
    np.testing.assert_array_equal(volume[...], VOLUME)
    np.testing.assert_array_equal(volume[3:6, 2:9, 1:5], VOLUME[3:6, 2:9, 1:5])
    assert "joined along z" in " ".join(volume.warnings)


def test_a_stack_after_single_sections_is_refused(tmp_path):
    write_sections(tmp_path, ["0.tif", "1.tif"])
    tifffile.imwrite(tmp_path / "2.tif", VOLUME, photometric="minisblack")
    with pytest.raises(StorageError, match=r"2.tif differs.*of 6 pages"):
        opened(tmp_path)
    with pytest.raises(StorageError, match=r"2.tif cannot be read: expected one page"):
        Volume.open(VolumeSpec(path=str(tmp_path)))[2:3]


def append_pages(path, planes, **options):
    with tifffile.TiffWriter(path) as file:
        for plane in planes:
            file.write(plane, **options)


@pytest.mark.parametrize("options", [{}, {"metadata": None}, {"contiguous": True}])
def test_pages_written_one_by_one_are_all_read(tmp_path, options):
    append_pages(tmp_path / "stack.tif", VOLUME, **options)
    np.testing.assert_array_equal(opened(tmp_path / "stack.tif")[...], VOLUME)
    append_pages(tmp_path / "packed.tif", VOLUME, compression="zlib", metadata=None)
    np.testing.assert_array_equal(opened(tmp_path / "packed.tif")[...], VOLUME)


def test_pages_written_by_pillow_are_all_read(tmp_path):
    pages = [Image.fromarray(plane) for plane in VOLUME]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(opened(tmp_path / "stack.tif")[...], VOLUME)


def test_several_images_in_a_file_are_refused(tmp_path):
    append_pages(tmp_path / "mixed.tif", [*VOLUME[:3], VOLUME[0, :8, :8], *VOLUME[3:]])
    with pytest.raises(StorageError, match=r"mixed.tif.*expected one image.*got 7 images"):
        opened(tmp_path / "mixed.tif")
    append_pages(tmp_path / "two.ome.tif", [VOLUME, VOLUME[:2]], metadata={"axes": "ZYX"})
    with pytest.raises(StorageError, match=r"expected one image.*got 2 images"):
        opened(tmp_path / "two.ome.tif")


@pytest.mark.parametrize("count", [4, 9])
@pytest.mark.parametrize("kind", ["imagej", "ome", "shaped"])
def test_pages_are_compared_with_the_metadata(tmp_path, kind, count):
    path = tmp_path / ("a.ome.tif" if kind == "ome" else "a.tif")
    options = {"photometric": "minisblack", "imagej": kind == "imagej", "ome": kind == "ome"}
    tifffile.imwrite(path, VOLUME, metadata={"axes": "ZYX"}, **options)
    body = path.read_bytes()
    for old, new in (("images=6\nslices=6", "images={0}\nslices={0}"), ('SizeZ="6"', 'SizeZ="{}"'),
                     ("[6, 16, 20]", "[{}, 16, 20]")):  # fmt: skip
        body = body.replace(old.encode(), new.format(count).encode())
    path.write_bytes(body)
    with pytest.raises(StorageError, match=r"a\..*tif"):
        opened(path)


def test_colours_stored_plane_by_plane_are_channels(tmp_path):
    colour = np.random.default_rng(1).integers(0, 255, (4, 3, 16, 20), dtype=np.uint8)
    for number, section in enumerate(colour):
        options = {"photometric": "rgb", "planarconfig": "separate"}
        tifffile.imwrite(tmp_path / f"{number}.tif", section, **options)
    volume = opened(tmp_path)
    assert volume.channels == 3
    np.testing.assert_array_equal(volume[...], np.moveaxis(colour, 1, 0))


def palette_png(path, indices, colours, bits=8):
    image = Image.new("P", indices.shape[::-1])
    image.putdata(indices.ravel().tolist())
    image.putpalette(colours)
    image.save(path, bits=bits)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_palette_is_read_as_its_indices(tmp_path, bits):
    labels = VOLUME[:4] % 5
    colours = [0, 0, 0, 255, 0, 0, 255, 255, 0, 0, 0, 255, 255, 0, 255]
    for z, plane in enumerate(labels):
        palette_png(tmp_path / f"{z}.png", plane, colours, bits)
    volume = opened(tmp_path)
    np.testing.assert_array_equal(volume[...], labels)
    assert "palette" in " ".join(volume.warnings)
    palette_png(tmp_path / "4.png", labels[0], colours[::-1], bits)
    with pytest.raises(StorageError, match=r"4.png has another palette"):
        opened(tmp_path)


def test_a_palette_of_greys_is_read_as_greys(tmp_path):
    palette_png(tmp_path / "0.png", VOLUME[0] % 2, [7, 7, 7, 90, 90, 90])
    np.testing.assert_array_equal(opened(tmp_path)[0], np.where(VOLUME[0] % 2, 90, 7))


@pytest.mark.parametrize("ending", ["tif", "png", "jpg"])
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_section_cut_short_is_named_by_verify_and_read(tmp_path, ending, share):
    for z in range(3):
        Image.fromarray(np.tile(VOLUME[z], (9, 9))).save(tmp_path / f"{z}.{ending}")
    body = (tmp_path / f"1.{ending}").read_bytes()
    (tmp_path / f"1.{ending}").write_bytes(body[: int(len(body) * share)])
    with pytest.raises(StorageError, match=rf"1.{ending}"):
        opened(tmp_path)
    with pytest.raises(StorageError, match=rf"1.{ending}"):
        Volume.open(VolumeSpec(path=str(tmp_path)))[1:2]


def test_time_read_as_z_is_a_warning(tmp_path):
    tifffile.imwrite(tmp_path / "t.tif", VOLUME, imagej=True, metadata={"axes": "TYX"})
    assert "axis T of 6 is read as z" in " ".join(opened(tmp_path / "t.tif").warnings)
