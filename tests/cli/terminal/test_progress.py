"""Progress of a run on a terminal and in a log, and the format of numbers."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from tests.engine.runs import planned, toy
from volflow.cli.terminal.board import Board
from volflow.cli.terminal.formatting import (
    count,
    duration,
    index_text,
    last_lines,
    plural,
    print_table,
    size,
    speed,
)
from volflow.cli.terminal.lines import Lines
from volflow.engine.executors.base import RunningBlock
from volflow.engine.result import Failure, StepResult


@pytest.fixture
def plan(tmp_path):
    return planned(tmp_path / "run", toy("Index"), toy("Double"), toy("Total"))


def console(terminal: bool, width: int = 130) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, highlight=False)


def shown(board: Board) -> str:
    board.console.print(board.table())
    assert isinstance(board.console.file, io.StringIO)
    text = board.console.file.getvalue()
    board.console.file.truncate(0)
    board.console.file.seek(0)
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def failure(step: str) -> Failure:
    return Failure(step, "map", (1, 2, 3), "exception", "ValueError: [bold]7\nmore", "Traceback")


def test_the_table_has_a_row_per_step_and_its_numbers_add_up(plan):
    board = Board(plan, console(terminal=True))
    first = plan.steps[0]
    result = StepResult("index", first.blocks, done=20, already=12)
    assert re.search(r"· +index +48\s", shown(board))
    board.step_begins(first, result)
    assert re.search(r"▸ +index.* 48 +20 +28 ", shown(board))
    result.done, result.voxels, result.seconds = 30, 10_000, 2.0
    result.failures.append(failure("index"))
    board.progress(first, result, "map")
    row = re.search(r"▸ +index.* 48 +30 +1 +17 .* left", shown(board))
    assert row, shown(board)
    assert "map" not in row[0], "the only pass of a step needs no name"
    board.step_ends(first, result)
    assert re.search(r"✗ +index.* 48 +30 +1 +17 +5.0 kvoxel/s +2.0 s +12 done before", shown(board))
    assert re.search(r"· +double +48\s", shown(board))


def test_the_table_names_the_pass_of_a_reduction(plan):
    board = Board(plan, console(terminal=True))
    step = plan.steps[2]
    result = StepResult("total", step.blocks, done=1)
    board.step_begins(step, result)
    board.progress(step, result, "first.up.1")
    assert "first.up.1" in shown(board)
    result.done = result.total
    board.step_ends(step, result)
    assert "✓" in shown(board)


@pytest.mark.parametrize("width", [80, 100, 130])
def test_no_number_is_cut_off(plan, width):
    board = Board(plan, console(terminal=True, width=width))
    step = plan.steps[0]
    result = StepResult("index", 123_456, 100_000, 0, 3_900.0, 2_000_000_000)
    result.failures.append(failure("index"))
    board.step_begins(step, result)
    board.step_ends(step, result)
    text = shown(board)
    for part in ("index", "123,456", "100,000", "23,455", "512.8 kvoxel/s", "1:05:00"):
        assert part in text
    assert "…" not in text


def test_a_failed_block_is_one_line_and_its_error_is_no_markup(plan):
    for observer in (Board(plan, console(True)), Lines(console(False))):
        observer.block_failed(failure("index"))
        text = observer.console.file.getvalue()
        assert "1 2 3" in text
        assert "ValueError: [bold]7" in text
        assert "more" not in text


def test_a_log_gets_a_line_now_and_then(plan):
    step = plan.steps[0]
    result = StepResult("index", step.blocks, done=10)
    often, seldom = Lines(console(False), every=0.0), Lines(console(False), every=60.0)
    for lines in (often, seldom):
        lines.step_begins(step, result)
        for _ in range(3):
            lines.progress(step, result, "map")
        lines.step_ends(step, result)
    assert often.console.file.getvalue().count("\n") == 5
    assert seldom.console.file.getvalue().count("\n") == 2
    assert "10 done, 0 failed, 38 left of 48 blocks" in often.console.file.getvalue()


def test_a_traceback_ends_with_the_error_and_has_no_underlines():
    text = "Traceback\n  File a\n    f()\n    ^^^\n  File b\n    g(1 ^ 2)\n      ~~^~~\nE: why\n"
    reported = last_lines(Failure("s", "map", (0, 0, 0), "exception", "E: why", text))
    assert reported == ["  File a", "    f()", "  File b", "    g(1 ^ 2)", "E: why"]
    assert last_lines(Failure("s", "map", (0, 0, 0), "signal", "killed")) == ["killed"]


@pytest.mark.parametrize(("total", "printed"), [(48, "48 blocks, all done before"), (0, "nothing")])
def test_a_step_that_was_done_before_is_one_line_in_a_log(plan, total, printed):
    lines = Lines(console(False))
    result = StepResult("index", total, done=total, already=total)
    lines.step_begins(plan.steps[0], result)
    lines.step_ends(plan.steps[0], result)
    text = lines.console.file.getvalue()
    assert printed in text
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.004, "4 ms"), (0.12, "0.1 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"),
     (59.6, "1:00"), (245, "4:05"), (3723, "1:02:03")],
)  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_numbers():
    assert [size(n) for n in (0, 999, 1000, 123_456, 999_700, 5e12, 2e18)] == [
        "0 bytes", "999 bytes", "1.0 kB", "123.5 kB", "999.7 kB", "5.0 TB", "2.0 EB",
    ]  # fmt: skip
    assert count(1234567) == "1,234,567"
    assert plural(1, "block") == "1 block"
    assert plural(2000, "block") == "2,000 blocks"
    assert index_text((0, 3, 2)) == "0 3 2"
    assert speed(0, 1) == speed(5, 0) == ""
    assert speed(3_400_000, 1) == "3.4 Mvoxel/s"
    assert speed(50, 1) == "50 voxel/s"


def test_a_table_in_a_log_is_aligned_and_whole():
    log = console(terminal=False, width=20)
    print_table(log, ["step", "block ", "blocks"], [["a", "8x8x8", "1"], ["bcd", "16x8x8", "12"]])
    assert log.file.getvalue().splitlines() == [
        "step  block   blocks",
        "a     8x8x8        1",
        "bcd   16x8x8      12",
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_time_in_a_queue_is_not_time_of_the_blocks(plan, monkeypatch, terminal):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    watch = (Board if terminal else Lines)(*[plan] * terminal, console(terminal))
    first = plan.steps[0]
    result = StepResult("index", first.blocks)
    watch.step_begins(first, result)
    now = 1000.0
    watch.workers_change(["cpu-0"], [])
    now = 1010.0
    result.done = 24
    watch.progress(first, result, "map")
    assert watch.pace.seconds_left(result.left) == 10
    watch.workers_change(["cpu-1"], [])  # one more, in the middle of it
    assert watch.pace.seconds_left(result.left) == 10


def test_a_block_that_takes_long_is_shown_with_its_time_and_worker(plan):
    job = plan.steps[0].jobs[0]
    blocks = [
        RunningBlock(7, 250.0, "worker-1", 1_200_000_000, 412, 1600),
        RunningBlock(8, 2.0, "worker-0"),
    ]
    text = "block 0 1 3 of index has been running 4:10 on worker-1, 412 of 1,600 parts done, "
    text += "1.2 GB of memory"
    board, lines = Board(plan, console(True)), Lines(console(False))
    board.step_begins(plan.steps[0], StepResult("index", 48))
    board.running_blocks(job, blocks)
    assert text in " ".join(shown(board).split()), "it may be wrapped"
    board.running_blocks(job, blocks[1:])
    assert "running" not in shown(board)
    for _ in range(3):
        lines.running_blocks(job, blocks)
    assert lines.console.file.getvalue() == f"{text}\n", "once, and later again"
