from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.engine.runs import wait_for
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.io.run.lock import RunLock
from volflow.io.volume import Volume

POISON = [[1, 0, 2], [3, 2, 3]]
ROOT = Path(__file__).parents[2]


def layer(address: object) -> Volume:
    return Volume.open(VolumeSpec(path=f"precomputed://{address}"), own=True)


def numbers(status: str) -> dict[str, list[int]]:
    """Blocks, done, failed, running, blocked and left by step, as `status` prints them."""
    rows = re.findall(r"^(\w+)" + 6 * r" +(\d+)" + " ", status, re.MULTILINE)
    actual = {row[0]: [int(cell) for cell in row[1:]] for row in rows}
    assert actual
    assert all(total == sum(parts) for total, *parts in actual.values())
    return actual


def test_a_run_that_is_done_ends_with_0_and_is_not_done_again(volflow, toy, tmp_path):
    pipeline = toy()
    first = volflow("run", pipeline)
    assert first.exit_code == 0
    assert "done: 96 blocks\n" in first.output
    assert "\x1b" not in first.output
    again = volflow("run", pipeline)
    assert again.exit_code == 0
    assert "done: 96 blocks, 96 of them done before" in again.output
    index, double = layer(tmp_path / "run/index"), layer(tmp_path / "run/double")
    assert index.read(index.bounds).min() > 0
    np.testing.assert_array_equal(double.read(index.bounds), 2 * index.read(index.bounds))


def test_lines_of_a_log_add_up(volflow, toy):
    result = volflow("run", toy({"raises": POISON}, "Poison"))
    assert "index: 48 blocks\n" in result.output
    assert "46 done, 2 failed, 0 left of 48 blocks" in result.output
    assert result.output.count("of phase map failed: ArithmeticError") == 2


def test_failed_blocks_are_named_with_the_command_that_reruns_them(volflow, toy, tmp_path):
    cure = tmp_path / "cure"
    result = volflow("run", toy({"raises": POISON, "cured_by": str(cure)}, "Poison"))
    assert result.exit_code == 3
    assert "2 blocks failed" in result.stderr
    assert "step index, phase map, block 1 0 2: exception" in result.stderr
    assert "ArithmeticError: block (1, 0, 2) is poison" in result.stderr
    assert "raise ArithmeticError" in result.stderr
    assert "not started: double" in result.stderr
    assert not (tmp_path / "run/ledger/double").exists()

    commands = re.findall(r"run it alone: +volflow (.*)", result.stderr)
    assert len(commands) == 2
    alone = volflow(*shlex.split(commands[0]))
    assert alone.exit_code == 3
    assert "Traceback (most recent call last)" in alone.stderr
    assert "ArithmeticError: block (1, 0, 2) is poison" in alone.stderr

    cure.touch()
    assert volflow(*shlex.split(commands[0])).exit_code == 0
    state = volflow("status", tmp_path / "run")
    assert numbers(state.output) == {"index": [48, 47, 1, 0, 0, 0], "double": [48, 0, 0, 0, 48, 0]}


def test_retry_does_what_is_left_with_the_pipeline_of_the_run(volflow, toy, tmp_path):
    cure = tmp_path / "cure"
    pipeline = toy({"raises": POISON, "cured_by": str(cure)}, "Poison")
    assert volflow("run", pipeline, "--set", "steps.double.times=3").exit_code == 3
    state = volflow("status", tmp_path / "run")
    assert state.exit_code == 0
    assert numbers(state.output) == {"index": [48, 46, 2, 0, 0, 0], "double": [48, 0, 0, 0, 48, 0]}
    assert "block 3 2 3: exception" in state.output
    assert f"resume with: volflow retry {tmp_path}/run" in state.output

    pipeline.unlink()
    cure.touch()
    only = volflow("retry", tmp_path / "run", "--step", "index")
    assert only.exit_code == 0
    assert "done: 48 blocks, 46 of them done before" in only.output
    rest = volflow("retry", tmp_path / "run")
    assert "done: 96 blocks, 48 of them done before" in rest.output
    state = volflow("status", tmp_path / "run")
    assert numbers(state.output) == {"index": [48, 48, 0, 0, 0, 0], "double": [48, 48, 0, 0, 0, 0]}
    assert "resume" not in state.output
    index, double = layer(tmp_path / "run/index"), layer(tmp_path / "run/double")
    np.testing.assert_array_equal(double.read(index.bounds), 3 * index.read(index.bounds))


