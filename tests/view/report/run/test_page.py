"""The page and the summary that a run leaves."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.view.paint import BOUNDS, expected, painted
from volflow.engine.invalidate import invalidate
from volflow.view.report.run import page as report
from volflow.view.report.score.metrics import METRICS

FAILING = {"use": "tests.view.paint:Fails", "name": "fails"}


class Cells(HTMLParser):
    """The rows of all tables as lists of text, and what the page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        self._cell = tag in ("td", "th", "code") and bool(self.rows)
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self._cell and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def page(folder: Path) -> Cells:
    return Cells((folder / "report.html").read_text())


def test_the_page_shows_the_numbers_of_the_result(tmp_path: Path) -> None:
    score = {"use": "score", "in": {"truth": "segmentation"}}
    result = painted(tmp_path / "run", score)
    assert result.ok
    cells = page(tmp_path / "run")
    for step in result.steps:
        row = next(row for row in cells.rows if row[0] == step.name and len(row) == 10)
        assert [number(n) for n in row[1:6]] == [step.total, step.done, step.already, 0, step.left]
        assert float(row[6]) == pytest.approx(step.seconds, abs=0.005)
        assert float(row[7]) == pytest.approx(step.seconds, abs=0.05)
        assert number(row[8] or "0") == step.voxels
        speed = step.voxels / max(step.seconds, float(row[7])) / 1e6
        assert float(row[9]) == pytest.approx(speed, rel=0.1, abs=0.01)
    scores = {row[0]: row for row in cells.rows if len(row) == 4}
    values = {n: v for n, v in result.results["score"].items() if not isinstance(v, dict)}
    assert len(values) > 5
    for name, value in values.items():
        label, unit, meaning = METRICS[name]
        row = scores[label]
        assert number(row[1].removesuffix(unit)) == pytest.approx(value, abs=5e-5)
        assert row[2:] == [meaning, "score"]
        assert meaning.endswith(".")
    assert result.results["score"]["voxels"] > 0
    facts = {row[0]: row[1] for row in cells.rows if len(row) == 2}
    assert facts["bounds"].startswith(str(BOUNDS))


def number(text: str) -> float:
    return float(text.replace(",", ""))


def test_the_page_begins_with_the_results(tmp_path: Path) -> None:
    score = {"use": "score", "in": {"truth": "segmentation"}}
    assert painted(tmp_path / "run", score).ok
    text = (tmp_path / "run" / "report.html").read_text()
    segments = len(np.unique(expected()["segmentation"])) - 1
    order = [f"{segments} segments", "0.0000 bits", "<img", "<h2>Run</h2>", "<h2>Steps</h2>"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "µm³" in text


def test_the_summary_is_the_result_in_json(tmp_path: Path) -> None:
    result = painted(tmp_path / "run", {"use": "score", "in": {"truth": "segmentation"}})
    reported = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (reported["ok"], reported["interrupted"], reported["failures"]) == (True, False, [])
    assert reported["results"] == result.results
    for step, actual in zip(result.steps, reported["steps"], strict=True):
        assert actual == {
            "name": step.name, "total": step.total, "done": step.done, "already": step.already,
            "failed": 0, "left": step.left, "seconds": step.seconds, "voxels": step.voxels,
            "all_seconds": actual["all_seconds"], "extent": step.extent,
        }  # fmt: skip
        assert actual["all_seconds"] >= step.seconds
    segments = len(np.unique(expected()["segmentation"])) - 1
    assert reported["segments"]["number"] == result.segments["number"] == segments


def test_the_page_needs_nothing_else_and_runs_nothing(run: Path) -> None:
    cells = page(run)
    assert cells.loads
    assert all(load.startswith("data:image/png;base64,") for load in cells.loads)
    assert not cells.tags & {"script", "link", "iframe", "object"}


def test_failed_blocks_are_listed_and_nothing_of_them_is_markup(tmp_path: Path) -> None:
    result = painted(tmp_path / "run", FAILING)
    assert not result.ok
    text = (tmp_path / "run" / "report.html").read_text()
    assert "<b>no</b>" not in text
    cells = page(tmp_path / "run")
    failed = [row for row in cells.rows if row[:1] == ["fails"] and len(row) == 5]
    assert len(failed) == min(len(result.failures), report.SHOWN)
    first = result.failures[0]
    assert failed[0][2:4] == [" ".join(map(str, first.index)), "exception"]
    assert "<b>no</b> such luck" in failed[0][4]
    place = " ".join(map(str, first.index))
    alone = f"volflow block {tmp_path / 'run'} fails {place} --phase map"
    assert alone in html.unescape(text)
    assert re.search(rf"{len(result.failures)} blocks? failed", text)
    assert (tmp_path / "run" / "overview.png").exists()


def test_a_run_does_not_fail_for_want_of_its_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(layers: object) -> None:
        raise MemoryError("no room to draw")

    monkeypatch.setattr(report, "overview", broken)
    assert painted(tmp_path / "run").ok
    assert "no room to draw" in caplog.text
    assert (tmp_path / "run" / "report.html").exists()
    assert not (tmp_path / "run" / "overview.png").exists()


def test_a_run_does_not_fail_for_want_of_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(run: str) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(report, "run_layers", broken)
    assert painted(tmp_path / "run").ok
    assert "disk full" in caplog.text


def test_a_step_keeps_the_time_and_the_work_of_the_session_that_did_it(tmp_path: Path) -> None:
    painted(tmp_path / "run")
    again = painted(tmp_path / "run", {"use": "score", "in": {"truth": "segmentation"}})
    assert again.steps[0].already == again.steps[0].total
    cells = page(tmp_path / "run")
    row = next(row for row in cells.rows if row[0] == "paint")
    assert row[3] == row[1]
    assert float(row[7]) > 0, "the time of the first session"
    assert number(row[8]) == again.steps[0].extent, "and the work that it did"
    facts = {row[0]: row[1] for row in cells.rows if len(row) == 2}
    assert facts["time"].endswith("s in all 2 sessions")


def test_a_report_stays_where_no_block_was_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    first = painted(run)
    files = {name: (run / name).read_bytes() for name in ("report.html", "overview.png")}
    drawn: list[str] = []
    draw = report.overview
    monkeypatch.setattr(report, "overview", lambda layers: drawn.append("one") or draw(layers))

    def again(*more: dict[str, Any]) -> bool:
        """Whether another start draws the picture; it is the same, and so is what is returned."""
        drawn.clear()
        result = painted(run, *more)
        assert (result.ok, result.segments) == (True, first.segments)
        summary = json.loads((run / "summary.json").read_text())
        assert summary["segments"] == first.segments
        assert (run / "overview.png").read_bytes() == files["overview.png"]
        return bool(drawn)

    assert not again()
    assert (run / "report.html").read_bytes() == files["report.html"]
    assert json.loads((run / "summary.json").read_text())["history"]["sessions"] == 2
    for damage in ("overview.png", "report.html", "summary.json"):
        (run / damage).write_bytes(b"{" + (run / damage).read_bytes())
        assert again(), damage
        assert not again()
    assert again({"use": "score", "in": {"truth": "segmentation"}}), "other blocks were run"
    invalidate(str(run), "paint")
    assert again(), "the same blocks were run again"
    assert caplog.text == ""
