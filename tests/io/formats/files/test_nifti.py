"""NIfTI files written by nibabel, read as volumes."""

import nibabel
import numpy as np
import pytest

from tests.io.test_volume import noise
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.errors import StorageError
from volflow.io.formats.files import nifti
from volflow.io.volume import Volume

SHAPE = (5, 7, 11)


def write(path, array, sides=(0.004, 0.005, 0.04), unit="micron", affine=None, kind=None):
    """A file of an array (Z, Y, X) or (C, Z, Y, X); the voxel size x, y, z in its unit."""
    image = (kind or nibabel.Nifti1Image)(
        array.T, np.diag([*sides, 1]) if affine is None else affine, dtype=array.dtype
    )
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return str(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "uint64", "float32"])
@pytest.mark.parametrize("name", ["em.nii", "em.nii.gz"])
def test_voxels_and_voxel_size_are_those_written(tmp_path, dtype, name):
    array = noise(np.random.default_rng(0), SHAPE, dtype)
    path = write(tmp_path / name, array)
    for address in (path, f"nifti://{path}"):
        volume = Volume.open(VolumeSpec(path=address))
        assert (volume.format, volume.bounds) == ("nifti", Box((0, 0, 0), SHAPE))
        assert volume.resolution == pytest.approx((40, 5, 4), rel=1e-5)
        np.testing.assert_array_equal(volume.read(volume.bounds), array, strict=True)
        box = Box((1, -2, 3), (4, 5, 14))
        expected = np.zeros(box.shape, dtype)
        expected[:, 2:, :8] = array[1:4, :5, 3:]
        np.testing.assert_array_equal(volume.read(box), expected, strict=True)


def test_a_fourth_axis_is_read_as_channels(tmp_path):
    array = noise(np.random.default_rng(0), (3, *SHAPE), "uint8")
    volume = Volume.open(VolumeSpec(path=write(tmp_path / "em.nii", array)))
    assert volume.channels == 3
    np.testing.assert_array_equal(volume.read(volume.bounds), array, strict=True)
    chosen = Volume.open(VolumeSpec(path=str(tmp_path / "em.nii"), channels=(2, 0)))
    box = Box((1, 2, 3), (3, 6, 9))
    np.testing.assert_array_equal(chosen.read(box), array[[2, 0], 1:3, 2:6, 3:9], strict=True)
    lone = Volume.open(VolumeSpec(path=write(tmp_path / "lone.nii", array[:1])))
    assert lone.channels == 0
    np.testing.assert_array_equal(lone.read(lone.bounds), array[0], strict=True)


@pytest.mark.parametrize(
    ("unit", "resolution"),
    [("mm", (4e4, 5e3, 4e3)), ("meter", (4e7, 5e6, 4e6)), ("unknown", None)],
)
def test_the_unit_of_the_header_counts(tmp_path, unit, resolution):
    path = write(tmp_path / "em.nii", np.zeros(SHAPE, "uint8"), unit=unit)
    actual = Volume.open(VolumeSpec(path=path)).resolution
    assert actual == (resolution if resolution is None else pytest.approx(resolution, rel=1e-5))


def test_scaled_values_are_scaled(tmp_path):
    array = noise(np.random.default_rng(0), SHAPE, "uint8")
    image = nibabel.Nifti1Image(array.T, np.eye(4))
    image.header.set_slope_inter(0.5, 3)
    path = tmp_path / "em.nii"
    nibabel.save(image, path)
    header = bytearray(path.read_bytes())
    header[112:120] = np.array([0.5, 3], "<f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(header)
    volume = Volume.open(VolumeSpec(path=str(path)))
    expected = np.asarray(nibabel.load(path).dataobj).T
    assert expected.max() > 100
    np.testing.assert_array_equal(volume.read(volume.bounds), expected, strict=True)


def test_a_flip_keeps_the_order_of_voxels_and_a_permutation_is_refused(tmp_path):
    array = noise(np.random.default_rng(0), SHAPE, "uint8")
    flipped = write(tmp_path / "a.nii", array, affine=np.diag([-0.004, -0.005, 0.04, 1]))
    volume = Volume.open(VolumeSpec(path=flipped))
    assert volume.resolution == pytest.approx((40, 5, 4), rel=1e-5)
    np.testing.assert_array_equal(volume.read(volume.bounds), array)
    permuted = write(tmp_path / "b.nii", array, affine=np.diag([1.0, 1, 1, 1])[[2, 1, 0, 3]])
    with pytest.raises(StorageError, match=r"b\.nii permutes its axes; reorient"):
        Volume.open(VolumeSpec(path=permuted))


def test_files_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    array = noise(np.random.default_rng(0), SHAPE, "int16")
    for name in ("em.nii", "em.nii.gz"):
        path = write(tmp_path / name, array)
        body = (tmp_path / name).read_bytes()
        for length in (len(body) // 2, 100, 0):
            (tmp_path / name).write_bytes(body[:length])
            with pytest.raises(StorageError, match=r"em\.nii\S* cannot be read"):
                Volume.open(VolumeSpec(path=path)).read(Box((0, 0, 0), SHAPE))
    with pytest.raises(StorageError, match=r"no\.nii cannot be read as NIfTI"):
        Volume.open(VolumeSpec(path=f"{tmp_path}/no.nii"))
    path = write(tmp_path / "em.nii.gz", array)
    monkeypatch.setattr(nifti, "LARGEST_PACKED", 100)
    with pytest.raises(StorageError, match="unpack it with gunzip"):
        Volume.open(VolumeSpec(path=path))
    path = write(tmp_path / "c.nii", array.astype("complex64"))
    with pytest.raises(StorageError, match="expected integers or floats; got complex64"):
        Volume.open(VolumeSpec(path=path))
