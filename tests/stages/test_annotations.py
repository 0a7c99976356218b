"""Annotations of a run: complete, the same bytes whatever the blocks, and mistakes reported."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import volflow
from tests.engine.runs import wait_for
from tests.stages.biology import SHAPES, document, files, stored, tissue
from volflow.errors import PlanError

read = pytest.importorskip("neuroglancer.read_precomputed_annotations")

SYNAPSES = {"use": "synapses", "with": {"merge_nm": 0}}
ARROWS = {"use": "annotations", "in": {"table": "synapse_table"}}
STEPS = (SYNAPSES, ARROWS)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory) -> dict[str, Any]:
    every = stored(tmp_path_factory.mktemp("tissue"))
    return {name: every[name] for name in ("clefts", "probability", "segmentation")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, volumes) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert volflow.run(document(folder, volumes, *STEPS)).ok
    return folder


def reader(run: Path, step: str = "annotations") -> Any:
    return read.AnnotationReader(f"file://{run}/results/{step}/precomputed/")


def test_a_line_leads_from_pre_to_post_and_belongs_to_both(undisturbed) -> None:
    with (undisturbed / "results/synapses.csv").open() as text:
        rows = list(csv.DictReader(text))
    assert len(rows) > 15
    arrows = reader(undisturbed)
    names = [each.id for each in arrows.properties]
    for row in rows:
        one = arrows.by_id[int(row["synapse_id"])]
        for start, end in (("pre", one.point_a), ("post", one.point_b)):
            nm = [float(row[f"{start}_{axis}"]) for axis in "xyz"]
            np.testing.assert_allclose(np.array(end), np.array(nm) / 10 + 0.5, atol=1e-4)
        segments = [[int(n) for n in part] for part in one.segments]
        assert segments == [[int(row["pre"])], [int(row["post"])]]
        values = dict(zip(names, one.props, strict=True))
        assert values["size_vox"] == float(row["size_vox"])
        assert values["score"] == pytest.approx(float(row["score"]))
    pairs = {(int(row["pre"]), int(row["post"])) for row in rows}
    assert pairs == set(tissue()[1].values())
    (cell,) = [arrows.spatial[0][0, 0, 0]]
    assert len(cell) == len(rows)


@pytest.mark.parametrize("block", SHAPES)
def test_the_same_bytes_whatever_the_blocks(tmp_path, volumes, undisturbed, block) -> None:
    assert volflow.run(document(tmp_path / "run", volumes, *STEPS, block=block)).ok
    assert files(tmp_path / "run") == files(undisturbed)


@pytest.mark.cluster
def test_the_same_bytes_with_two_workers(tmp_path, volumes, undisturbed) -> None:
    given = document(tmp_path / "run", volumes, *STEPS)
    assert volflow.run(given, cluster="local", workers=2).ok
    assert files(tmp_path / "run") == files(undisturbed)


def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path, volumes, undisturbed) -> None:
    """The partition's marker is lost after its files were written in part: they are replaced."""
    folder = tmp_path / "run"
    given = document(folder, volumes, *STEPS)
    assert volflow.run(given).ok
    for marker in (folder / "ledger/annotations").rglob("total.group/done/*"):
        marker.unlink()
    written = folder / "results/annotations/precomputed"
    (written / "by_id/0.shard").write_bytes(b"half")
    (written / "relation_pre/0.shard").unlink()
    (written / "by_id/7.shard").write_bytes(b"of an earlier run")
    assert volflow.run(given).ok
    assert files(folder) == files(undisturbed)


@pytest.mark.parametrize("phase", ["rows", "total.group"])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, volumes, undisturbed, phase) -> None:
    folder = tmp_path / "run"
    given = document(folder, volumes, *STEPS)
    code = "import json, sys, volflow; volflow.run(json.loads(sys.argv[1]))"
    process = subprocess.Popen([sys.executable, "-c", code, json.dumps(given)])
    try:
        wait_for(lambda: list(folder.glob(f"ledger/annotations/*/{phase}")) or process.poll() == 0)
    finally:
        process.kill()
        process.wait()
    assert volflow.run(given).ok
    assert files(folder) == files(undisturbed)


# --- tables of a user's own ----------------------------------------------------------------------


def own_table(folder: Path, text: str, unit: str = "", **step: Any) -> dict[str, Any]:
    """A pipeline without any volume: a table, bounds and a voxel size."""
    folder.mkdir(exist_ok=True)
    (folder / "own.csv").write_text(text)
    return {
        "run": str(folder / "run"),
        "bounds": "0:100,0:100,0:100",
        "resolution": [40, 8, 8],
        "block": [64, 64, 64],
        "volumes": {"own": {"path": f"csv://{folder}/own.csv{unit}"}},
        "steps": [{"use": "annotations", "in": {"table": "own"}, "with": step}],
    }


