"""MRC files written by mrcfile, read as volumes."""

import struct

import mrcfile
import numpy as np
import pytest

from tests.io.test_volume import noise
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.errors import StorageError
from volflow.io.volume import Volume

SHAPE = (5, 7, 11)


def write(path, array, voxel_size=(4.0, 5.0, 40.0), **header):
    """A file of an array (Z, Y, X); the voxel size in nanometres x, y, z."""
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(array)
        if array.ndim == 3:
            file.set_volume()
        file.voxel_size = tuple(10 * side for side in voxel_size)  # angstrom
        for name, value in header.items():
            setattr(file.header, name, value)
    return str(path)


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float32"])
@pytest.mark.parametrize("prefix", ["", "mrc://"])
def test_voxels_and_voxel_size_are_those_written(tmp_path, dtype, prefix):
    array = noise(np.random.default_rng(0), SHAPE, dtype)
    path = write(tmp_path / "em.mrc", array)
    volume = Volume.open(VolumeSpec(path=prefix + path))
    assert (volume.format, volume.bounds) == ("mrc", Box((0, 0, 0), SHAPE))
    assert volume.resolution == pytest.approx((40, 5, 4), rel=1e-6)
    np.testing.assert_array_equal(volume.read(volume.bounds), array, strict=True)
    box = Box((1, -2, 3), (4, 5, 14))
    expected = np.zeros(box.shape, dtype)
    expected[:, 2:, :8] = array[1:4, :5, 3:]
    np.testing.assert_array_equal(volume.read(box), expected, strict=True)


def test_a_header_of_permuted_axes_and_a_start_is_followed(tmp_path):
    """Columns along z, rows along x, sections along y."""
    array = noise(np.random.default_rng(0), SHAPE, "int16")
    stored = np.ascontiguousarray(array.transpose(1, 2, 0))  # sections y, rows x, columns z
    path = write(
        tmp_path / "em.rec", stored, mapc=3, mapr=1, maps=2, nxstart=8, nystart=-3, nzstart=2,
        mx=11, my=7, mz=5, cella=(440.0, 350.0, 2000.0),
    )  # fmt: skip
    volume = Volume.open(VolumeSpec(path=path))
    assert volume.bounds.start == (8, 2, -3)  # of columns, sections and rows
    assert volume.resolution == pytest.approx((40, 5, 4), rel=1e-6)
    np.testing.assert_array_equal(volume.read(volume.bounds), array, strict=True)


@pytest.mark.parametrize(("flags", "dtype"), [(0, "uint8"), (1, "int8")])
def test_bytes_of_imod_are_signed_as_its_flags_have_it(tmp_path, flags, dtype):
    array = noise(np.random.default_rng(0), SHAPE, "uint8")
    path = write(tmp_path / "em.mrc", array.view("int8"))
    with open(path, "r+b") as file:
        file.seek(152)
        file.write(struct.pack("<ii", 1146047817, flags))
    volume = Volume.open(VolumeSpec(path=path))
    np.testing.assert_array_equal(volume.read(volume.bounds), array.view(dtype), strict=True)


def test_a_voxel_size_of_zero_is_unknown(tmp_path):
    path = write(tmp_path / "em.mrc", np.zeros(SHAPE, "int8"), voxel_size=(0.0, 0.0, 0.0))
    assert Volume.open(VolumeSpec(path=path)).resolution is None


def test_files_that_are_cut_short_or_of_no_volume_are_refused(tmp_path):
    array = noise(np.random.default_rng(0), SHAPE, "int16")
    path = write(tmp_path / "em.mrc", array)
    body = (tmp_path / "em.mrc").read_bytes()
    for length in (len(body) - 1, 1024, 100, 0):
        (tmp_path / "em.mrc").write_bytes(body[:length])
        with pytest.raises(StorageError, match=r"em\.mrc cannot be read as MRC"):
            Volume.open(VolumeSpec(path=path))
    with pytest.raises(StorageError, match=r"no\.mrc cannot be read as MRC"):
        Volume.open(VolumeSpec(path=f"{tmp_path}/no.mrc"))
    write(path, array.astype("complex64"))
    with pytest.raises(StorageError, match="expected integers or floats; got MRC mode 4"):
        Volume.open(VolumeSpec(path=path))
    write(path, array[0])
    with pytest.raises(StorageError, match=r"expected one volume .* got shape \(7, 11\)"):
        Volume.open(VolumeSpec(path=path))
