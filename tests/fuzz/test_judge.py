"""The judge of damaged files: each fault is one, and undetectable damage is no fault."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz import attempts as module
from tests.fuzz import kinds
from tests.fuzz.attempts import Attempt, attempts, carried_out
from tests.fuzz.damage import HOWS, damage
from tests.fuzz.judge import judge
from tests.fuzz.kind import Kind
from volflow.errors import StorageError


def make(folder: Path) -> None:
    (folder / "a.bin").write_bytes(bytes(range(1, 200)))


def kind(read, **more) -> Kind:
    return Kind("a", make, read, **more)


def judged(folder, read, **more):
    make(folder)
    done = damage(folder, np.random.default_rng(3))
    return judge(kind(read, **more), folder, done, {"a": 1, "warnings": ()})


def raising(error):
    def read(folder, intact):
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (lambda folder, intact: {"a": 1}, "right"),
        (lambda folder, intact: {"a": 2}, "silently wrong"),
        (lambda folder, intact: {"a": np.array(1)}, "silently wrong"),
        (lambda folder, intact: {"a": 1, "b": 1}, "silently wrong"),
        (lambda folder, intact: make(folder) or {"a": 1}, "healed"),
        (raising(StorageError("volume a.bin: cut short")), "refused"),
        (raising(StorageError("cut short")), "unnamed"),
        (raising(KeyError("scales")), "traceback"),
    ],
)
def test_each_outcome(tmp_path, read, outcome):
    assert judged(tmp_path, read).outcome == outcome


def test_what_cannot_be_known_has_a_reason(tmp_path):
    verdict = judged(
        tmp_path,
        lambda folder, intact: {"a": 2},
        unknowable=lambda damage, warnings: "no checksum",
        cut=lambda damage, warnings: "no checksum",
    )
    assert (verdict.outcome, verdict.detail) == ("undetectable", "no checksum")


def test_cutting_short_is_not_excused_by_a_lack_of_checksums(tmp_path):
    for seed in range(40):
        make(tmp_path)
        done = damage(tmp_path, np.random.default_rng(seed))
        excused = kind(None, unknowable=lambda damage, warnings: "no checksum")
        assert bool(excused.reason(done, ())) == (done.how not in ("cut", "emptied"))


def test_every_damage_changes_the_file(tmp_path):
    seen = set()
    for seed in range(200):
        make(tmp_path)
        before = (tmp_path / "a.bin").read_bytes()
        done = damage(tmp_path, np.random.default_rng(seed))
        path = tmp_path / "a.bin"
        assert not path.exists() or path.read_bytes() != before
        assert done.before == before
        seen.add(done.how)
    assert seen == {*HOWS} - {"digit"}  # of text alone


def test_a_child_that_dies_or_hangs_is_a_fault_and_the_others_go_on(monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 3.0)
    planned = [Attempt("swc in a zip", 1), Attempt("dies", 2), Attempt("swc in a zip", 3)]
    planned += [Attempt("hangs", 4), Attempt("swc in a zip", 5)]
    monkeypatch.setattr(module, "_serve", _serve)
    outcomes = [outcome.verdict.outcome for outcome in carried_out(planned)]
    assert outcomes[1::2] == ["crash", "hang"]
    assert set(outcomes[::2]) <= {"refused", "right", "undetectable"}


def _serve(pipe, folder):
    """The child, with a kind that dies and one that hangs."""
    intact = {"a": 1}

    def die(folder, content):
        return intact if content is None else os._exit(7)

    def hang(folder, content):
        return intact if content is None else time.sleep(60)

    kinds.KINDS.update(dies=Kind("dies", make, die), hangs=Kind("hangs", make, hang))
    _plain_serve(pipe, folder)


_plain_serve = module._serve


def test_a_seed_makes_the_same_attempts():
    some = list(kinds.KINDS.values())[:4]
    first = attempts(some, 50, 9)
    assert first == attempts(some, 50, 9)
    assert {attempt.kind for attempt in first} == {kind.name for kind in some}
    assert len({attempt.seed for attempt in first}) == 50
