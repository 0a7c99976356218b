"""`volflow score --partners`: tables of synaptic partners, with and without volumes."""

from __future__ import annotations

import csv
import json
import re
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Call
from tests.cli.scoring import scored
from tests.cli.scoring.scored import BOX, RESOLUTION, addresses, options, written
from tests.cli.test_view import end, start
from volflow.core.geometry import Box
from volflow.view.report.score.document import errors_of, find_document

Pair = tuple[tuple[float, float, float], tuple[float, float, float]]
SITES = "pre_z,pre_y,pre_x,post_z,post_y,post_x"

# voxels; neurons 1 to 4 are at y 0 to 5, 8 to 13, 16 to 21 and 24 to 29
TRUE: list[Pair] = [
    ((10, 2, 20), (10, 10, 20)),  # 1 to 2
    ((12, 18, 30), (12, 26, 30)),  # 3 to 4
    ((20, 2, 50), (20, 18, 50)),  # 1 to 3
]
FOUND: list[Pair] = [
    ((20, 18, 50), (20, 2, 50)),  # the third the other way round: 128 nm off at both ends
    ((10, 2, 22), (10, 10, 22)),  # the first, 16 nm off
    ((12, 11, 30), (12, 26, 30)),  # the second, 56 nm off at one end, which is in neuron 2
    ((10, 2, 21), (30, 2, 21)),  # one end is outside
]
BY_NEURON = {"true_positives": 1, "false_positives": 2, "false_negatives": 2}
RATES = {"precision": 1 / 3, "recall": 1 / 3, "f1": 1 / 3, "mean_distance_nm": 16}


def table(path: Path, pairs: list[Pair], neurons: Sequence[tuple[int, int]] = ()) -> Path:
    """Pairs in nanometres, after two lines that are none of them."""
    rows = [SITES + (",pre_neuron,post_neuron" if neurons else ""), ""]
    for number, (pre, post) in enumerate(pairs):
        nm = [
            value * side
            for site in (pre, post)
            for value, side in zip(site, RESOLUTION, strict=True)
        ]
        rows.append(",".join(map(str, [*nm, *(neurons[number] if neurons else ())])))
    path.write_text("\n".join(rows))
    return path


@pytest.fixture
def tables(tmp_path: Path) -> list[object]:
    """Options of `volflow score` for these volumes."""
    result, true = table(tmp_path / "found.csv", FOUND), table(tmp_path / "true.csv", TRUE)
    return ["--partners", result, "--true-partners", true]


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    return addresses(tmp_path)


