"""One run that is harmed: its drivers, the moment of the harm, and all that is checked after it."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.soak import checks
from tests.soak.drivers import Driver, Start
from tests.soak.pipelines import PLAIN, Variant, document
from tests.soak.places import Place, count
from tests.soak.processes import block_children, gone, processes, send, workers

if TYPE_CHECKING:
    from tests.soak.lab import Lab, Reference

PATIENCE = 300.0  # seconds for a driver to end; it takes a few on an idle machine
HEARTBEAT = (0.2, 1.0)  # seconds between two, and seconds without one after which it is stale
PAUSE = 1.6  # seconds; longer than that
START = {"none": 0.4, "tcp": 0.8, "local": 4.0, "slurm": 8.0}
"""Seconds that a driver takes until its first block, about."""
OK, REFUSED, HELD, INTERRUPTED, KILLED = 0, 2, 4, 130, -int(signal.SIGKILL)


ENDING = -int(signal.SIGINT)
"""Of Ctrl-C when Python has put its own handlers away already; a shell shows 130 for it, too."""


class Complaint(NamedTuple):
    """Something that is wrong after a run."""

    kind: str
    """bytes, repeated, orphan, files, late, code or hang."""
    text: str


class Case:
    """A run in a folder of its own, or on S3."""

    def __init__(
        self, lab: Lab, seed: int, kind: str, executor: str, store: str, pipeline: str
    ) -> None:
        self.lab, self.seed, self.kind = lab, seed, kind
        self.executor, self.store, self.pipeline = executor, store, pipeline
        self.draw = random.Random(f"{seed} {kind}")
        self.folder = lab.folder / f"{seed}-{kind}"
        for name in ("trace", "tmp"):
            (self.folder / name).mkdir(parents=True)
        self.token = f"{lab.token}-{seed}-{kind}"
        self.run = lab.address(self.store, self.folder)
        self.complaints: list[Complaint] = []
        self.drivers: list[Driver] = []
        self.harmed = self.missed = 0
        self.note = ""

    # --- drivers ---------------------------------------------------------------------------------

    def start(
        self,
        variant: Variant = PLAIN,
        *,
        executor: str = "",
        place: str = "",
        run: str = "",
        shared: str = "",
        options: Collection[str] = (),
    ) -> Driver:
        """Start a driver.

        Parameters
        ----------
        variant : Variant
        executor : str
            Default: that of the case.
        place : str
            Name of a machine that the driver seems to run on; default: this one.
        run : str
            Address of another run than that of the case.
        shared : str
            Address of the layer `double`, if not in the run.
        options : collection of str
            More of the command line.
        """
        run, trace = run or self.run, str(self.folder / "trace")
        inputs = self.lab.inputs(self.store)
        more = {"volumes": {"double": {"path": f"precomputed://{shared}"}}} if shared else {}
        pipeline = document(self.pipeline, run, inputs, variant, trace, **more)
        file = self.folder / f"pipeline-{len(self.drivers)}.yaml"
        file.write_text(json.dumps(pipeline))
        cluster, environment = self.lab.cluster(executor or self.executor, self.folder)
        own = {"VOLFLOW_SOAK": self.token, "TMPDIR": str(self.folder / "tmp"), **environment}
        marked = Place(run).marked()
        traced = checks.trace(self, variant, marked)
        how = Start(
            ["run", str(file), *cluster, *options, "--quiet"],
            str(self.folder),
            str(self.folder / "log"),
            own,
            HEARTBEAT,
            place,
        )
        driver = self.lab.nursery.start(how)
        driver.marked = marked
        driver.traced_job, driver.traced = traced
        self.drivers.append(driver)
        return driver

    def end(
        self,
        driver: Driver,
        expected: Collection[int] = (OK,),
        *,
        run: str = "",
        again: bool = False,
    ) -> int:
        """Wait for a driver to end, and check its exit code and what it has run.

        With `again`, blocks that were marked when it started may be run once more.
        """
        code = driver.wait(PATIENCE)
        if code is None:
            self.complain("hang", f"driver {self._name(driver)} did not end in {PATIENCE:.0f} s")
            driver.signal(signal.SIGKILL)
            return driver.wait(60) or 0
        if code not in expected:
            wanted = " or ".join(map(str, sorted(expected)))
            self.complain("code", f"driver {self._name(driver)} ended with {code}, not {wanted}")
        if not again:
            checks.look_for_repeats(self, driver, Place(run or self.run))
        return code

    def resume(self, variant: Variant = PLAIN, executor: str = "") -> None:
        """Run to the end, in this process or as before."""
        chosen = executor or self.draw.choice(["none", "none", self.executor])
        self.end(self.start(variant, executor=chosen))

    # --- the harm --------------------------------------------------------------------------------

    def await_moment(self, driver: Driver, reference: Reference) -> bool:
        """Wait until a moment by chance: while it starts, or after some blocks.

        Returns
        -------
        bool
            Whether the driver still runs then.
        """
        early, share = self.draw.random() < 0.2, self.draw.uniform(0.0, 0.95)
        delay = self.draw.uniform(0.0, 0.06)
        place = Place(self.run)
        after = 1 + int(share * max(1, reference.blocks - count(driver.marked)))
        deadline = driver.started + (share * START[self.executor] if early else PATIENCE)
        while driver.poll() is None and time.monotonic() < deadline:
            if not early and count(place.marked(), driver.marked) >= after:
                break
            time.sleep(0.01 if self.store == "disk" else 0.05)
        time.sleep(0 if early else delay)
        alive = driver.poll() is None
        self.harmed += alive
        self.missed += not alive
        self.note = f"{self.note} after {count(place.marked())}".strip()
        return alive

    def members(self, kind: str) -> list:
        """The processes of a kind that may be harmed: child, worker or scheduler."""
        if kind == "scheduler":
            return list(self.lab.scheduler.hosts[:1])
        token = self.lab.scheduler.token if self.executor == "tcp" else self.token
        return block_children(token) if kind == "child" else workers(token)

    def strike(self, kind: str, number: int, driver: Driver) -> list:
        """Send a signal to one process of a kind; the process, or nothing if there was none."""
        deadline = time.monotonic() + 10
        while driver.poll() is None and time.monotonic() < deadline:
            members = self.members(kind)
            if members:
                chosen = [self.draw.choice(members)]
                if send(chosen, number):
                    return chosen
            time.sleep(0.02)
        self.harmed, self.missed = self.harmed - 1, self.missed + 1
        return []

    def holds(self, driver: Driver) -> bool:
        """Whether a driver holds the run."""
        return Place(self.run).holder() == driver.pid

    def wait_for_processes(self) -> None:
        """Wait until no process of the case is left."""
        gone(lambda: processes(self.token), checks.GOING)

    # --- the checks ------------------------------------------------------------------------------

    def complain(self, kind: str, text: str) -> None:
        """Record something that is wrong."""
        self.complaints.append(Complaint(kind, text))

    def _name(self, driver: Driver) -> str:
        return f"{self.drivers.index(driver) + 1} of {len(self.drivers)}"


def log_tail(folder: Path, length: int = 3000) -> str:
    """The end of the log of all drivers of a case."""
    try:
        return (folder / "log").read_text(errors="replace")[-length:]
    except OSError:
        return ""
