from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import imagecodecs
import pytest

from tests.cli.conftest import Call
from tests.view.paint import painted
from volflow.view.neuroglancer import viewer
from volflow.view.neuroglancer.viewer import missing_browser


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("view") / "run"
    assert painted(folder).ok
    return folder


def start(
    *arguments: str | Path, without: str = "", last: str = "Ctrl-C"
) -> tuple[subprocess.Popen[str], list[str]]:
    """`volflow view` in a process of its own, and the lines that it prints until it waits."""
    hide = f"import sys; sys.modules[{without!r}] = None\n" if without else ""
    code = hide + "from volflow.cli import main; main()"
    command = [sys.executable, "-u", "-c", code, "view", *map(str, arguments), "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if last in line:
            break
    return process, lines


def end(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGINT)
    with process:
        return process.wait(timeout=120)


def test_the_layers_are_there_until_ctrl_c(run: Path) -> None:
    process, lines = start(run)
    try:
        sources = [line.split()[-1] for line in lines if "precomputed://" in line]
        assert [line.split()[0] for line in lines[:3]] == ["em", "affinity", "segmentation"]
        for source in sources:
            with urllib.request.urlopen(source.removeprefix("precomputed://") + "info") as answer:
                assert json.loads(answer.read())["scales"]
        page = next(line for line in lines if line.startswith("http://127.0.0.1"))
        with urllib.request.urlopen(page) as answer:
            assert b"neuroglancer" in answer.read().lower()
    finally:
        assert end(process) == 0


def test_a_quiet_view_prints_its_address_alone(run: Path) -> None:
    process, lines = start(run, "-q", last="http://")
    try:
        (page,) = lines
        with urllib.request.urlopen(page) as answer:
            assert b"neuroglancer" in answer.read().lower()
    finally:
        assert process.stdout is not None
        assert end(process) == 0


def test_without_neuroglancer_another_one_can_show_it(run: Path) -> None:
    process, lines = start(run, without="neuroglancer")
    try:
        text = "\n".join(lines)
        assert "pip install '.[view]'" in text
        state = re.search(r"#!(http://127\.0\.0\.1\S+/state\.json)", text)
        assert state is not None
        with urllib.request.urlopen(state[1]) as answer:
            names = [layer["name"] for layer in json.loads(answer.read())["layers"]]
        assert names == ["em", "affinity", "segmentation"]
    finally:
        assert end(process) == 0


def test_volumes_are_shown_without_a_run(run: Path) -> None:
    process, lines = start(run / "em", f"precomputed://{run}/segmentation")
    try:
        assert [line.split()[:2] for line in lines[:2]] == [
            ["em", "image"],
            ["segmentation", "segmentation"],
        ]
        for line in lines[:2]:
            source = line.split()[-1].removeprefix("precomputed://")
            with urllib.request.urlopen(source + "info") as answer:
                assert json.loads(answer.read())["scales"]
        assert not any("scores" in line for line in lines)
    finally:
        assert end(process) == 0


def test_a_folder_without_a_run_or_volume_is_refused(volflow: Call, tmp_path: Path) -> None:
    result = volflow("view", tmp_path, "--no-open")
    assert result.exit_code == 2
    assert f"{tmp_path} holds no run, nor a volume" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "{run}/em"], "holds a run; expected volumes, or one run alone"),
        (["{run}", "--kind", "em=image"], "--kind applies to volumes"),
        (["{run}/em", "--kind", "em=labels"], "expected LAYER=KIND with one of the kinds image"),
        (["{run}/em", "--kind", "x=image"], "expected one of the layers em, got 'x'"),
        (["{run}/em", "--segments", "3"], "expected a segmentation of this scene"),
        (["{run}", "--segments", "em=3"], "expected a segmentation of this scene, got 'em'"),
        ([], "Missing argument"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    volflow: Call, run: Path, arguments: list[str], message: str
) -> None:
    result = volflow("view", *(text.format(run=run) for text in arguments), "--no-open")
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


@pytest.mark.parametrize("size", ["12", "10x10", "ax900", "1400x90000"])
def test_a_size_that_is_none_is_reported(volflow: Call, run: Path, size: str) -> None:
    actual = volflow("view", run, "--screenshot", "shot.png", "--size", size)
    assert actual.exit_code == 2
    assert "expected" in actual.output


def test_what_a_screenshot_lacks_is_reported_before_anything(
    volflow: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    actual = volflow("view", run, "--screenshot", tmp_path / "shot.png")
    assert actual.exit_code == 2
    assert "a browser (chromium" in actual.output
    assert not (tmp_path / "shot.png").exists()


@pytest.mark.parametrize(
    ("name", "reported"), [("shot.jpg", "ends in .png"), ("none/shot.png", "there is no folder")]
)
def test_a_file_that_cannot_be_written_is_reported(
    volflow: Call,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    reported: str,
) -> None:
    monkeypatch.setattr(viewer, "missing_browser", lambda: "")
    actual = volflow("view", run, "--screenshot", tmp_path / name)
    assert actual.exit_code == 2
    assert reported in actual.output


@pytest.mark.browser
@pytest.mark.skipif(bool(missing_browser()), reason=f"needs {missing_browser()}")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_screenshot_is_written_in_its_size(volflow: Call, run: Path, tmp_path: Path) -> None:
    actual = volflow("view", run, "--screenshot", tmp_path / "shot.png", "--size", "640x480")
    assert actual.exit_code == 0, actual.output
    assert "browser error" not in actual.output
    assert imagecodecs.png_decode((tmp_path / "shot.png").read_bytes()).shape[:2] == (480, 640)
