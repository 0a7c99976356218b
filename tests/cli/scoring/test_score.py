"""`volflow score` and what it leaves behind."""

from __future__ import annotations

import csv
import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.cli.conftest import Call
from tests.cli.scoring import scored
from tests.cli.scoring.scored import (
    BOX,
    LEFT,
    MERGED,
    REST,
    RIGHT,
    addresses,
    options,
    skeletons,
    written,
)
from tests.cli.test_view import end, start
from volflow import run
from volflow.core.geometry import Box
from volflow.core.skeleton import Skeleton
from volflow.io.skeletons.sets import write_skeletons
from volflow.metrics.voxels.contingency import contingency, scores
from volflow.view.report.score.document import errors_of, find_document

THRESHOLDS = [0.2, 0.5, 0.8]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume segmented at three thresholds; `relabel` paints the middle one."""
    folder = tmp_path_factory.mktemp("swept")
    bounds, step = "0:32,0:64,0:64", {"use": "synth", "out": {"truth": "exact"}}
    created = {"run": str(folder / "synth"), "bounds": bounds, "resolution": [10, 10, 10]}
    assert run({**created, "steps": [step]}).ok
    overrides = [
        f"run={folder}/run", f"volumes.affinity.path=precomputed://{folder}/synth/affinity",
        f"steps.agglomerate.threshold={THRESHOLDS}", "steps.agglomerate.min_size=0",
        "steps.relabel.threshold=0.5", "block=[32,32,32]",
    ]  # fmt: skip
    assert run("segment", overrides=overrides).ok
    return folder


def of_sweep(folder: Path) -> list[str]:
    return [
        "--segmentation", f"precomputed://{folder}/run/segmentation",
        "--truth", f"precomputed://{folder}/synth/exact", "--sweep", f"{folder}/run",
    ]  # fmt: skip


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    return addresses(tmp_path)


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_everything_is_left_behind(volflow: Call, places: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "report"
    more = ["--skeletons", skeletons(tmp_path), "--objects", "--out", out]
    result = volflow("score", *options(places), *more)
    assert result.exit_code == 0, result.output
    arrays = scored.arrays()
    wanted = scores(contingency(arrays["truth"], arrays["segmentation"]))
    document = json.loads((out / "scores.json").read_text())
    reported = document["results"]["score"]
    assert {name: reported[name] for name in wanted} == wanted
    assert document["results"]["score_skeletons"]["splits"] == 1
    assert document["bounds"] == str(BOX)
    assert document["resolution"] == [40, 8, 8]

    numbers = {(row["step"], row["metric"]): row["value"] for row in rows(out / "scores.csv")}
    assert float(numbers["score", "vi"]) == wanted["vi"]
    assert numbers["score", "true_positives at IoU 0.5"] == str(
        reported["objects"]["true_positives"][0]
    )
    assert float(numbers["score_skeletons", "erl"]) == document["results"]["score_skeletons"]["erl"]
    assert f"| {wanted['vi']:.4f} bits |" in (out / "report.md").read_text()
    page = (out / "report.html").read_text()
    assert f"{wanted['vi']:.4f}" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)  # it loads nothing, and runs nothing
    assert "<script" not in page


def test_a_sweep_scores_each_threshold_as_a_run_of_its_own(
    volflow: Call, swept: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    x = np.arange(4, 60, 4)
    place = np.stack([np.full(len(x), 16), np.full(len(x), 30), x], axis=1) * 10.0
    line = Skeleton(1, place, np.arange(len(x)) - 1, np.full(len(x), 20.0))
    write_skeletons(f"swc://{tmp_path}/swc", [line])
    command = ["score", *of_sweep(swept), "--skeletons", f"swc://{tmp_path}/swc", "--out", out]
    for _ in range(2):  # the second time the steps are there
        result = volflow(*command)
        assert result.exit_code == 0, result.output
    table = rows(out / "curves.csv")
    results = json.loads((out / "scores.json").read_text())["results"]
    assert [float(row["threshold"]) for row in table] == THRESHOLDS
    painted = table[1]  # at 0.5, which is what --segmentation holds
    assert float(painted["vi"]) == results["score"]["vi"]
    assert float(painted["erl"]) == results["score_skeletons"]["erl"]
    best = min(table, key=lambda row: float(row["vi"]))
    assert [row["threshold"] for row in table if row["best"] == "1"] == [best["threshold"]]
    assert len({row["vi"] for row in table}) == 3
    for name in ("vi.png", "erl.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert (out / "report.html").read_text().count("data:image/png;base64") == 2
    text = (out / "report.md").read_text()
    assert "![vi.png](vi.png)" in text
    assert f"Best: {best['threshold']}, VI" in text
    again = volflow("retry", swept / "run")  # the run is as good as before, its new steps included
    assert again.exit_code == 0, again.output
    assert "scored_sweep" in again.output


def test_a_sweep_of_what_cannot_be_swept_is_reported(
    volflow: Call, swept: Path, places: dict[str, str], tmp_path: Path
) -> None:
    small = volflow("score", *options(places), "--sweep", swept / "run")
    assert small.exit_code == 2
    assert f"--sweep {swept / 'run'}: " in small.stderr
    assert "extend beyond volume 'scored_truth'" in small.stderr
    one = tmp_path / "one"
    affinity = f"volumes.affinity.path=precomputed://{swept}/synth/affinity"
    assert run("segment", overrides=[f"run={one}", affinity]).ok
    result = volflow("score", *of_sweep(swept)[:4], "--sweep", one)
    assert result.exit_code == 2
    assert "table: expected segments at several thresholds, got those at one" in result.stderr
    assert "scored_" not in (one / "pipeline.yaml").read_text()


def test_a_sweep_of_the_runs_own_is_of_its_own_truth(
    volflow: Call, swept: Path, places: dict[str, str], tmp_path: Path
) -> None:
    own = tmp_path / "own"
    file = tmp_path / "own.yaml"
    steps = [
        {"use": "fragments"},
        {"use": "agglomerate", "with": {"threshold": THRESHOLDS, "min_size": 0}},
        {"use": "sweep"},
    ]
    volumes = {
        "affinity": {"path": f"precomputed://{swept}/synth/affinity"},
        "truth": {"path": f"precomputed://{swept}/synth/exact"},
    }
    file.write_text(json.dumps({"run": str(own), "volumes": volumes, "steps": steps}))
    assert volflow("run", file).exit_code == 0
    result = volflow("score", *of_sweep(swept)[:4], "--sweep", own)
    assert result.exit_code == 0, result.output
    assert "of 3: VI" in result.stdout
    assert "scored_" not in (own / "pipeline.yaml").read_text()
    other = volflow("score", *options(places), "--sweep", own)
    assert other.exit_code == 2
    assert "its own step 'sweep' is scored against" in other.stderr


def test_offenders_are_those_that_were_made(
    volflow: Call, places: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "report"
    more = ["--skeletons", skeletons(tmp_path), "--out", out]
    assert volflow("score", *options(places), *more).exit_code == 0
    result = rows(out / "offenders.csv")
    arrays = scored.arrays()
    reported = [(r["kind"], int(r["segment"]), r["truth"] or r["skeleton"]) for r in result]
    assert reported == [
        ("merger", MERGED, "1"),
        ("merger", MERGED, "2"),
        ("split", LEFT, "3"),
        ("split", RIGHT, "3"),
        ("skeleton merger", MERGED, "1"),
        ("skeleton merger", MERGED, "2"),
        ("skeleton split", LEFT, "3"),
        ("skeleton split", RIGHT, "3"),
    ]
    for row in result:  # each part is placed on a voxel of its own
        place = tuple(int(float(row[axis])) - a for axis, a in zip("zyx", BOX.start, strict=True))
        if row["part_unit"] == "voxels":
            assert arrays["segmentation"][place] == int(row["segment"])
            assert arrays["truth"][place] == int(row["truth"])
        nm = [float(row[f"{axis}_nm"]) for axis in "zyx"]
        sides = scored.RESOLUTION
        assert nm == [float(row[a]) * s for a, s in zip("zyx", sides, strict=True)]
    document = find_document(str(out))
    assert document is not None
    merger, split, _, skeleton_split = errors_of(document)
    assert merger.place[1] == 8  # the first line of object 2, which object 1 comes closest to
    assert split.place[2] == 40
    assert skeleton_split.place[2] == 38  # the middle of the edge from 36 to 40
    assert REST not in {
        label for each in errors_of(document) for label in each.ids()["segmentation"]
    }


def test_the_same_report_whatever_the_blocks(
    volflow: Call, places: dict[str, str], tmp_path: Path
) -> None:
    result = set()
    for number, block in enumerate(("[256,256,256]", "[16,16,16]", "[5,31,7]")):
        out = tmp_path / f"report{number}"
        command = ["score", *options(places), "--skeletons", skeletons(tmp_path), "--objects"]
        assert volflow(*command, "--set", f"block={block}", "--out", out).exit_code == 0
        result.add((out / "scores.json").read_bytes())
    assert len(result) == 1


def test_json_has_the_scores_of_labels_on_top(
    volflow: Call, places: dict[str, str], tmp_path: Path
) -> None:
    traced = skeletons(tmp_path)
    result = volflow("score", *options(places), "--skeletons", traced, "--json")
    reported = json.loads(result.stdout)
    alone = volflow("score", "--segmentation", places["segmentation"], "--skeletons", traced)
    assert reported["vi"] > 0
    assert f"{reported['score_skeletons']['erl']:,.0f} nm" in alone.stdout
    assert "VI" not in alone.stdout


@pytest.mark.parametrize(
    ("limits", "unmet"),
    [
        (["vi<=2", "arand>=0.01"], []),
        (["vi<=0.1", "arand<=0.01", "recall>=0.1"], ["vi is", "arand is"]),
        (["erl>=1", "erl_ratio>=0.99"], ["erl_ratio is"]),
    ],
)
def test_a_limit_that_is_not_met_ends_with_5(
    volflow: Call, places: dict[str, str], tmp_path: Path, limits: list[str], unmet: list[str]
) -> None:
    asked = [text for limit in limits for text in ("--require", limit)]
    out = tmp_path / "report"
    more = ["--skeletons", skeletons(tmp_path), "--out", out]
    result = volflow("score", *options(places), *more, *asked)
    assert result.exit_code == (5 if unmet else 0), result.output
    reported = [line for line in result.stderr.splitlines() if line.startswith("not met")]
    assert len(reported) == len(unmet)
    for line, text in zip(reported, unmet, strict=True):
        assert text in line
    assert len(json.loads((out / "scores.json").read_text())["unmet"]) == len(unmet)
    assert ("Not met" in (out / "report.html").read_text()) == bool(unmet)


def test_a_limit_in_a_pipeline_ends_run_and_retry_with_5(
    volflow: Call, places: dict[str, str], tmp_path: Path
) -> None:
    step: dict[str, Any] = {"use": "score", "with": {"require": {"vi": {"max": 0.01}}}}
    volumes = {name: {"path": path} for name, path in places.items() if name != "em"}
    document = {"run": str(tmp_path / "run"), "volumes": volumes, "steps": [step]}
    file = tmp_path / "pipeline.yaml"
    file.write_text(json.dumps(document))  # JSON is YAML
    for command in (["run", file], ["retry", tmp_path / "run"]):
        result = volflow(*command)
        assert result.exit_code == 5, result.output
        assert "not met: step 'score': vi is" in result.stderr
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["unmet"] == [
        line.removeprefix("not met: ") for line in result.stderr.splitlines() if "not met" in line
    ]
    assert "requirements are not met" in (tmp_path / "run/report.html").read_text()
    again = volflow("run", file, "--set", "steps.score.require={vi: {max: 9}}")
    assert again.exit_code == 0, again.output


# --- problems are reported before anything runs --------------------------------------------------


def test_all_mistakes_are_reported_at_once(
    volflow: Call, places: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    result = volflow(
        "score", *options(places), "--mito", places["truth"], "--require", "vii<=1",
        "--require", "erl>=5", "--require", "vi<1", "--require", "vi<=nan",
        "--sweep", tmp_path / "nowhere", "--out", tmp_path / "file" / "report",
    )  # fmt: skip
    assert result.exit_code == 2
    reported = result.stderr
    assert "7 problems; nothing was started" in reported
    assert "--mito needs --skeletons" in reported
    assert "there is no metric 'vii'; did you mean 'vi'?" in reported
    assert "'erl' needs --skeletons" in reported
    assert reported.count("expected METRIC<=NUMBER or METRIC>=NUMBER") == 2
    assert "nowhere holds no run" in reported
    assert f"{tmp_path / 'file'} is a file; expected a folder" in reported


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        ([], "give --truth, --skeletons or both"),
        (["--skeletons", "SWC", "--objects"], "--objects needs --truth"),
        (["--skeletons", "SWC", "--border", "2"], "--border needs --truth"),
        (["--truth", "/nowhere"], "--truth /nowhere: cannot be opened"),
        (["--truth", "SWC"], "expected a volume, got skeletons"),
        (["--skeletons", "swc://nowhere"], "cannot be opened"),
    ],
)
def test_what_does_not_go_together_is_reported(
    volflow: Call, places: dict[str, str], tmp_path: Path, arguments: list[str], reported: str
) -> None:
    swc = skeletons(tmp_path)
    chosen = [swc if text == "SWC" else text for text in arguments]
    result = volflow("score", "--segmentation", places["segmentation"], *chosen)
    assert result.exit_code == 2, result.output
    assert reported in result.stderr


def test_resolutions_that_differ_are_both_named(
    volflow: Call, places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scored, "RESOLUTION", (40.0, 16.0, 16.0))
    other = written(f"precomputed://{tmp_path}/other", scored.arrays()["truth"])
    result = volflow("score", "--segmentation", places["segmentation"], "--truth", other)
    assert result.exit_code == 2
    assert "voxels of 40, 8, 8 nm (z, y, x)" in result.stderr
    assert "of 40, 16, 16 nm (z, y, x)" in result.stderr
    assert result.stderr.count("nm") == 2  # printed once


def test_shapes_that_differ_are_both_named_where_no_one_knows_how_they_lie(
    volflow: Call, places: dict[str, str], tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "truth.h5", "w") as file:
        file["labels"] = np.ones((16, 30, 48), "uint64")
    truth = f"hdf5://{tmp_path}/truth.h5?dataset=labels"
    command = ["score", "--segmentation", places["segmentation"], "--truth", truth]
    result = volflow(*command)
    assert result.exit_code == 2
    assert "has 16 x 32 x 48 voxels" in result.stderr
    assert "16 x 30 x 48" in result.stderr
    known = volflow(*command, "--set", "volumes.truth.offset=[8,0,16]", "--json")
    assert known.exit_code == 0, known.output
    assert json.loads(known.stdout)["voxels"] == 16 * 30 * 48


def test_another_run_is_not_overwritten(
    volflow: Call, places: dict[str, str], toy: Any, tmp_path: Path
) -> None:
    assert volflow("run", toy()).exit_code == 0
    before = (tmp_path / "run/pipeline.yaml").read_text()
    result = volflow("score", *options(places), "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "holds another run (its steps: index, double)" in result.stderr
    assert (tmp_path / "run/pipeline.yaml").read_text() == before


def test_an_empty_truth_leaves_no_report(
    volflow: Call, places: dict[str, str], tmp_path: Path
) -> None:
    empty = written(f"precomputed://{tmp_path}/empty", np.zeros(BOX.shape, "uint64"))
    out = tmp_path / "report"
    places["truth"] = empty
    result = volflow("score", *options(places), "--out", out)
    assert result.exit_code == 2
    assert "nothing to score" in result.stderr
    assert not (out / "scores.json").exists()


def test_what_an_earlier_report_had_more_is_gone(
    volflow: Call, swept: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    command = ["score", *of_sweep(swept), "--out", out]
    assert volflow(*command).exit_code == 0
    assert (out / "vi.png").exists()
    command.remove("--sweep")
    command.remove(f"{swept}/run")
    assert volflow(*command).exit_code == 0
    assert not {"vi.png", "erl.png", "curves.csv"} & {path.name for path in out.iterdir()}


# --- and looked at --------------------------------------------------------------------------------


@pytest.fixture
def report(volflow: Call, places: dict[str, str], tmp_path: Path) -> Path:
    out = tmp_path / "report"
    assert volflow("score", *options(places), "--out", out).exit_code == 0
    return out


def test_the_page_is_served_with_a_link_to_each_error(report: Path) -> None:
    process, lines = start(report)
    try:
        page = next(line.split()[-1] for line in lines if "a link to each error" in line)
        with urllib.request.urlopen(page) as answer:
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            text = answer.read().decode()
        links = re.findall(r'href="([^"]+)"', text)
        assert len(set(links)) == 6  # two errors, and two parts of each
        for link in set(links):
            with urllib.request.urlopen(link) as answer:
                assert b"neuroglancer" in answer.read().lower()
    finally:
        assert end(process) == 0


def test_without_neuroglancer_the_links_lead_to_another_one(report: Path) -> None:
    process, lines = start(report, without="neuroglancer")
    try:
        page = next(line.split()[-1] for line in lines if "a link to each error" in line)
        with urllib.request.urlopen(page) as answer:
            links = re.findall(r'href="([^"]+)"', answer.read().decode())
        state = re.search(r"#!(http://127\.0\.0\.1\S+/merger-1\.json)", links[0])
        assert state is not None
        with urllib.request.urlopen(state[1]) as answer:
            layers = {layer["name"]: layer for layer in json.loads(answer.read())["layers"]}
        assert layers["segmentation"]["segments"] == [str(MERGED)]
        assert layers["truth"]["segments"] == ["1", "2"]
    finally:
        assert end(process) == 0


@pytest.mark.parametrize(
    ("options", "reported"),
    [
        (["--at", "1,2"], "expected Z,Y,X in voxels"),
        (["--segments", "truth=a"], "expected ID,ID,... or LAYER=ID,ID,..."),
        (["--segments", "nothing=1"], "expected a segmentation of this scene, got 'nothing'"),
    ],
)
def test_a_place_that_is_none_is_reported(
    volflow: Call, report: Path, options: list[str], reported: str
) -> None:
    result = volflow("view", report, "--no-open", *options)
    assert result.exit_code == 2
    assert reported in result.output


def test_the_part_of_a_volume_is_reported(volflow: Call, tmp_path: Path) -> None:
    places = addresses(tmp_path)
    part = Box((8, 0, 16), (16, 32, 64))
    places["truth"] = written(f"precomputed://{tmp_path}/part", scored.arrays()["truth"][:8], part)
    result = volflow("score", *options(places))
    assert f"scored where the volumes overlap: {part} (segmentation has {BOX})" in result.stderr
