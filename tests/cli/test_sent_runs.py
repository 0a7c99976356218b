"""A run of another person: its files are read with limits, and print nothing but text."""

from __future__ import annotations

import json
import re
import struct
import time
import zlib

import pytest

from volflow.cli.terminal.visible import visible
from volflow.config.file import read_yaml
from volflow.engine.monitor.events import from_json
from volflow.errors import StorageError
from volflow.io.run.records import decode
from volflow.io.store import Store

BOMB = "a0: &a0 [1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
HOSTILE = {
    "aliases": BOMB,
    "deep": "run: " + "[" * 100_000,
    "deep blocks": "".join(" " * n + "a:\n" for n in range(300)),
    "digits": f"run: x\nblock: [{'9' * 5000}, 8, 8]\n",
    "sexagesimal": f"run: x\nblock: [1{':59' * 5000}, 8, 8]\n",
    "no keys": "- 1\n",
    "binary": "\udcff",
    "object": "run: !!python/object/apply:os.system [echo]\n",
    "tagged list": "run: x\nblock: !!python/object/new:os.system [8, 8, 8]\n",
    "half": "run: 'x",
}


def is_refused(result) -> bool:
    assert "Traceback" not in result.output
    assert "bug" not in result.output
    return result.exit_code in (2, 4)


@pytest.fixture
def run(volflow, toy, tmp_path):
    assert volflow("run", toy()).exit_code == 0
    return tmp_path / "run"


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_pipeline_of_a_run_is_read_with_limits(volflow, tmp_path, kind):
    Store(str(tmp_path / "run")).write_json("outline.json", {"steps": []})
    text = HOSTILE[kind].encode(errors="surrogateescape")
    (tmp_path / "run/pipeline.yaml").write_bytes(text)
    start = time.monotonic()
    for command, *more in (("retry",), ("view", "--no-open")):
        assert is_refused(volflow(command, tmp_path / "run", *more)), kind
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("kind", [k for k in HOSTILE if k not in ("no keys", "binary")])
def test_a_value_on_the_command_line_is_read_with_limits(volflow, toy, kind):
    assert is_refused(volflow("plan", toy(), "--set", f"steps.index.with={HOSTILE[kind]}"))


@pytest.mark.parametrize(
    "outline",
    [
        "[" * 100_000,
        '{"steps": ' + "9" * 5000 + "}",
        "{}",
        '{"steps": [1]}',
        *(
            json.dumps({"steps": [{"name": "a", "digest": "d", "passes": [["p", 1]]} | change]})
            for change in (
                {"name": "../../evil"},
                {"name": "\x1b[2J"},
                {"digest": "/tmp"},
                {"passes": [["../p", 1]]},
                {"passes": [["p", "x"]]},
                {"after": [{}]},
            )
        ),
    ],
)
def test_the_outline_of_a_run_is_checked(volflow, run, outline):
    (run / "outline.json").write_text(outline)
    for command in ("status", "view", "retry", "invalidate"):
        more = {"view": ["--no-open"], "invalidate": ["a", "--yes"]}.get(command, [])
        assert is_refused(volflow(command, run, *more)), command


def test_json_that_is_nested_deeply_is_an_error_and_no_traceback(tmp_path):
    deep = b"[" * 200_000
    (tmp_path / "x.json").write_bytes(deep)
    with pytest.raises(StorageError, match=r"x\.json is not JSON"):
        Store(str(tmp_path)).read_json("x.json")
    assert from_json(deep) is None


def test_control_characters_are_written_out(volflow, run):
    text = "a\x1b]52;c;x\x07\r\x9b\u202eb\n\tc"
    assert visible(text) == "a\\x1b]52;c;x\\x07\\x0d\\x9b\\u202eb\n\tc"
    outline = json.loads((run / "outline.json").read_text())
    step, phase = outline["steps"][1], outline["steps"][1]["passes"][0][0]
    folder = run / "ledger" / step["name"] / step["digest"] / phase
    for marker in (folder / "done").iterdir():
        marker.unlink()
    failure = {"error": text, "reason": text, "traceback": text, "worker": text}
    failure |= {"block": [0, 0, 0], "index": [0, 0, 0]}
    (folder / "failed").mkdir(exist_ok=True)
    (folder / "failed/0").write_text(json.dumps(failure))
    shown = volflow("status", run).output
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", shown), shown


def test_problems_of_a_file_are_printed_without_escapes(volflow, tmp_path):
    (tmp_path / "p.yaml").write_text('run: x\n"\\e[2J": 1\nsteps: []\n')
    result = volflow("plan", tmp_path / "p.yaml")
    assert result.exit_code == 2
    assert "\\x1b[2J" in result.output
    assert "\x1b" not in result.output


def test_limits_leave_ordinary_files_alone():
    content = read_yaml("a: [1, 2.5, {b: &x [c]}]\nd: *x\n")
    assert not content.problems
    assert content.data == {"a": [1, 2.5, {"b": ["c"]}], "d": ["c"]}


def test_a_record_with_a_deep_header_is_damaged():
    header = b"[" * 200_000
    rest = struct.pack("<I", len(header)) + header
    body = struct.pack("<4sII", b"VFR1", zlib.crc32(rest), len(rest)) + rest
    with pytest.raises(ValueError, match="too deeply"):
        decode(body)
