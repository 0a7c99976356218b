"""Drivers, started and watched through the nursery."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
POLL = 0.02  # seconds between two looks at a driver
TOKEN = "VOLFLOW_SOAK"
"""The environment variable by which the processes of a case are found."""

Blocks = dict[str, set[int]]
"""Numbers of blocks by job, which is STEP/DIGEST/PHASE."""


@dataclass(frozen=True)
class Start:
    """The start of a driver."""

    arguments: list[str]
    """Of the command line of volflow."""
    folder: str
    log: str
    environment: dict[str, str]
    heartbeat: tuple[float, float]
    """Seconds between two heartbeats, and seconds without one after which a driver is stale."""
    place: str = ""
    """Anything but nothing: the driver seems to run on another machine of that name."""


@dataclass
class Driver:
    """A driver, and what was there when it started."""

    nursery: Nursery
    pid: int
    started: float = field(default_factory=time.monotonic)
    code: int | None = None
    marked: Blocks = field(default_factory=dict)
    traced: dict[str, int] = field(default_factory=dict)
    """How often blocks of `index` that were marked had been run."""
    traced_job: str = ""
    """The job of those blocks."""

    def poll(self) -> int | None:
        """The exit code; negative: a signal; None: it runs."""
        if self.code is None:
            self.code = self.nursery.ask({"poll": self.pid})["code"]
        return self.code

    def wait(self, seconds: float) -> int | None:
        """Wait for the exit code; None if it takes longer than so many seconds."""
        deadline = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL)
        return self.code

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def interrupt(self) -> None:
        """Send what Ctrl-C in a terminal sends: SIGINT to the whole process group."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has no group of its own yet
                os.killpg(self.pid, signal.SIGINT)


class Nursery:
    """The process that drivers are forked from."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, how: Start) -> Driver:
        """Start a driver."""
        return Driver(self, self.ask({"start": asdict(how)})["pid"])

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request."""
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next answer.

        Raises
        ------
        RuntimeError
            If the nursery has ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the nursery ended with {self._process.wait()}; see its log")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.contextmanager
def open_nursery(log: Path) -> Iterator[Nursery]:
    """Start the process that drivers are forked from."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            cwd=log.parent,
            env=environment(),
        )
    try:
        nursery = Nursery(process)
        nursery.answer()
        yield nursery
    finally:
        process.communicate()  # without further requests it ends


def environment(**more: str) -> dict[str, str]:
    """The environment of processes that import volflow and the tests from here."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}