def test_a_run_in_which_nothing_is_finished_is_ended_with_6_where_that_is_asked_for(
    volflow, toy, tmp_path, monkeypatch
):
    monkeypatch.setattr("volflow.engine.monitor.watchdog.CHECK_EVERY", 0.05)
    cure = tmp_path / "cure"
    pipeline = toy({"hangs": [[1, 0, 0]], "cured_by": str(cure)}, "Poison")
    for verb, what in (("run", pipeline), ("retry", tmp_path / "run")):
        ended = volflow(verb, what, "--stall", 1, "--on-stall", "end")
        assert ended.exit_code == 6
        assert "step 'index': stalled; no block finished within" in ended.stderr
    cure.touch()
    assert volflow("retry", tmp_path / "run", "--stall", 0).exit_code == 0


def test_all_mistakes_are_reported_and_nothing_is_started(volflow, toy, tmp_path):
    pipeline = toy({"second": 1}, blok=[8, 8, 8])
    result = volflow("run", pipeline, "--set", "volumes.em.pth=x")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert re.fullmatch(r"volflow: \d problems; nothing was started", lines[0])
    actual = {"blok": f"{pipeline}:", "second": f"{pipeline}:", "pth": "--set volumes.em.pth"}
    for word, place in actual.items():
        (line,) = (line for line in lines if f"'{word}'" in line)
        assert place in line
    assert "Traceback" not in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "segmnt"], "did you mean 'segment'"),
        (["run", "no/such.yaml"], "there is no pipeline at no/such.yaml"),
        (["run", "TOY", "--cluster", "lcal"], "did you mean 'local'"),
        (["run", "TOY", "--only", "indx"], "did you mean 'index'"),
        (["run", "TOY", "--bounds", "0:1"], "z0:z1,y0:y1,x0:x1"),
        (["run", "TOY", "--from", "double"], "step 'index' has to be run first"),
        (["run", "TOY", "--workers", "0"], "--workers"),
        (["run", "TOY", "--stall", "-1"], "--stall"),
        (["retry", "TMP/none", "--on-stall", "bark"], "'report', 'restart', 'end'"),
        (["status", "TMP/none"], "holds no run"),
        (["retry", "TMP/none"], "holds no run"),
        (["block", "TOY", "idx", "0", "0", "0"], "there is no step 'idx'"),
        (["block", "TOY", "index", "9", "0", "0"], "outside the grid"),
        (["block", "TOY", "index", "0", "0", "0", "--phase", "up"], "has no phase 'up'"),
    ],
)
def test_what_cannot_be_done_as_written_ends_with_2(volflow, toy, tmp_path, arguments, message):
    places = {"TOY": str(toy()), "TMP": str(tmp_path)}
    for short, full in places.items():
        arguments = [argument.replace(short, full) for argument in arguments]
    result = volflow(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_a_run_that_another_driver_holds_ends_with_4(volflow, toy, tmp_path):
    pipeline = toy()
    with RunLock(str(tmp_path / "run")):
        result = volflow("run", pipeline)
        assert "held by process" in volflow("run", pipeline).stderr
    assert result.exit_code == 4
    assert str(os.getpid()) in result.stderr
    assert volflow("run", pipeline).exit_code == 0


def test_a_bug_of_ours_shows_its_traceback_and_ends_with_1(volflow, toy, monkeypatch):
    def broken(*_args, **_options):
        raise RuntimeError("seventeen")

    monkeypatch.setattr("volflow.engine.api.execute", broken)
    result = volflow("run", toy())
    assert result.exit_code == 1
    assert "RuntimeError: seventeen" in result.stderr
    assert "please report" in result.stderr


def test_set_and_bounds_take_the_place_of_what_the_file_says(volflow, toy, tmp_path):
    pipeline = toy()
    changes = ["--set", f"run={tmp_path}/other", "--set", "steps.double.times=5"]
    result = volflow("run", pipeline, *changes, "--bounds", "8:16,0:24,0:32")
    assert "done: 24 blocks" in result.output
    assert not (tmp_path / "run").exists()
    index, double = layer(tmp_path / "other/index"), layer(tmp_path / "other/double")
    assert double.bounds == Box((8, 0, 0), (16, 24, 32))
    np.testing.assert_array_equal(double.read(index.bounds), 5 * index.read(index.bounds))


def test_until_and_only_choose_steps(volflow, toy, tmp_path):
    pipeline = toy()
    assert "done: 48 blocks\n" in volflow("run", pipeline, "--until", "index").output
    assert not (tmp_path / "run/ledger/double").exists()
    assert "done: 48 blocks\n" in volflow("run", pipeline, "--only", "double").output


def test_a_plan_writes_nothing_and_its_numbers_add_up(volflow, toy, tmp_path):
    result = volflow("plan", toy(volumes={"double": {"path": f"zarr://{tmp_path}/d.zarr"}}))
    assert result.exit_code == 0
    rows = dict(re.findall(r"^(index|double) +8x8x8 +1 +(\d+) ", result.output, re.MULTILINE))
    assert rows == {"index": "48", "double": "48"}
    assert "96 blocks" in result.output
    assert f"zarr://{tmp_path}/d.zarr" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy.yaml"]


@pytest.mark.cluster
def test_a_local_cluster_tells_its_dashboard(volflow, toy, tmp_path):
    profile = tmp_path / "mine.yaml"
    profile.write_text("cluster: local\nworkers: 1\ntimeout: 60\n")
    result = volflow("run", toy(), "--cluster", profile)
    assert result.exit_code == 0, result.output
    assert re.search(r"dashboard http://127.0.0.1:\d+", result.output)
    assert "done: 96 blocks\n" in result.output


@pytest.mark.parametrize("cluster", ["none", pytest.param("local", marks=pytest.mark.cluster)])
def test_control_c_ends_with_130_and_what_is_done_stays_done(volflow, toy, tmp_path, cluster):
    held = tmp_path / "held"
    held.touch()
    pipeline = toy({"held_by": str(held)})
    command = [sys.executable, "-m", "volflow", "run", str(pipeline), "--cluster", cluster]
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        ledger = tmp_path / "run/ledger"
        try:
            wait_for(lambda: any(ledger.rglob("done/*")) or process.poll() is not None)
        finally:
            os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process
            _, stderr = process.communicate(timeout=120)
    held.unlink()
    assert process.returncode == 130
    assert f"resume with: volflow retry {tmp_path}/run" in stderr
    assert "Traceback" not in stderr, stderr
    state = numbers(volflow("status", tmp_path / "run").output)["index"]
    blocks, done, failed, running, blocked, left = state
    assert done > 0
    assert (failed, running, blocked) == (0, 0, 0)
    assert done + left == blocks
    rest = volflow("retry", tmp_path / "run")
    assert f"done: 96 blocks, {done} of them done before" in rest.output


OWN_STAGE = """
from pathlib import Path
import numpy as np
from volflow.core.stage import Layer, Stage


class Own(Stage):
    cure: str

    @property
    def outputs(self):
        return {"own": Layer("uint8", 0, "image")}

    def run(self, block):
        if not Path(self.cure).exists():
            raise ArithmeticError("not yet")
        return {"own": np.full(block.write.shape, 7, "uint8")}
"""


@pytest.mark.cluster
def test_stages_next_to_the_pipeline_file_are_found_by_retry_from_elsewhere(toy, tmp_path):
    elsewhere, cure = tmp_path / "elsewhere", tmp_path / "cure"
    elsewhere.mkdir()
    (tmp_path / "own_stages.py").write_text(OWN_STAGE)
    pipeline = toy(steps=[{"use": "own_stages:Own", "with": {"cure": str(cure)}}])

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "volflow", *map(str, arguments)]
        return subprocess.run(command, cwd=elsewhere, capture_output=True, text=True)

    failed = call("run", pipeline)
    assert failed.returncode == 3, failed.stderr
    pipeline.unlink()
    cure.touch()
    result = call("retry", tmp_path / "run", "--cluster", "local", "--workers", 1)
    assert result.returncode == 0, result.stderr
    own = layer(tmp_path / "run/own")
    assert (own.read(own.bounds) == 7).all()