TEXT = """name,z,y,x,segment,weight,id
a,10,20,30,18446744073709551615,0.5,9
b,11,21,31,0,1.5,4
"""


def test_points_of_a_users_own_table(tmp_path) -> None:
    given = own_table(tmp_path, TEXT, "?unit_nm=40,8,8", kind="point", properties=["weight"])
    assert volflow.run(given).ok
    points = reader(tmp_path / "run")
    one, other = points.by_id[9], points.by_id[4]
    assert list(one.point) == [30.5, 20.5, 10.5]
    assert [int(n) for n in one.segments[0]] == [(1 << 64) - 1]
    assert list(other.segments[0]) == []
    assert list(other.props) == [1.5]


def test_rows_of_one_id_are_numbered_in_the_order_of_their_content(tmp_path) -> None:
    head = "synapse_id,pre_z,pre_y,pre_x,post_z,post_y,post_x\n"
    rows = ["5,1,1,1,2,2,2\n", "5,1,1,1,3,3,3\n", "8,0,0,0,1,1,1\n"]
    bodies = []
    for number, order in enumerate((rows, rows[::-1])):
        given = own_table(tmp_path / str(number), head + "".join(order))
        assert volflow.run(given).ok
        bodies.append(files(tmp_path / str(number) / "run"))
        assert reader(tmp_path / str(number) / "run").by_id[3].point_b[2] == pytest.approx(0.525)
    assert bodies[0] == bodies[1]


def test_an_empty_table_makes_empty_annotations(tmp_path) -> None:
    given = own_table(tmp_path, "pre_z,pre_y,pre_x,post_z,post_y,post_x\n")
    result = volflow.run(given)
    assert result.ok
    assert result.results["annotations"]["annotations"] == 0
    assert reader(tmp_path / "run").spatial[0][0, 0, 0] == []


def test_only_the_annotations_of_chosen_segments(tmp_path, volumes) -> None:
    segment = next(iter(tissue()[1].values()))[0]
    chosen = {**ARROWS, "with": {"segments": [segment, 12345678901234]}}
    result = volflow.run(document(tmp_path / "run", volumes, SYNAPSES, chosen))
    expected = sum(segment in pair for pair in tissue()[1].values())
    assert result.results["annotations"]["annotations"] == expected
    (sentence,) = result.unmet
    assert "12345678901234 are in no row" in sentence


MISTAKES = {
    "pre_z,pre_y,pre_x\n1,2,3\n": r"kind: line: expected columns .*the table has pre_z, pre_y",
    "": "expected a line of column names, got an empty file",
    "pre_z,pre_y\n1\n": r"own.csv:2: expected 2 values, one per column; got 1",
    "pre_z,pre_y\n1,2\n1,two\n": r"own.csv:3: pre_y is 'two'; expected a number",
    "id\n18446744073709551616\n": r"own.csv:2: id has values from 18446744073709551616",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_table_that_does_not_fit_is_refused_before_anything_runs(tmp_path, text) -> None:
    with pytest.raises(PlanError, match=MISTAKES[text]):
        volflow.run(own_table(tmp_path, text))
    assert not (tmp_path / "run/ledger").exists()


def test_a_missing_file_a_volume_and_wrong_names_are_refused(tmp_path, volumes) -> None:
    given = own_table(tmp_path, TEXT, kind="point", properties=["colour"])
    with pytest.raises(PlanError, match="properties: the table has no column of numbers 'colour'"):
        volflow.run(given)
    given["volumes"]["own"]["path"] = f"csv://{tmp_path}/other.csv"
    with pytest.raises(PlanError, match=r"other.csv: no such file"):
        volflow.run(given)
    given["steps"] = [
        {"use": "annotations", "in": {"table": "own"}, "with": {"relations": ["Pre"]}}
    ]
    with pytest.raises(PlanError, match="relations: column 'Pre': expected letters, digits"):
        volflow.run(given)
    given["steps"] = [{"use": "synth"}, {"use": "annotations", "in": {"table": "truth"}}]
    given["volumes"] = {}
    with pytest.raises(PlanError, match=r"as a table of the whole volume.*got a volume"):
        volflow.run(given)
    other = document(tmp_path / "run", volumes, {**ARROWS, "in": {"table": "clefts"}})
    other |= {"bounds": "0:9,0:9,0:9", "resolution": [10, 10, 10]}
    with pytest.raises(PlanError, match="expected CSV or Parquet, got zarr3"):
        volflow.run(other)
