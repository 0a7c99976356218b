"""`tune`: settings of an agglomeration side by side, on a part of a run."""

from __future__ import annotations

import shutil

import imagecodecs
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

import volflow
from volflow.cli import main
from volflow.cli.tuning.variants import Chain, SizeInVoxels, compared
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.errors import PlanError
from volflow.io.volume import Volume

SHAPE = (16, 32, 32)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on affinities of 3 slabs; the wall between the first two is weak."""
    tmp_path = tmp_path_factory.mktemp("tune")
    affinity = np.full((3, *SHAPE), 240, np.uint8)
    affinity += np.random.default_rng(0).integers(0, 10, affinity.shape, dtype=np.uint8)
    affinity[1, :, 10] = 0.45 * 255
    affinity[1, :, 20] = 0.1 * 255
    spec = VolumeSpec(path=f"zarr3://{tmp_path}/affinity")
    bounds = Box((4, 0, 0), (20, 32, 32))
    volume, _ = Volume.create(spec, Layer("uint8", 3, "affinity"), bounds, (10, 8, 8), (16,) * 3)
    volume.write(bounds, affinity)
    document = {
        "run": str(tmp_path / "run"),
        "block": [16, 16, 16],
        "volumes": {"affinity": {"path": spec.path}},
        "steps": [
            {"use": "fragments"},
            {"use": "agglomerate", "with": {"threshold": 0.4, "min_size": 50}},
            {"use": "relabel"},
        ],
    }
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    assert volflow.run(path).ok
    return tmp_path


@pytest.fixture
def call():
    """The command line in this process."""
    return lambda *texts: CliRunner().invoke(main, [str(text) for text in texts])


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it for each test."""
    shutil.copytree(finished / "run", tmp_path / "run")
    return tmp_path / "run"


def test_the_whole_of_a_run_tuned_at_its_settings_is_that_run(run, call):
    """Block by block or as one part, the segments are the same, ids included."""
    result = call("tune", run, "--thresholds", "0.3,0.4,0.6", "--min-sizes", "0,50")
    assert result.exit_code == 0, result.output
    there = f"precomputed://{run}"
    whole = Volume.open(VolumeSpec(path=f"{there}/segmentation"))
    same = Volume.open(VolumeSpec(path=f"{there}-tune/t40_size50"))
    assert same.bounds == whole.bounds
    np.testing.assert_array_equal(same[...], whole[...])
    stricter = Volume.open(VolumeSpec(path=f"{there}-tune/t60_size50"))
    assert len(np.unique(stricter[...])) == len(np.unique(whole[...])) + 1
    assert "as in the run" in result.output
    assert f"volflow view {run}-tune" in result.output
    pixels = imagecodecs.png_decode((run.parent / "run-tune/tune.png").read_bytes())
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10


def test_a_part_is_the_box_around_a_voxel(run, call):
    result = call("tune", run, "--at", "19,3,16", "--shape", "8,16,16", "--thresholds", "0.4")
    assert result.exit_code == 0, result.output
    part = Volume.open(VolumeSpec(path=f"precomputed://{run}-tune/t40_size50"))
    assert part.bounds == Box((12, 0, 8), (20, 16, 24))
    assert Volume.open(VolumeSpec(path=f"precomputed://{run}-tune/t40_size5"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--at", "99,0,0"], "--at: expected a voxel in 4:20,0:32,0:32, got 99,0,0"),
        (["--thresholds", ",".join(map(str, np.arange(0.1, 0.9, 0.02).round(2)))], "at most 24"),
        (["--write", __file__], "--write needs --choose"),
        (["--out", "{run}"], "holds another run"),
    ],
)
def test_what_cannot_be_compared_is_refused(run, call, arguments, reason):
    result = call("tune", run, *(text.format(run=run) for text in arguments))
    assert result.exit_code == 2
    assert reason in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--at", "1,2"], ["--shape", "0,1,1"], ["--thresholds", "2"], ["--choose", "a"]],
)
def test_values_that_are_none_are_refused(run, call, arguments):
    assert call("tune", run, *arguments).exit_code == 2


def test_a_choice_is_written_into_the_pipeline_file(run, call, tmp_path):
    file = tmp_path / "mine.yaml"
    text = (
        "run: out  # here\nsteps:\n  - use: fragments\n  # merging\n  - use: agglomerate\n"
        "    with:\n      threshold: 0.4    # lower: more merging\n\n  - use: relabel\n"
    )
    file.write_text(text)
    result = call("tune", run, "--choose", "0.55,120", "--write", file)
    assert result.exit_code == 0, result.output
    added = "      min_size: 120\n      threshold: 0.55    # lower: more merging\n"
    assert file.read_text() == text.replace(
        "      threshold: 0.4    # lower: more merging\n", added
    )
    set_options = "--set steps.agglomerate.threshold=0.55 --set steps.agglomerate.min_size=120"
    assert f"volflow retry {run} {set_options}" in result.output


@pytest.mark.parametrize(
    "text",
    [
        "steps: [{use: agglomerate, with: {threshold: 0.4}}]\n",
        "steps:\n  - use: agglomerate\n    with:\n      threshold:\n        - 0.4\n",
        "steps:\n  - use: relabel\n",
        "steps: 3\n",
        "- a\n",
    ],
)
def test_a_file_that_cannot_be_changed_stays_as_it_was(run, call, tmp_path, text):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    result = call("tune", run, "--choose", "0.5", "--write", file)
    assert result.exit_code == 2
    assert "mine.yaml: expected" in result.stderr
    assert file.read_text() == text
    assert [path.name for path in tmp_path.glob(".mine*")] == []


def test_sizes_may_be_in_units(run, call):
    """A voxel has 640 nm³, so 50 of them have 32,000; the run has 50."""
    result = call("tune", run, "--thresholds", "0.4", "--min-sizes", "32000 nm³,7")
    assert result.exit_code == 0, result.output
    assert [line.split()[:2] for line in result.output.splitlines() if "as in" in line] == [
        ["0.4", "50"]
    ]
    file = run.parent / "own.yaml"
    shutil.copy(run / "pipeline.yaml", file)
    result = call("tune", run, "--choose", "0.3,0.00005 µm³", "--write", file)
    assert f"{file}: threshold: 0.3, min_size: 0.00005 µm³" in result.output
    assert "--set 'steps.agglomerate.min_size=0.00005 µm³'" in result.output
    settings = yaml.safe_load(file.read_text())["steps"][1]["with"]
    assert (settings["threshold"], settings["min_size"]) == (0.3, "0.00005 µm³")
    assert "expected sizes in voxels or units" in call("tune", run, "--min-sizes", "5 nm").output
    assert "such as 0.4,200" in call("tune", run, "--choose", "0.4,5 nm").output


def test_the_size_of_a_run_in_units_is_compared_with_a_tenth_of_its_voxels():
    agglomerate = {"with": {"threshold": 0.4, "min_size": "32000 nm³ or 0.01 µm²"}}
    voxels = SizeInVoxels((10, 8, 8), Box((0, 0, 0), (16, 32, 32)))
    variants = compared(Chain({}, agglomerate, {}), (0.4,), (), voxels)
    assert [variant.min_size for variant in variants] == [5, 50]
    with pytest.raises(PlanError, match="min_size: expected a volume such as"):
        voxels("0.01 µm²")
