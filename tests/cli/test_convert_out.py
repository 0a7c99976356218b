"""`convert` to files and pyramids, read back with other libraries."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from tests.cli.label_volumes import BOX, written
from tests.cli.test_convert import read
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.io.export import tiff
from volflow.io.export.slabs import Export
from volflow.io.export.staging import Staged
from volflow.io.volume import Volume

LARGE = Box((4, 0, 8), (12, 66, 138))


def labels(shape=BOX.shape, count=300, seed=3) -> np.ndarray:
    """Labels of blobs, some far beyond 32 bits; 0 is one of them."""
    random = np.random.default_rng(seed)
    names = np.append(np.uint64(0), np.sort(random.integers(1, 2**60, count - 1).astype("uint64")))
    coarse = names[random.integers(0, count, [-(-n // 4) for n in shape])]
    for axis in range(3):
        coarse = np.repeat(coarse, 4, axis)
    return coarse[tuple(slice(n) for n in shape)]


def consecutive(array: np.ndarray) -> np.ndarray:
    """Ids of labels by numpy: 0 stays 0."""
    names = np.unique(array[array != 0])
    return np.where(array == 0, 0, np.searchsorted(names, array) + 1).astype("uint64")


@pytest.fixture
def source(tmp_path):
    array = labels()
    return written(f"precomputed://{tmp_path}/seg", array), array


def table(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(np.array([row[name] for row in rows], "uint64") for name in ("old", "new"))


@pytest.mark.parametrize("name", ["out.tif", "out.zarr", "sections"])
def test_a_quiet_conversion_prints_nothing(volflow, source, tmp_path, name):
    destination = f"tiff://{tmp_path}/{name}" if name == "sections" else tmp_path / name
    result = volflow("convert", source[0], destination, "--renumber", "-q")
    assert (result.exit_code, result.output) == (0, "")
    assert (tmp_path / name).exists()


# --- TIFF ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["", "raw", "lzw", "zstd"])
@pytest.mark.parametrize("dtype", ["uint64", "auto"])
def test_a_tiff_file_holds_the_volume_and_its_voxel_size(
    volflow, source, tmp_path, dtype, encoding
):
    address, array = source
    renumber = ["--renumber"] if dtype == "auto" else []
    expected = consecutive(array).astype("uint16") if renumber else array
    path = tmp_path / "out.tif"
    result = volflow("convert", address, path, "--dtype", dtype, "--encoding", encoding, *renumber)
    assert result.exit_code == 0, result.output
    assert f"wrote {path}" in result.stdout
    np.testing.assert_array_equal(tifffile.imread(path), expected, strict=True)
    again = Volume.open(VolumeSpec(path=str(path), offset=BOX.start))
    assert again.resolution == pytest.approx((40, 8, 8))
    np.testing.assert_array_equal(again.read(BOX), expected, strict=True)
    assert "its first voxel is (3, 0, 5) (z, y, x), which TIFF does not hold" in result.stderr
    assert sorted(child.name for child in tmp_path.iterdir()) == sorted(
        ["out.tif", "seg", *(["out.ids.csv"] if renumber else [])]
    )


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("uint8", "imagej"), ("float32", "imagej"), ("uint32", "ome"), ("int64", "shaped")],
)
def test_the_metadata_are_those_that_other_programs_read(volflow, tmp_path, dtype, kind):
    array = (labels(count=90) % 100).astype(dtype)
    address = written(f"zarr://{tmp_path}/em.zarr", array)
    path = tmp_path / "em.tif"
    assert volflow("convert", address, path, "--kind", "image").exit_code == 0
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        assert (series.kind, series.axes, series.shape) == (kind, "ZYX", BOX.shape)
        if kind == "imagej":
            assert file.imagej_metadata["unit"] == "nm"
            assert file.imagej_metadata["spacing"] == 40
            assert file.pages[0].tags["XResolution"].value == (1, 8)
        if kind == "ome":
            assert 'PhysicalSizeZ="40.0" PhysicalSizeZUnit="nm"' in file.ome_metadata
        assert not file.is_bigtiff
        np.testing.assert_array_equal(file.asarray(), array, strict=True)
    assert Volume.open(VolumeSpec(path=str(path))).resolution == pytest.approx((40, 8, 8))


@pytest.mark.parametrize("dtype", ["uint8", "uint32", "uint64"])
def test_a_large_tiff_is_bigtiff(volflow, tmp_path, monkeypatch, dtype):
    array = (labels(count=90) % 100).astype(dtype)
    address = written(f"zarr://{tmp_path}/em.zarr", array)
    monkeypatch.setattr(tiff, "CLASSIC", array.nbytes)
    assert volflow("convert", address, tmp_path / "em.tif", "--kind", "image").exit_code == 0
    with tifffile.TiffFile(tmp_path / "em.tif") as file:
        assert file.is_bigtiff
        np.testing.assert_array_equal(file.asarray(), array, strict=True)
    again = Volume.open(VolumeSpec(path=f"{tmp_path}/em.tif"))
    assert again.resolution == pytest.approx((40, 8, 8))


def test_channels_of_a_tiff_are_an_axis_of_pages(volflow, tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (3, *BOX.shape)).astype("uint8")
    address = written_channels(f"zarr://{tmp_path}/aff.zarr", array)
    for name in ("aff.tif", "tiff://sections", "aff.h5"):
        destination = name.replace("sections", f"{tmp_path}/sections")
        path = destination if "://" in name else f"{tmp_path}/{name}"
        result = volflow("convert", address, path, "--bounds", "5:12,0:41,5:42")
        assert result.exit_code == 0, result.output
        again = Volume.open(VolumeSpec(path=path))
        np.testing.assert_array_equal(again.read(again.bounds), array[:, 2:9], strict=True)


def written_channels(address: str, array: np.ndarray) -> str:
    from volflow.core.stage import Layer

    layer = Layer("uint8", 3, "affinity")
    volume, _ = Volume.create(VolumeSpec(path=address), layer, BOX, (40, 8, 8), (16, 16, 16))
    volume.write(BOX, array)
    return address


def test_sections_are_named_by_their_z(volflow, source, tmp_path):
    address, array = source
    folder = tmp_path / "sections"
    result = volflow("convert", address, f"tiff://{folder}", "--bounds", "5:12,0:41,5:42")
    assert result.exit_code == 0, result.output
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [f"z{z:05}.tif" for z in range(5, 12)]
    for z, file in enumerate(files, 2):
        np.testing.assert_array_equal(tifffile.imread(file), array[z], strict=True)
    again = Volume.open(VolumeSpec(path=str(folder)))
    np.testing.assert_array_equal(again.read(again.bounds), array[2:9], strict=True)
    refused = volflow("convert", address, f"tiff://{folder}", "--overwrite")
    assert refused.exit_code == 2
    assert "is a folder with files in it" in refused.stderr


# --- HDF5 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["", "raw", "lzf"])
def test_an_hdf5_file_holds_the_volume_its_voxel_size_and_offset(
    volflow, source, tmp_path, encoding
):
    address, array = source
    path = f"hdf5://{tmp_path}/out.h5?dataset=seg/labels"
    command = ["convert", address, path, "--chunk", "8,16,32", "--encoding", encoding]
    result = volflow(*command)
    assert result.exit_code == 0, result.output
    with h5py.File(tmp_path / "out.h5") as file:
        data = file["seg/labels"]
        np.testing.assert_array_equal(data[:], array, strict=True)
        assert data.chunks == (8, 16, 32)
        assert data.compression == {"": "gzip", "raw": None}.get(encoding, encoding)
        assert data.attrs["element_size_um"].tolist() == [0.04, 0.008, 0.008]
    volume, again = read(path)
    assert (volume.bounds, volume.resolution) == (BOX, (40, 8, 8))
    np.testing.assert_array_equal(again, array, strict=True)
    assert volflow(*command).exit_code == 2
    assert volflow(*command, "--overwrite").exit_code == 0


# --- consecutive ids -----------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", ["64", "8,16,8"])
def test_ids_are_consecutive_whatever_the_blocks_and_the_table_has_both(volflow, tmp_path, chunk):
    array = labels(LARGE.shape)
    address = written(f"zarr://{tmp_path}/seg.zarr", array, LARGE)
    copy = f"precomputed://{tmp_path}/copy"
    result = volflow(
        "convert", address, copy, "--renumber", "--dtype", "auto", "--chunk", chunk,
        "--cluster", "none",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    volume, ids = read(copy)
    np.testing.assert_array_equal(ids, consecutive(array).astype("uint32"), strict=True)
    assert volume.encoding == "compressed_segmentation"
    old, new = table(tmp_path / "copy.ids.csv")
    np.testing.assert_array_equal(old, np.unique(array[array != 0]))
    np.testing.assert_array_equal(new, np.arange(1, len(old) + 1, dtype="uint64"))
    assert f"wrote {tmp_path}/copy.ids.csv" in result.stdout


@pytest.mark.parametrize(
    ("largest", "destination", "dtype"),
    [
        (255, "zarr", "uint8"),
        (256, "zarr", "uint16"),
        (2**32 - 1, "zarr", "uint32"),
        (2**32, "zarr", "uint64"),
        (3, "precomputed", "uint32"),
        (0, "n5", "uint8"),
    ],
)
def test_the_narrowest_type_holds_the_largest_label(volflow, tmp_path, largest, destination, dtype):
    array = np.zeros(BOX.shape, "uint64")
    array[7, 8, 9] = largest
    address = written(f"zarr://{tmp_path}/seg.zarr", array)
    copy = f"{destination}://{tmp_path}/copy"
    result = volflow("convert", address, copy, "--dtype", "auto")
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(read(copy)[1], array.astype(dtype), strict=True)
    assert not (tmp_path / "copy.ids.csv").exists()


def test_ids_of_numbers_that_are_no_labels_are_refused(volflow, tmp_path):
    address = written(f"zarr://{tmp_path}/em.zarr", np.zeros(BOX.shape, "float32"))
    for option in (["--renumber"], ["--dtype", "auto"]):
        result = volflow("convert", address, tmp_path / "x.tif", *option)
        assert result.exit_code == 2
        assert "expected labels (unsigned integers without channels); got float32" in result.stderr


# --- scales --------------------------------------------------------------------------------------


def modes(fine: np.ndarray, start, factor) -> np.ndarray:
    """The most frequent label of each box, of several the smallest, in plain Python."""
    stop = [a + n for a, n in zip(start, fine.shape, strict=True)]
    first = [a // f for a, f in zip(start, factor, strict=True)]
    last = [-(-b // f) for b, f in zip(stop, factor, strict=True)]
    out = np.zeros([b - a for a, b in zip(first, last, strict=True)], fine.dtype)
    for index in np.ndindex(out.shape):
        slices = tuple(
            slice(max((a + i) * f - s, 0), (a + i + 1) * f - s)
            for a, i, f, s in zip(first, index, factor, start, strict=True)
        )
        names, counts = np.unique(fine[slices], return_counts=True)
        out[index] = names[np.argmax(counts)]
    return out


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_python_reads_every_scale_of_an_ome_zarr(volflow, tmp_path, version):
    array = labels(LARGE.shape)
    address = written(f"precomputed://{tmp_path}/seg", array, LARGE)
    name = "out.zarr" if version == 2 else "out.zarr3"
    copy = f"{name.partition('.')[2]}://{tmp_path}/{name}"
    result = volflow("convert", address, copy, "--renumber", "--dtype", "uint32")
    assert result.exit_code == 0, result.output
    group = zarr.open_group(tmp_path / name, mode="r", zarr_format=version)
    attributes = group.attrs.asdict()
    multiscale = attributes.get("ome", attributes)["multiscales"][0]
    assert multiscale["name"] == name  # not that of the hidden folder
    expected, start = consecutive(array).astype("uint32"), LARGE.start
    resolutions = []
    for dataset in multiscale["datasets"]:
        np.testing.assert_array_equal(group[dataset["path"]][:], expected, strict=True)
        scale, translation = dataset["coordinateTransformations"]
        resolutions.append(scale["scale"])
        assert translation["translation"] == [
            a * r for a, r in zip(start, scale["scale"], strict=True)
        ]
        expected, start = (
            modes(expected, start, (1, 2, 2)),
            [a // f for a, f in zip(start, (1, 2, 2), strict=True)],
        )
    assert resolutions == [[40, 8, 8], [40, 16, 16], [40, 32, 32]]


def test_the_number_of_scales_can_be_chosen(volflow, tmp_path):
    array = (labels(LARGE.shape) % 200).astype("uint8")
    address = written(f"zarr://{tmp_path}/em.zarr", array, LARGE)
    for scales in ("1", "2", "5"):
        copy = f"zarr://{tmp_path}/copy{scales}.zarr"
        assert volflow("convert", address, copy, "--scales", scales).exit_code == 0
        assert read(copy)[0].scales == int(scales)
    level = f"{tmp_path}/level.tif"
    assert volflow("convert", copy, level, "--level", "1").exit_code == 0
    second = Volume.open(VolumeSpec(path=copy, level=1))
    np.testing.assert_array_equal(tifffile.imread(level), second.read(second.bounds))
    wrong = volflow("convert", address, f"{tmp_path}/x.tif", "--scales", "2")
    assert wrong.exit_code == 2
    assert "tiff holds one scale; got 2" in wrong.stderr


# --- streams, and appears as a whole -------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.tif", "out.h5"])
def test_a_file_is_written_in_slabs(volflow, tmp_path, monkeypatch, name):
    array = labels(LARGE.shape)
    address = written(f"zarr://{tmp_path}/seg.zarr", array, LARGE)
    depths = []
    read_box = Volume.read
    monkeypatch.setattr(
        Volume,
        "read",
        lambda self, box, *rest: (depths.append(box.shape.z), read_box(self, box))[1],
    )
    monkeypatch.setattr("volflow.io.export.slabs.MEMORY", array[:3].nbytes * 6)
    assert volflow("convert", address, tmp_path / name, "--renumber").exit_code == 0
    assert depths[-3:] == [3, 3, 2]
    volume = Volume.open(VolumeSpec(path=f"{tmp_path}/{name}"))
    np.testing.assert_array_equal(volume.read(volume.bounds), consecutive(array))


def test_a_number_that_does_not_fit_leaves_no_file(volflow, source, tmp_path):
    for name in ("out.tif", "out.h5", "tiff://sections"):
        path = name.replace("sections", f"{tmp_path}/sections")
        path = path if "://" in path else f"{tmp_path}/{name}"
        result = volflow("convert", source[0], path, "--dtype", "uint8")
        assert result.exit_code == 3
        assert "voxels 3:33,0:41,5:42: value" in result.stderr
        assert "does not fit uint8; nothing was written" in result.stderr
    assert [child.name for child in tmp_path.iterdir()] == ["seg"]


def test_a_failed_conversion_names_where_its_blocks_are(volflow, source, tmp_path):
    result = volflow("convert", source[0], f"zarr://{tmp_path}/out.zarr", "--dtype", "uint16")
    assert result.exit_code == 3
    assert f"{tmp_path}/out.zarr was not written; its finished blocks are in" in result.stderr
    assert not (tmp_path / "out.zarr").exists()
    assert {child.name for child in tmp_path.glob("[!.]*")} == {"seg"}


@pytest.mark.parametrize("destination", ["out.tif", "out.h5", "zarr://out.zarr", "tiff://out"])
def test_a_killed_conversion_leaves_nothing_that_looks_whole(tmp_path, volflow, destination):
    array = labels(LARGE.shape)
    address = written(f"zarr://{tmp_path}/seg.zarr", array, LARGE)
    folder = tmp_path / "there"
    folder.mkdir()
    path = destination.replace("out", f"{folder}/out")
    # the source is read slowly, and the process killed once something was written
    script = (
        "import sys, time\n"
        "from volflow.io.volume import Volume\n"
        "from volflow.io.export import slabs\n"
        "slabs.MEMORY = 1\n"
        "read = Volume.read\n"
        "Volume.read = lambda *a, **k: (time.sleep(1), read(*a, **k))[1]\n"
        "from volflow.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", script, "convert", address, path, "--chunk", "8"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not list(folder.glob(".out*.partial/*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert list(folder.glob(".out*.partial/*"))
        time.sleep(0.5)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    assert list(folder.glob("out*")) == []
    assert volflow("convert", address, path).exit_code == 0
    assert len(list(folder.iterdir())) == 1  # what the killed process left is gone
    volume = Volume.open(VolumeSpec(path=path))
    np.testing.assert_array_equal(volume.read(volume.bounds), array)


def test_a_folder_that_is_being_written_is_left_alone(tmp_path):
    first = Staged(tmp_path / "x.zarr")
    first.path.mkdir()
    second = Staged(tmp_path / "x.zarr")
    assert first.path.exists()
    second.discard()
    first.release()
    Staged(tmp_path / "x.zarr").discard()
    assert list(tmp_path.iterdir()) == []


def test_a_replaced_volume_keeps_foreign_files(volflow, source, tmp_path):
    address, array = source
    copy = f"zarr://{tmp_path}/copy.zarr"
    assert volflow("convert", address, copy, "--chunk", "8").exit_code == 0
    (tmp_path / "copy.zarr/notes.txt").write_text("mine")
    assert volflow("convert", address, copy).exit_code == 2
    assert volflow("convert", address, copy, "--overwrite", "--renumber").exit_code == 0
    assert (tmp_path / "copy.zarr/notes.txt").read_text() == "mine"
    volume, again = read(copy)
    assert volume.chunk == (30, 41, 37)
    np.testing.assert_array_equal(again, consecutive(array))
    names = {child.name for child in (tmp_path / "copy.zarr/0").iterdir()}
    assert names == {"0", ".zarray"}
    foreign = zarr.open_array(
        tmp_path / "foreign", mode="w", shape=(3, 3, 3), dtype="u1", zarr_format=2
    )
    foreign[:] = 7
    refused = volflow("convert", address, f"zarr://{tmp_path}/foreign", "--overwrite")
    assert refused.exit_code == 2
    assert "was not written by volflow" in refused.stderr


def test_a_conversion_of_a_temporary_run_names_no_report(volflow, source, tmp_path):
    result = volflow("convert", source[0], f"zarr://{tmp_path}/copy.zarr")
    assert "report.html" not in result.output
    assert "volflow-" not in result.output
    result = volflow("convert", source[0], f"zarr://{tmp_path}/b.zarr", "--out", tmp_path / "run")
    assert f"{tmp_path}/run/report.html" in result.output
    assert (tmp_path / "run/report.html").exists()


def test_a_volume_is_not_converted_onto_itself_in_place(volflow, source, tmp_path):
    address, array = source
    result = volflow("convert", address, address, "--overwrite", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "it is SRC" in result.stderr
    assert volflow("convert", address, address, "--overwrite", "--dtype", "uint64").exit_code == 0
    np.testing.assert_array_equal(read(address)[1], array)


def test_slabs_are_whole_chunks_where_memory_allows(tmp_path):
    array = labels()
    volume = Volume.open(VolumeSpec(path=written(f"zarr://{tmp_path}/seg.zarr", array)))
    export = Export(volume, BOX, np.dtype("uint8"), lambda slab: slab)
    assert export.slab_depth() == 31 // 16 * 16 or export.slab_depth() % 16 == 0
    assert json.dumps(export.shape) == "[30, 41, 37]"
