"""Labels that stand for "not labelled": declared with `ignore`, and suspected where they occur."""

import numpy as np
import pytest
import tifffile
from pydantic import ValidationError

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.engine.api import make_plan
from volflow.errors import PlanError, StorageError
from volflow.io.volume import Volume

LABELS = np.random.default_rng(0).integers(0, 9, (4, 12, 14))


def stored(folder, dtype, value):
    labels = LABELS.astype(dtype)
    labels[1:3] = value
    tifffile.imwrite(folder / "labels.tif", labels, photometric="minisblack")
    expected = LABELS.copy()
    expected[1:3] = 0
    return str(folder / "labels.tif"), expected


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("uint64", 2**64 - 1), ("uint32", 2**32 - 1), ("int64", -1), ("int32", -7), ("uint8", 255)],
)
def test_ignored_labels_are_read_as_0(tmp_path, dtype, value):
    path, expected = stored(tmp_path, dtype, value)
    volume = Volume.open(VolumeSpec.model_validate({"path": path, "ignore": value}))
    assert volume.dtype == np.dtype(dtype.removeprefix("u").replace("int", "uint"))
    np.testing.assert_array_equal(volume[...], expected)
    outside = volume.read(Box((-1, 0, 0), (2, 12, 14)))
    np.testing.assert_array_equal(outside[1:], expected[:2])
    plain = Volume.open(VolumeSpec(path=path))
    assert volume.identity() != plain.identity()
    assert len(plain.identity()["read"]) == 4  # as before there was `ignore`


def test_a_negative_label_that_is_not_ignored_is_an_error(tmp_path):
    path, _ = stored(tmp_path, "int64", -2)
    volume = Volume.open(VolumeSpec(path=path, ignore=(-1,)))
    with pytest.raises(StorageError, match=r"expected labels from 0, got -2"):
        volume.read(volume.bounds)


@pytest.mark.parametrize("value", [-1, 2**64 - 1])
def test_a_value_that_the_type_cannot_hold_is_refused(tmp_path, value):
    path, _ = stored(tmp_path, "uint32", 5)
    with pytest.raises(StorageError, match=r"ignore: expected values of uint32"):
        Volume.open(VolumeSpec(path=path, ignore=(value,)))
    with pytest.raises(StorageError, match=r"ignore is for labels"):
        Volume.open(VolumeSpec(path=path, ignore=(5,), scale=2))
    for wrong in (True, 1.5, 2**64, "x"):
        with pytest.raises(ValidationError):
            VolumeSpec.model_validate({"path": path, "ignore": wrong})


def plan(tmp_path, path, **truth):
    volumes = {"truth": {"path": path, **truth}, "segmentation": {"path": path, "ignore": []}}
    return make_plan(
        {
            "run": str(tmp_path / "run"),
            "resolution": [40, 4, 4],
            "volumes": volumes,
            "steps": [{"use": "score"}],
        }
    )


def test_a_plan_suspects_the_largest_number_and_refuses_signed_labels(tmp_path):
    path, _ = stored(tmp_path, "uint64", 2**64 - 1)
    (warning,) = plan(tmp_path, path).warnings
    assert warning.startswith("volumes.truth: 18446744073709551615 occurs")
    assert not plan(tmp_path, path, ignore=2**64 - 1).warnings
    assert not plan(tmp_path, path, ignore=[]).warnings
    path, _ = stored(tmp_path, "int32", -1)
    with pytest.raises(PlanError, match=r"volumes.truth.ignore: -1 reads signed labels"):
        plan(tmp_path, path)
    plan(tmp_path, path, ignore=-1)
