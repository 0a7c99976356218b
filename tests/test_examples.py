"""Every example runs as its first lines describe, and prints the right result."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import imagecodecs
import pytest
import yaml

from volflow.config.pipeline import from_dict
from volflow.core.stage import find_stage

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def output(example: str, *arguments: object) -> str:
    """Output of an example; it ends with 0 and without warnings."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / example), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": ""}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=560)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_example_is_tested():
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {"first_run.py", "follow_a_neuron.py", "write_a_stage.py"}


@pytest.mark.parametrize("cluster", ["none", pytest.param("local", marks=pytest.mark.cluster)])
def test_write_a_stage(tmp_path, cluster):
    text = output("write_a_stage.py", "--out", tmp_path, "--cluster", cluster)
    assert text == f"100 spots in precomputed://{tmp_path}/run/spots\n"


def test_the_pipeline_of_the_readme_is_a_pipeline():
    text, step = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    document = yaml.safe_load(text)
    steps = [step.use for step in from_dict(document).steps]
    bundled = yaml.safe_load((ROOT / "pipelines/segment.yaml").read_text())
    assert steps == [step["use"] for step in bundled["steps"]]
    (more,) = from_dict({**document, "steps": yaml.safe_load(step)}).steps
    assert find_stage(more.use).model_validate(more.with_).require["vi"].maximum == 1.0


def test_first_run(tmp_path):
    text = output("first_run.py", "--out", tmp_path, "--size", 64)
    vi = re.search(r"VI (\d+\.\d+) bits: split (\d+\.\d+), merge (\d+\.\d+)", text)
    assert vi, text
    total, split, merge = (float(number) for number in vi.groups())
    assert total == pytest.approx(split + merge, abs=0.002)
    assert total < 2
    assert (tmp_path / "segment/segmentation/info").is_file()


def test_follow_a_neuron(tmp_path):
    text = output("follow_a_neuron.py", "--out", tmp_path, "--size", 96)
    assert "through 32 of 32 sections" in text
    overlap = re.search(r"IoU with the truth (\d\.\d+)", text)
    assert overlap, text
    assert float(overlap[1]) > 0.8
    picture = imagecodecs.png_decode((tmp_path / "strip.png").read_bytes())
    assert picture.shape == (98, 8 * 98, 3)
    assert (picture[..., 0].astype(int) - picture[..., 2] > 60).any(
        axis=0
    ).mean() > 0.1  # in colour
