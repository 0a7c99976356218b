"""Texts whose last line has no end: they are read, with a warning that reaches the user."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from tests.cli.label_volumes import BOX, written
from volflow.cli import main
from volflow.engine.api import make_plan
from volflow.errors import StorageError
from volflow.io.skeletons import SkeletonSet
from volflow.io.tables.partners import read_partners
from volflow.io.text_end import end_warnings

SWC = "1 1 100 200 300 5 -1\n2 3 130 200 300 5 1\n3 3 160 200 300 5 2\n"
HEAD = "pre_z,pre_y,pre_x,post_z,post_y,post_x\n"


def test_names_of_texts_without_an_end():
    assert end_warnings({"a": b"x\n", "b": b"x\r\n", "c": "x\n".encode("utf-16-le")}) == ()
    assert end_warnings({"a": b"x\n", "b": b"1,23"}) == (
        "b has no line end after the last line, which may be cut short",
    )
    (many,) = end_warnings(dict.fromkeys("abcde", b"x"))
    assert many.startswith("a, b, c and 2 more have no line end")


def test_a_tracing_that_was_cut_within_a_number(tmp_path):
    path = tmp_path / "3.swc"
    path.write_text(SWC)
    assert SkeletonSet.open(str(path)).warnings == ()
    path.write_text(SWC.removesuffix(" 2\n") + " 1")  # the beginning of "12"
    opened = SkeletonSet.open(str(path))
    assert opened.read(3).parent.tolist() == [-1, 0, 0]
    assert opened.warnings[0].startswith("3.swc has no line end")


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
def test_an_empty_tracing_is_refused(tmp_path, text):
    (tmp_path / "3.swc").write_text(text)
    with pytest.raises(StorageError, match=r"3\.swc: expected nodes, got an empty file"):
        SkeletonSet.open(str(tmp_path / "3.swc")).read(3)


def test_a_table_that_was_cut_within_a_number(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(f"{HEAD}1,2,3,4,5,6\n7,8,9,10,11,12\n")
    assert read_partners(str(path)).warnings == ()
    path.write_text(f"{HEAD}1,2,3,4,5,6\n7,8,9,10,11,1")
    table = read_partners(str(path))
    assert table.post[-1].tolist() == [10, 11, 1]
    assert table.warnings[0].startswith(f"{path} has no line end")


def test_the_warning_reaches_the_user_of_a_score(tmp_path):
    head = f"{HEAD.strip()},pre_neuron,post_neuron\n"
    for name in ("found", "true"):
        (tmp_path / f"{name}.csv").write_text(f"{head}1,2,3,4,5,6,1,2\n900,8,9,10,11,12,3,41")
    tables = ["--partners", f"{tmp_path}/found.csv", "--true-partners", f"{tmp_path}/true.csv"]
    result = CliRunner().invoke(main, ["score", *tables])
    assert result.exit_code == 0, result.output
    text = " ".join(result.stderr.split())
    for name in ("found", "true"):
        assert f"warning: {tmp_path}/{name}.csv has no line end".replace(" ", "") in text.replace(
            " ", ""
        )


def test_the_warning_reaches_the_user_of_a_plan(tmp_path):
    labels = np.ones(BOX.shape, "uint64")
    address = written(f"precomputed://{tmp_path}/labels", labels)
    y, x = (BOX.start[1] + 9) * 8, (BOX.start[2] + 9) * 8
    rows = [
        f"{n} 3 {x + 40 * n} {y} {(BOX.start[0] + 5) * 40} 5 {n - 1 or -1}" for n in range(1, 6)
    ]
    (tmp_path / "3.swc").write_text("\n".join(rows))
    skeletons = f"swc://{tmp_path}/3.swc?unit_nm=1"
    document = {
        "run": f"{tmp_path}/run",
        "volumes": {"segmentation": {"path": address}, "skeletons": {"path": skeletons}},
        "steps": [{"use": "score_skeletons"}],
    }
    plan = make_plan(document)
    assert plan.warnings == (
        "volumes.skeletons: 3.swc has no line end after the last line, which may be cut short",
    )
