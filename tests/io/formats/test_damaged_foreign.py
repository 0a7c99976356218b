"""Foreign volumes that are cut short or changed where their libraries report nothing."""

from __future__ import annotations

import gzip
import json

import imagecodecs
import nibabel
import numpy as np
import pytest
import tensorstore as ts
import tifffile

from tests.fuzz.chunked_volumes import _precomputed
from volflow.config.pipeline import VolumeSpec
from volflow.errors import StorageError
from volflow.io.volume import Volume

VOXELS = np.arange(6 * 20 * 30, dtype=np.uint16).reshape(6, 20, 30)


def read(path):
    volume = Volume.open(VolumeSpec(path=str(path)))
    volume.verify()
    return volume.read(volume.bounds)


def test_a_packed_nifti_is_checked_up_to_its_checksum(tmp_path):
    plain, path = tmp_path / "v.nii", tmp_path / "v.nii.gz"
    nibabel.save(nibabel.Nifti1Image(VOXELS.T.astype(np.int16), np.eye(4)), plain)
    body = bytearray(plain.read_bytes())
    packed = bytearray(gzip.compress(body))
    path.write_bytes(packed)
    np.testing.assert_array_equal(read(path), VOXELS)
    body[-100] ^= 1  # other voxels, whose checksum is that of the right ones
    path.write_bytes(gzip.compress(body)[:-8] + packed[-8:])
    with pytest.raises(StorageError, match=r"v\.nii\.gz cannot be read: CRC check failed"):
        read(path)
    path.write_bytes(packed[:-8])
    with pytest.raises(StorageError, match=r"v\.nii\.gz cannot be read"):
        read(path)


def pages(path, **options):
    with tifffile.TiffWriter(path, **options) as file:
        for section in VOXELS:
            file.write(section, contiguous=False, metadata=None)


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_a_tiff_whose_last_pages_are_cut_off(tmp_path, options):
    path = tmp_path / "v.tif"
    pages(path, **options)
    np.testing.assert_array_equal(read(path), VOXELS)
    with tifffile.TiffFile(path) as file:
        ends = [page.dataoffsets[0] + page.databytecounts[0] for page in file.pages]
    body = path.read_bytes()
    for end in ends[:-1]:  # all pages before are whole
        path.write_bytes(body[:end])
        with pytest.raises(StorageError, match=r"v\.tif cannot be read as TIFF: it is cut short"):
            read(path)


def test_a_folder_whose_only_stack_is_cut_off_is_no_section(tmp_path):
    pages(tmp_path / "stack.tif")
    np.testing.assert_array_equal(read(tmp_path), VOXELS)
    with tifffile.TiffFile(tmp_path / "stack.tif") as file:
        first = file.pages[0]
        end = first.dataoffsets[0] + first.databytecounts[0]
    (tmp_path / "stack.tif").write_bytes((tmp_path / "stack.tif").read_bytes()[:end])
    with pytest.raises(StorageError, match=r"stack\.tif cannot be read: it is cut short"):
        read(tmp_path)


def test_a_tiff_whose_description_is_cut_off(tmp_path):
    path = tmp_path / "v.ome.tif"
    sides = {f"PhysicalSize{axis}": 0.008 for axis in "XYZ"}
    tifffile.imwrite(path, VOXELS, metadata={"axes": "ZYX", **sides})
    body = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags["ImageDescription"]
        assert tag.valueoffset + tag.valuebytecount == len(body)  # it is the last in the file
    for length in (tag.valueoffset + 20, len(body) - 8):
        path.write_bytes(body[:length])
        with pytest.raises(StorageError, match=r"it is cut short; .* for its tag 270"):
            read(path)


def test_a_png_whose_header_is_damaged_is_named_and_not_the_next(tmp_path):
    for number, section in enumerate(VOXELS.astype(np.uint8)):
        (tmp_path / f"s{number}.png").write_bytes(imagecodecs.png_encode(section))
    np.testing.assert_array_equal(read(tmp_path), VOXELS.astype(np.uint8))
    body = bytearray((tmp_path / "s0.png").read_bytes())
    body[17] ^= 4  # of its width
    (tmp_path / "s0.png").write_bytes(body)
    with pytest.raises(StorageError, match=r"s0\.png cannot be read: the checksum of its header"):
        read(tmp_path)


@pytest.mark.parametrize("format_", [2, 3])
def test_damaged_metadata_above_an_array_are_not_passed_over(tmp_path, format_):
    driver, name = ("zarr", ".zattrs") if format_ == 2 else ("zarr3", "zarr.json")
    store = {"driver": "file", "path": f"{tmp_path}/em.zarr/0/"}
    spec = {"driver": driver, "kvstore": store}
    array = ts.open(spec, create=True, dtype="uint16", shape=VOXELS.shape).result()
    array[...] = VOXELS
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
    scale = [{"type": "scale", "scale": [40.0, 8.0, 8.0]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    above = {"multiscales": [{**image, "version": "0.4"}]}
    if format_ == 3:
        above = {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": {"ome": {"multiscales": [image]}},
        }
    path = tmp_path / "em.zarr" / name
    path.write_text(json.dumps(above))
    spec = VolumeSpec(path=f"{tmp_path}/em.zarr/0")
    assert Volume.open(spec).resolution == (40, 8, 8)
    path.write_text(json.dumps(above)[:-9])
    with pytest.raises(StorageError, match=rf"em\.zarr/{name} is not JSON"):
        Volume.open(spec)
    path.unlink()
    assert Volume.open(spec).resolution is None


def test_shards_that_are_missing_or_empty(tmp_path):
    _precomputed(tmp_path, "raw", sharded=True)
    shards = sorted((tmp_path / "v/8_8_40").iterdir())
    assert len(shards) == 2
    volume = Volume.open(VolumeSpec(path=f"precomputed://{tmp_path}/v"))
    volume.verify()
    assert volume.warnings == ()
    body = shards[1].read_bytes()
    for length in (0, 31):
        shards[1].write_bytes(body[:length])
        with pytest.raises(
            StorageError, match=rf"{shards[1].name} is cut short; expected 32 bytes"
        ):
            volume.verify()
    shards[1].unlink()
    volume.verify()
    assert volume.warnings == ("1 of 2 shards are missing and are read as 0",)
    shards[0].rename(shards[0].with_suffix(".old"))
    with pytest.raises(StorageError, match="no shard: expected shards such as"):
        volume.verify()
