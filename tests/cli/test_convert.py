"""`convert`: a copy in another format, chunk or type."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cli.label_volumes import BOX
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.io.volume import Volume


def read(address: str) -> tuple[Volume, np.ndarray]:
    volume = Volume.open(VolumeSpec(path=address))
    return volume, volume.read(volume.bounds)


@pytest.mark.parametrize("template", ["zarr", "zarr3", "n5", "precomputed"])
def test_there_and_back_is_the_same(volflow, labels, tmp_path, template):
    (found_at, _), actual, _ = labels
    there, back = f"{template}://{tmp_path}/there", f"precomputed://{tmp_path}/back"
    first = volflow("convert", found_at, there, "--chunk", "8,16,32")
    assert first.exit_code == 0, first.output
    assert volflow("convert", there, back, "--encoding", "raw").exit_code == 0
    volume, array = read(there)
    assert volume.chunk == (8, 16, 32)
    for other in (there, back):
        volume, array = read(other)
        assert volume.bounds == BOX
        assert volume.resolution == (40, 8, 8)
        np.testing.assert_array_equal(array, actual)
        assert array.dtype == actual.dtype


def test_a_part_in_another_type(volflow, labels, tmp_path):
    (_, truth_at), _, truth = labels
    copy = f"zarr://{tmp_path}/copy.zarr"
    result = volflow("convert", truth_at, copy, "--dtype", "uint8", "--bounds", "4:9,0:9,5:30")
    assert result.exit_code == 0, result.output
    volume, array = read(copy)
    assert volume.bounds == Box((4, 0, 5), (9, 9, 30))
    np.testing.assert_array_equal(array, truth[1:6, :9, :25].astype("uint8"))
    assert array.dtype == "uint8"


def test_a_number_that_does_not_fit_fails_its_block(volflow, labels, tmp_path):
    copy = f"zarr://{tmp_path}/copy.zarr"
    result = volflow("convert", labels[0][0], copy, "--dtype", "uint16", "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert "does not fit uint16" in result.stderr
    assert f"volflow block {tmp_path}/out convert 0 0 0" in result.stderr


def test_what_is_there_is_left_alone(volflow, labels, tmp_path):
    (found_at, truth_at), actual, truth = labels
    refused = volflow("convert", truth_at, found_at)
    assert refused.exit_code == 2
    assert "exists; choose another path, or give --overwrite" in refused.stderr
    np.testing.assert_array_equal(read(found_at)[1], actual)
    assert volflow("convert", truth_at, found_at, "--overwrite").exit_code == 0
    np.testing.assert_array_equal(read(found_at)[1], truth)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "zarr://x"], "SRC: "),
        (["FOUND", "mrc://TMP/x.mrc"], "only read"),
        (["FOUND", "zarr://TMP/x", "--chunk", "8,8"], "expected one number or three"),
        (["FOUND", "zarr://TMP/x", "--bounds", "0:900,0:9,0:9"], "0:900"),
        (["FOUND", "zarr://TMP/x", "--dtype", "text"], "got 'text'"),
    ],
)
def test_a_conversion_that_cannot_be_made_ends_with_2(
    volflow, labels, tmp_path, arguments, message
):
    places = {"FOUND": labels[0][0], "TMP": str(tmp_path)}
    for short, full in places.items():
        arguments = [argument.replace(short, full) for argument in arguments]
    result = volflow("convert", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not (tmp_path / "x").exists()
