"""`score` and `convert`."""

from __future__ import annotations

import json

import numpy as np
import pytest

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.io.volume import Volume
from volflow.metrics.voxels.contingency import contingency, scores

BOX = Box((3, 0, 5), (33, 41, 42))


def written(address: str, array: np.ndarray, box: Box = BOX) -> str:
    kind = "segmentation" if array.dtype == "uint64" else "image"
    layer = Layer(array.dtype.name, 0, kind)
    volume, _ = Volume.create(VolumeSpec(path=address), layer, box, (40, 8, 8), (16, 16, 16))
    volume.write(box, array)
    return address


def read(address: str) -> tuple[Volume, np.ndarray]:
    volume = Volume.open(VolumeSpec(path=address))
    return volume, volume.read(volume.bounds)


@pytest.fixture
def labels(tmp_path):
    random = np.random.default_rng(3)
    truth = random.integers(0, 5, BOX.shape).astype("uint64")
    found = truth + random.integers(0, 2, BOX.shape).astype("uint64") + 2**60
    addresses = [
        written(f"precomputed://{tmp_path}/found", found),
        written(f"zarr://{tmp_path}/truth.zarr", truth),
    ]
    return addresses, found, truth


def numbers(text: str) -> dict[str, float]:
    """A score without its list of the worst."""
    found = json.loads(text)
    assert set(found.pop("worst")) == {"splits", "mergers"}
    return found


def test_score_is_what_the_metric_says(volflow, labels):
    (found_at, truth_at), found, truth = labels
    result = volflow("score", "--segmentation", found_at, "--truth", truth_at, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) | {"worst": None} == scores(contingency(truth, found)) | {
        "worst": None
    }


def test_score_prints_what_papers_quote_and_keeps_the_run_if_asked(volflow, labels, tmp_path):
    (found_at, truth_at), found, truth = labels
    wanted = scores(contingency(truth[:7], found[:7]))
    box, out = "3:10,0:41,5:42", tmp_path / "kept"
    command = ["score", "--segmentation", found_at, "--truth", truth_at]
    result = volflow(*command, "--bounds", box, "--out", out)
    assert f"{wanted['vi']:.4f} bits" in result.output
    assert f"{wanted['arand']:.4f}" in result.output
    assert numbers((out / "results/score.json").read_text()) == wanted


def test_score_takes_what_both_volumes_cover(volflow, labels, tmp_path):
    (found_at, _), found, truth = labels
    part = Box((10, 8, 5), (20, 41, 30))
    smaller = written(f"precomputed://{tmp_path}/part", truth[part.within(BOX)], part)
    result = volflow("score", "--segmentation", found_at, "--truth", smaller, "--json")
    inside = part.within(BOX)
    assert numbers(result.stdout) == scores(contingency(truth[inside], found[inside]))
    assert f"scored where the volumes overlap: {part}" in result.stderr


def test_there_is_nothing_to_score_where_the_truth_is_empty(volflow, labels, tmp_path):
    empty = written(f"precomputed://{tmp_path}/empty", np.zeros(BOX.shape, "uint64"))
    result = volflow("score", "--segmentation", labels[0][0], "--truth", empty)
    assert result.exit_code == 2
    assert "nothing to score" in result.stderr


def test_volumes_that_do_not_meet_are_not_scored(volflow, labels, tmp_path):
    away = Box((100, 0, 0), (110, 10, 10))
    apart = written(f"precomputed://{tmp_path}/apart", np.ones(away.shape, "uint64"), away)
    result = volflow("score", "--segmentation", labels[0][0], "--truth", apart)
    assert result.exit_code == 2
    assert "do not overlap" in result.stderr


@pytest.mark.parametrize("format", ["zarr", "zarr3", "n5", "precomputed"])
def test_there_and_back_is_the_same(volflow, labels, tmp_path, format):
    (found_at, _), found, _ = labels
    there, back = f"{format}://{tmp_path}/there", f"precomputed://{tmp_path}/back"
    first = volflow("convert", found_at, there, "--chunk", "8,16,32")
    assert first.exit_code == 0, first.output
    assert volflow("convert", there, back, "--encoding", "raw").exit_code == 0
    volume, array = read(there)
    assert volume.chunk == (8, 16, 32)
    for other in (there, back):
        volume, array = read(other)
        assert volume.bounds == BOX
        assert volume.resolution == (40, 8, 8)
        np.testing.assert_array_equal(array, found)
        assert array.dtype == found.dtype


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
    (found_at, truth_at), found, truth = labels
    refused = volflow("convert", truth_at, found_at)
    assert refused.exit_code == 2
    assert "exists; choose another path, or give --overwrite" in refused.stderr
    np.testing.assert_array_equal(read(found_at)[1], found)
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