def test_neurons_are_looked_up_in_the_truth(
    volflow: Call, tables: list[object], places: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "report"
    result = volflow("score", *options(places), *tables, "--out", out)
    assert result.exit_code == 0, result.output
    assert "1 of 3 detected, 2 false" in result.stdout
    document = json.loads((out / "scores.json").read_text())
    reported = document["results"]["partners"]
    assert {name: reported[name] for name in BY_NEURON} == BY_NEURON
    assert {name: reported[name] for name in RATES} == pytest.approx(RATES)
    assert (reported["truth_outside"], reported["found_outside"]) == (0, 1)
    assert (reported["truth_partners"], reported["found_partners"]) == (3, 3)
    missed, spurious = reported["errors"]["false_negatives"], reported["errors"]["false_positives"]
    assert missed[0] == {
        "line": 4, "pre": [480, 144, 240], "post": [480, 208, 240], "pre_neuron": 3,
        "post_neuron": 4,
    }  # fmt: skip
    assert [row["line"] for row in missed] == [4, 5]
    assert [row["line"] for row in spurious] == [3, 5]
    assert (spurious[1]["pre_neuron"], spurious[1]["post_neuron"]) == (2, 4)
    assert document["results"]["score"]["vi"] > 0  # the volumes are scored as without tables

    with (out / "scores.csv").open() as file:
        numbers = {(row["step"], row["metric"]): row["value"] for row in csv.DictReader(file)}
    assert float(numbers["partners", "f1"]) == reported["f1"]
    with (out / "offenders.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "missed partners"]
    assert [(row["label"], row["truth"], row["z"], row["y_nm"]) for row in rows] == [
        ("4", "3", "12.0", "144.0"), ("4", "4", "12.0", "208.0"),
        ("5", "1", "20.0", "16.0"), ("5", "3", "20.0", "144.0"),
    ]  # fmt: skip
    text = (out / "report.md").read_text()
    assert "| partners | 0.3333 | 0.3333 | 0.3333 | 1 | 2 | 2 |" in text
    assert "## Missed synaptic partners" in text
    assert "--at 12,18,30 --segments truth=3,4`" in text
    page = (out / "report.html").read_text()
    assert "False synaptic partners" in page
    assert "pre 2" in page
    assert "64 nm between the sites" in page


def test_the_same_whatever_is_scored_next_to_them(
    volflow: Call, tables: list[object], places: dict[str, str], tmp_path: Path
) -> None:
    results = []
    for number, given in enumerate((
        options(places),
        [*options(places), "--set", "block=[5,31,7]"],
        ["--truth", places["truth"]],
    )):  # fmt: skip
        out = tmp_path / f"report{number}"
        result = volflow("score", *given, *tables, "--out", out)
        assert result.exit_code == 0, result.output
        results.append(json.loads((out / "scores.json").read_text())["results"]["partners"])
    assert results[0] == results[1] == results[2]


def test_without_volumes_places_are_all_there_is(
    volflow: Call, tables: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "report"
    result = volflow("score", *tables, "--out", out)
    assert result.exit_code == 0, result.output
    assert "volflow view" not in result.stdout
    assert "bounds" not in result.stdout
    reported = json.loads((out / "scores.json").read_text())["results"]["partners"]
    assert (reported["true_positives"], reported["false_positives"], reported["recall"]) == (
        3,
        1,
        1,
    )
    assert reported["mean_distance_nm"] == pytest.approx((128 + 16 + 28) / 3)
    near = volflow("score", *tables, "--partner-distance", 60, "--json")
    assert json.loads(near.stdout)["partners"]["true_positives"] == 2
    for name in ("report.md", "report.html"):
        text = (out / name).read_text()
        assert "volflow view" not in text
        assert "400, 16, 168" in text  # where the one that is not there begins, in nm


def test_neurons_of_the_tables_are_taken(
    volflow: Call, places: dict[str, str], tmp_path: Path
) -> None:
    high = 2**63 + 1
    true = table(tmp_path / "true.csv", TRUE, [(high, 2), (3, 4), (high, 3)])
    result = table(tmp_path / "found.csv", FOUND, [(3, high), (high - 1, 2), (3, 4), (7, 7)])
    both = ["--partners", result, "--true-partners", true]
    reported = json.loads(volflow("score", *both, "--json").stdout)["partners"]
    assert reported["true_positives"] == 1  # the second: one neuron is another by one
    reported = json.loads(volflow("score", *both, "--truth", places["truth"], "--json").stdout)
    assert reported["partners"]["true_positives"] == 1
    plain = table(tmp_path / "plain.csv", FOUND)
    mixed = ["--partners", plain, "--true-partners", true]
    one = volflow("score", *mixed)
    assert one.exit_code == 2
    assert "--partners has no columns of neurons and the other table has: " in one.stderr
    true = table(tmp_path / "true.csv", TRUE, [(1, 2), (2, 4), (3, 1)])
    reported = json.loads(volflow("score", *mixed, "--truth", places["truth"], "--json").stdout)
    assert reported["partners"]["true_positives"] == 3


def test_pairs_outside_of_the_bounds_are_left_out_of_both(
    volflow: Call, tables: list[object], places: dict[str, str]
) -> None:
    for given in (options(places), ["--truth", places["truth"]]):
        bounds = ["--bounds", "8:24,0:32,16:40"]
        reported = json.loads(volflow("score", *given, *tables, *bounds, "--json").stdout)[
            "partners"
        ]
        assert (reported["truth_partners"], reported["truth_outside"]) == (2, 1)
        assert (reported["found_partners"], reported["found_outside"]) == (2, 2)
        assert reported["recall"] == reported["precision"] == 0.5


def test_a_unit_is_that_of_the_address(volflow: Call, tables: list[object], tmp_path: Path) -> None:
    voxels = tmp_path / "voxels.csv"
    lines = [SITES, *(",".join(map(str, [*pre, *post])) for pre, post in FOUND)]
    voxels.write_text("\n".join(lines))
    given = ["--partners", f"csv://{voxels}?unit_nm=40,8,8", *tables[2:], "--json"]
    reported = json.loads(volflow("score", *given).stdout)["partners"]
    expected = json.loads(volflow("score", *tables, "--json").stdout)["partners"]
    for each in (reported, expected):
        each.pop("errors")  # their lines are others
    assert reported == expected


def test_where_labels_lie_elsewhere(volflow: Call, tables: list[object], tmp_path: Path) -> None:
    # the truth begins at voxel 8, 0, 16: a look-up that forgets it meets other neurons or none
    part = Box((8, 0, 16), (21, 32, 64))
    truth = written(f"precomputed://{tmp_path}/part", scored.arrays()["truth"][:13], part)
    reported = json.loads(volflow("score", *tables, "--truth", truth, "--json").stdout)["partners"]
    assert {name: reported[name] for name in BY_NEURON} == BY_NEURON


# --- problems of the input ------------------------------------------------------------------------


def test_all_mistakes_of_tables_are_reported_at_once(
    volflow: Call, places: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "bad.csv").write_text(f"{SITES}\n1,2,3,4,5,six\n")
    empty = table(tmp_path / "empty.csv", [])
    given = ["--partners", tmp_path / "bad.csv", "--true-partners", tmp_path / "none.csv"]
    result = volflow("score", *options(places), *given, "--require", "vii<=1")
    assert result.exit_code == 2
    assert "3 problems; nothing was started" in result.stderr
    assert "bad.csv:2: post_x is 'six'; expected a number" in result.stderr
    assert "--true-partners: " in result.stderr
    assert "none.csv: no such file" in result.stderr
    result = volflow("score", "--partners", empty, "--true-partners", empty)
    assert result.exit_code == 2
    assert "the table is empty; expected partners" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (["--partners", "TABLE"], "--partners needs --true-partners"),
        (["--true-partners", "TABLE"], "--true-partners needs --partners"),
        (["BOTH", "--partner-distance", "0"], "--partner-distance"),
        (["BOTH", "--skeletons", "swc://x"], "--skeletons needs --segmentation"),
        (["BOTH", "--image", "x"], "--image needs --segmentation"),
        (["BOTH", "--objects"], "--objects needs --segmentation"),
        (["BOTH", "--bounds", "0:1,0:1,0:1"], "--bounds needs a volume"),
        (["BOTH", "--truth", "/nowhere"], "--truth /nowhere: cannot be opened"),
        (["BOTH", "--truth", "EM"], "expected labels"),
        (["BOTH", "--truth", "TRUTH", "--require", "vi<=1"], "'vi' needs --segmentation"),
        (["BOTH", "--segmentation", "TRUTH"], "nothing to score against"),
        (["--truth", "TRUTH"], "--truth needs --segmentation"),
        ([], "nothing to score: give --segmentation, --found-clefts or --partners"),
    ],
)
def test_what_does_not_go_together_is_reported(
    volflow: Call,
    tables: list[object],
    places: dict[str, str],
    tmp_path: Path,
    arguments: list[str],
    reported: str,
) -> None:
    em = written(f"precomputed://{tmp_path}/rgb", np.zeros(BOX.shape, "float32"))
    known = {"TABLE": [tables[1]], "BOTH": tables, "TRUTH": [places["truth"]], "EM": [em]}
    given = [each for text in arguments for each in known.get(text, [text])]
    result = volflow("score", *given)
    assert result.exit_code == 2, result.output
    assert reported in result.stderr


def test_tables_in_another_unit_are_reported(
    volflow: Call, tables: list[object], places: dict[str, str], tmp_path: Path
) -> None:
    swapped = tmp_path / "swapped.csv"
    header, *rest = (tmp_path / "true.csv").read_text().split("\n")
    z, y, x = "pre_z", "pre_y", "pre_x"
    assert header.startswith(f"{z},{y},{x},")
    swapped.write_text("\n".join(["pre_x,pre_y,pre_z,post_x,post_y,post_z", *rest]))
    given = ["--partners", tables[1], "--true-partners", swapped]
    for volumes in (options(places), ["--truth", places["truth"]]):
        result = volflow("score", *volumes, *given)
        assert result.exit_code == 2
        assert "6 of 6 positions are outside of the box" in result.stderr
        assert "read as x, y, z all would be inside" in result.stderr


def test_a_report_of_tables_does_not_replace_one_of_volumes(
    volflow: Call, tables: list[object], places: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "report"
    assert volflow("score", *options(places), "--out", out).exit_code == 0
    result = volflow("score", *tables, "--out", out)
    assert result.exit_code == 2
    assert "holds scores of volumes; give a folder of its own" in result.stderr


def test_errors_are_links(
    volflow: Call, tables: list[object], places: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "report"
    assert volflow("score", *options(places), *tables, "--out", out).exit_code == 0
    document = find_document(str(out))
    assert document is not None
    missed = next(each for each in errors_of(document) if each.kind == "missed partners")
    assert missed.place == (12, 18, 30)
    assert missed.ids() == {"truth": (3, 4)}
    process, lines = start(out, without="neuroglancer")
    try:
        page = next(line.split()[-1] for line in lines if "a link to each error" in line)
        with urllib.request.urlopen(page) as answer:
            links = re.findall(r'href="([^"]+)"', answer.read().decode())
        address = next(link for link in links if link.endswith("missed-partners-1.json"))
        with urllib.request.urlopen(address.partition("#!")[2]) as answer:
            state = json.loads(answer.read())
        layers = {layer["name"]: layer for layer in state["layers"]}
        assert layers["truth"]["segments"] == ["3", "4"]
        assert state["position"] == [30.5, 18.5, 12.5]
    finally:
        assert end(process) == 0
