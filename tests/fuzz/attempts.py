"""The attempts of a seed, run one after another in a child process with limits.

A child that crashes, or that is silent for too long, is a fault of the attempt, and is replaced.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.fuzz.damage import damage
from tests.fuzz.judge import Verdict, judge
from tests.fuzz.kind import Content, Kind

SECONDS = 20.0  # for one attempt, on an idle machine
START = 300.0  # seconds in which a child makes and reads the valid files of a kind
CASE = "case"  # folder of the files that are read
MEMORY = 6 << 30  # bytes of address space beyond which a child gets no more


class Attempt(NamedTuple):
    """One damage: of which kind, drawn from which seed."""

    kind: str
    seed: int


class Outcome(NamedTuple):
    """An attempt, what was damaged, and the verdict."""

    attempt: Attempt
    damaged: str
    verdict: Verdict


def attempts(kinds: Sequence[Kind], count: int, seed: int) -> list[Attempt]:
    """The attempts of a seed: kinds as often as their weights, in order of kinds."""
    turns = [kind.name for kind in kinds for _ in range(kind.weight)]
    drawn = [Attempt(turns[number % len(turns)], seed + number) for number in range(count)]
    return sorted(drawn)


def carried_out(planned: Sequence[Attempt]) -> Iterator[Outcome]:
    """The outcomes of attempts, in their order."""
    left = list(planned)
    with tempfile.TemporaryDirectory(prefix="volflow-fuzz-") as folder:
        while left:
            for outcome in _by_one_child(tuple(left), Path(folder)):
                yield outcome
                left.pop(0)


def _by_one_child(planned: Sequence[Attempt], folder: Path) -> Iterator[Outcome]:
    """Outcomes until the end, or the first attempt that a child does not survive."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_serve, args=(there, str(folder)), daemon=True)
    child.start()
    there.close()
    try:
        known = ""
        for attempt in planned:
            here.send(attempt)
            damaged = ""
            limit = _limit(SECONDS if attempt.kind == known else START)
            try:
                if here.poll(limit):
                    damaged = here.recv()  # what is damaged, before it is read
                    limit = _limit(SECONDS)
                    if here.poll(limit):
                        yield Outcome(attempt, damaged, here.recv())
                        known = attempt.kind
                        continue
                yield Outcome(attempt, damaged, Verdict("hang", f"no answer in {limit:g} s"))
            except EOFError:
                child.join()
                yield Outcome(attempt, damaged, Verdict("crash", f"exit code {child.exitcode}"))
            if not damaged:
                raise RuntimeError(f"{attempt.kind}: its valid files are not made, or not read")
            return
        here.send(None)
        child.join(SECONDS)
    finally:
        here.close()
        if child.is_alive():
            child.kill()
        child.join()


def _limit(seconds: float) -> float:
    """A time limit, longer where more processes than processors are waiting."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _serve(pipe: Connection, folder: str) -> None:
    """Answer with the outcomes of attempts until None comes."""
    from tests.fuzz.kinds import KINDS

    faulthandler.enable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    templates: dict[str, tuple[Path, Content]] = {}
    place = Path(tempfile.mkdtemp(dir=folder))
    with open(os.devnull, "w") as silent, contextlib.redirect_stderr(silent):
        for attempt in iter(pipe.recv, None):
            kind, number = KINDS[attempt.kind], sorted(KINDS).index(attempt.kind)
            if kind.name not in templates:
                templates = {kind.name: _made(kind, place / str(number))}
            template, expected = templates[kind.name]
            case = template.parent / CASE
            shutil.copytree(template, case, symlinks=True)
            done = damage(case, np.random.default_rng([attempt.seed, number]), kind.only)
            pipe.send(str(done))
            pipe.send(judge(kind, case, done, expected))
            shutil.rmtree(case)
    sys.exit(0)


def _made(kind: Kind, place: Path) -> tuple[Path, Content]:
    """Valid files of a kind, and their content.

    They are made, read and damaged in one place, because files contain addresses.
    """
    case, template = place / CASE, place / "intact"
    case.mkdir(parents=True)
    kind.make(case)
    shutil.copytree(case, template, symlinks=True)
    expected = kind.read(case, None)
    shutil.rmtree(case)
    return template, expected
