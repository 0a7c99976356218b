"""Pages whose commands are run as a reader would run them, on small volumes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import volflow
from tests.docs.pages import ROOT, code_blocks, shell_commands
from volflow.cli import main


@pytest.fixture
def spots(workplace: Path) -> Iterator[Path]:
    """The folder after the files of docs/write-a-stage.md were saved and its image was made."""
    for block in code_blocks(ROOT / "docs/write-a-stage.md"):
        if block.file_name:
            (workplace / block.file_name).write_text(block.text)
        elif block.language == "python":
            exec(compile(block.text, str(block), "exec"), {})
    yield workplace
    for name in ("spots", "brightness", "runs"):
        sys.modules.pop(name, None)


def run_commands(page: str, *, skip: tuple[str, ...] = ()) -> None:
    """Run the `volflow` commands of the shell blocks of a page that are not skipped."""
    for block in code_blocks(ROOT / page):
        if block.language != "sh":
            continue
        for words in shell_commands(block.text):
            if words[0] != "volflow" or any(word in skip for word in words):
                continue
            result = CliRunner().invoke(main, words[1:])
            assert result.exit_code == 0, f"{' '.join(words)}\n{result.output}"


@pytest.mark.cluster
def test_the_stage_of_the_page_runs_as_copied(spots: Path) -> None:
    run_commands("docs/write-a-stage.md")
    image, spotted = volflow.open_volume("image.zarr"), volflow.open_volume("out/spots")
    bright = image[...] == 250
    assert bright.sum() > 90
    assert np.array_equal(spotted[...] > 0, bright)


def test_the_stage_of_the_page_does_not_depend_on_the_blocks(spots: Path) -> None:
    arrays = []
    for side in (16, 24):
        result = volflow.run("spots.yaml", overrides=[f"run=out{side}", f"block=[{side},16,64]"])
        volume = result.volumes["spots"]
        arrays.append(volume[...])
    assert arrays[0].any()
    assert arrays[0].tobytes() == arrays[1].tobytes()


def test_the_reduction_of_the_page_runs(spots: Path) -> None:
    volumes = {"image": {"path": "image.zarr"}}
    steps = [{"use": "brightness:Brightness"}]
    result = volflow.run({"run": "out", "block": [16, 32, 32], "volumes": volumes, "steps": steps})
    image = volflow.open_volume("image.zarr")
    assert result.results == {"brightness": {"mean": image[...].mean()}}


def test_the_chain_of_the_page_equals_a_loop_over_the_sections(spots: Path) -> None:
    image = volflow.open_volume("image.zarr")[...]
    for slab, reverse in ((0, False), (32, True)):
        parameters = {"slab": slab, "tile": [40, 64], "reverse": reverse, "level": 95}
        steps = [{"use": "runs:Runs", "with": parameters}]
        volumes = {"image": {"path": "image.zarr"}}
        result = volflow.run({"run": "out", "volumes": volumes, "steps": steps})
        expected = np.zeros_like(image, "uint16")
        for first in range(0, 48, slab or 48):
            order = range(first, min(first + (slab or 48), 48))
            length = np.zeros(image.shape[1:], int)
            for z in reversed(order) if reverse else order:
                length = np.where(image[z] > 95, length + 1, 0)
                expected[z] = length
        assert expected.max() > 16
        assert np.array_equal(result.volumes["runs"][...], expected)


@pytest.mark.cluster
def test_the_first_commands_of_the_readme_run(workplace: Path) -> None:
    skeletons_and_networks = ("--skeletons", "fib25", "view", "block", "doctor")
    run_commands("README.md", skip=skeletons_and_networks)
    assert len(np.unique(volflow.open_volume("out/segmentation")[...])) > 2


def test_the_conversions_of_the_page_run(workplace: Path) -> None:
    truth = volflow.open_volume("truth.zarr")
    address = "precomputed://out/segmentation"
    volflow.write_volume(address, truth[...], resolution=truth.resolution)
    run_commands("docs/take-it-elsewhere.md", skip=("em.tif",))
    for copy in ("neurons.zarr", "neurons.h5"):
        assert np.array_equal(volflow.open_volume(copy)[...], truth[...])
    for copy in ("neurons.tif", "sections"):
        labels = volflow.open_volume(copy)[...]
        assert labels.dtype.itemsize < truth.dtype.itemsize
        assert labels.max() == len(np.unique(labels[labels > 0]))
        assert np.array_equal(labels > 0, truth[...] > 0)
