"""The training file: all mistakes at once, each with its place; the shipped ones are right."""

from pathlib import Path

import pytest

from volflow.errors import PlanError
from volflow.train.config import load
from volflow.train.sources import refusals

SHIPPED = sorted((Path(__file__).parents[2] / "pipelines" / "train").glob("*.yaml"))

SYNTHETIC = """
out: somewhere
voxel_size_nm: [10, 10, 10]
sources:
  - synthetic: {bounds: "0:32,0:32,0:32", seed: 5}
validation:
  source:
    synthetic: {bounds: "0:32,0:32,0:32", seed: 6}
network: {widths: [2, 2], pools: [[2, 2, 2]]}
crop: [16, 16, 16]
"""


def written(tmp_path, text):
    path = tmp_path / "train.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_files_are_right(path):
    assert load(path).offsets[:3] == ((-1, 0, 0), (0, -1, 0), (0, 0, -1))


def test_something_was_shipped():
    assert {path.stem for path in SHIPPED} == {"fib25", "fib25_lsd", "synth"}


def test_options_come_before_the_file_and_paths_become_absolute(tmp_path):
    path = written(tmp_path, SYNTHETIC)
    training = load(path, ("steps=7", "network.depth=2", f"out={tmp_path}/x"))
    assert (training.steps, training.network.depth) == (7, 2)
    assert training.out == f"{tmp_path}/x"
    assert Path(load(path).out).is_absolute()
    assert refusals(training) == []


def test_all_mistakes_are_told_at_once_each_with_its_line(tmp_path):
    text = SYNTHETIC.replace("seed: 5", "sead: 5") + "steps: 0\nlerning_rate: 1\nseed: none\n"
    with pytest.raises(PlanError) as caught:
        load(written(tmp_path, text))
    found = "\n".join(caught.value.mistakes)
    assert len(caught.value.mistakes) == 4
    assert "train.yaml:5: sources[0].synthetic.sead" in found
    assert "did you mean 'seed'?" in found
    assert "train.yaml:11: steps" in found
    assert "train.yaml:12: lerning_rate" in found
    assert "did you mean 'learning_rate'?" in found
    assert "train.yaml:13: seed" in found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("crop: [16, 16, 16]", "crop: [16, 16, 15]"), "crop must be a multiple of 2 along x"),
        (("pools: [[2, 2, 2]]", "pools: []"), "2 widths need one pool fewer"),
        (("crop:", "tiles: {halo: [48, 0, 0]}\ncrop:"), "halo leaves nothing of"),
        (("synthetic: {bounds", "bounds: here\n    synthetic: {bounds"), "a box is written"),
        (("synthetic:", "image: {path: x}\n    synthetic:"), "either image and labels, or"),
    ],
)
def test_what_does_not_fit_together_is_told(tmp_path, change, words):
    with pytest.raises(PlanError, match=words):
        load(written(tmp_path, SYNTHETIC.replace(*change)))


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(PlanError, match="cannot be read"):
        load(tmp_path / "nowhere.yaml")
    with pytest.raises(PlanError, match="wanted keys and values"):
        load(written(tmp_path, "- 1\n"))


def test_volumes_that_are_not_there_or_too_small_are_told_together(tmp_path):
    text = SYNTHETIC.replace(
        'synthetic: {bounds: "0:32,0:32,0:32", seed: 6}',
        "image: {path: 'hdf5:///nowhere/a.h5?dataset=raw'}\n"
        "    labels: {path: 'hdf5:///nowhere/a.h5?dataset=labels'}",
    )
    wrong = refusals(load(written(tmp_path, text), ("crop=[64,16,16]",)))
    assert len(wrong) == 2
    assert "sources[0]: 0:32,0:32,0:32 is smaller than a crop of (64, 16, 16)" in wrong
    assert any("validation.source: " in text and "/nowhere/a.h5" in text for text in wrong)
