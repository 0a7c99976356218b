"""A run that is hit by SIGKILL, and what may be wrong with it afterwards.

python -m tests.kills RUN CLUSTER       the driver that is hit: a pipeline seconds long
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.engine.runs import files, planned, toy
from volflow.engine.driver import execute
from volflow.engine.job import Plan

VICTIMS = ("child", "worker", "driver", "scheduler")
ROOT = Path(__file__).parents[1]
WORKERS = 2
PATIENCE = 400.0  # seconds for a driver to end; it takes ten on an idle machine
GOING = 120.0  # seconds in which all processes of a run have to end
COMPARED = ("index", "double", "blur", "records", "results")
IS_A_BLOCK_CHILD = "volflow.engine.worker.child_main"

Blocks = dict[str, set[int]]


def pipeline(run: Path) -> Plan:
    """Maps, a reduction and a grouping; `index` leaves a trace of each block in ./trace."""
    settings = {"trace": "trace", "seconds": 0.02}
    steps = [toy("Index", **{"with": settings}), toy("Double"), toy("Blur")]
    return planned(run, *steps, toy("Total"), toy("Digits"))


@dataclass
class Case:
    """One kill: who is hit, after how many blocks, and what came of it."""

    seed: int
    victim: str = ""
    after: int = 0
    at: int = 0
    """Blocks that were marked when it was hit; 0: it was not."""
    complaints: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        what = "; ".join(self.complaints) or "well"
        return f"seed {self.seed}: {self.victim} after {self.at} blocks: {what}"


def reference(folder: Path) -> dict[str, bytes]:
    """Files of the pipeline without a kill."""
    driver = subprocess.run(_command(folder, "none"), **_surroundings(folder), check=False)
    assert driver.returncode == 0
    return written(folder / "run")


def written(run: Path) -> dict[str, bytes]:
    """Files of the results of a run, without its ledger, events and report.

    The run's own address, which the owner of a layer contains, is replaced.
    """
    return {
        f"{name}/{path}": body.replace(str(run).encode(), b"RUN")
        for name in COMPARED
        for path, body in (files(run / name) if (run / name).exists() else {}).items()
    }


def kill(seed: int, folder: Path, wanted: dict[str, bytes], victim: str = "") -> Case:
    """Run the pipeline in a folder, kill one of its processes, resume, and check the result."""
    draw = random.Random(seed)
    drawn, share = draw.choice(VICTIMS), draw.uniform(0.02, 0.8)
    case = Case(seed, victim or drawn)
    run = folder / "run"
    case.after = max(1, int(share * sum(step.blocks for step in pipeline(run).steps)))
    for name in ("trace", "tmp"):
        (folder / name).mkdir(parents=True)
    family: dict[int, psutil.Process] = {}
    with _cluster(case.victim, folder) as (cluster, hosts):
        driver = subprocess.Popen(_command(folder, cluster), **_surroundings(folder))
        marked = _hit(case, driver, hosts, run, family, draw)
        traced = {index: _times(folder, index) for index in _indices(run, marked)}
        _await(driver, hosts, family, case)
        left_alone = driver.returncode == 0
    if case.victim in ("child", "worker") and not left_alone:
        case.complaints.append(f"its driver ended with {driver.returncode}")
    sessions = {path.name for path in (run / "events").iterdir()}
    if not left_alone:
        again = subprocess.run(_command(folder, "none"), **_surroundings(folder), check=False)
        if again.returncode:
            case.complaints.append(f"it was not resumed: {again.returncode}")
    _look_for_orphans(case, family)
    _look_for_repeats(case, run, marked, sessions)
    repeated = [index for index, times in traced.items() if _times(folder, index) != times]
    if repeated:
        case.complaints.append(f"marked blocks were done again: {repeated}")
    _compare(case, written(run), wanted)
    torn = [path for path in folder.rglob("*") if "__lock" in path.name]
    left = [path for path in (folder / "tmp").iterdir() if path.name != "dask-scratch-space"]
    if torn or left:
        case.complaints.append(f"files were left: {torn + left}")
    return case


def _hit(
    case: Case,
    driver: subprocess.Popen[bytes],
    hosts: list[psutil.Process],
    run: Path,
    family: dict[int, psutil.Process],
    draw: random.Random,
) -> Blocks:
    """Wait for the moment, kill, and return the blocks that were marked just before."""
    deadline = time.monotonic() + PATIENCE
    while driver.poll() is None and time.monotonic() < deadline:
        _meet(driver, hosts, family)
        marked = marked_blocks(run)
        count = sum(len(numbers) for numbers in marked.values())
        if count >= case.after:
            victims = _victims(case.victim, driver, hosts, family)
            with contextlib.suppress(ProcessLookupError):  # it ended by itself: another, then
                if victims:
                    os.kill(draw.choice(victims), signal.SIGKILL)
                    case.at = count
                    return marked
        time.sleep(0.02)
    case.complaints.append("no process was killed")
    return {}


def _victims(
    kind: str,
    driver: subprocess.Popen[bytes],
    hosts: list[psutil.Process],
    family: dict[int, psutil.Process],
) -> list[int]:
    if kind == "driver":
        return [driver.pid]
    if kind == "scheduler":
        return [hosts[0].pid]
    children = [process for process in family.values() if _is_child(process)]
    with contextlib.suppress(psutil.NoSuchProcess):
        found = {process.pid if kind == "child" else process.ppid() for process in children}
        return sorted(found & set(family))  # an orphan's parent is none of ours
    return []


def _is_child(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and IS_A_BLOCK_CHILD in process.cmdline()
    return False


def _meet(
    driver: subprocess.Popen[bytes], hosts: list[psutil.Process], family: dict[int, psutil.Process]
) -> None:
    """Get to know every process that belongs to the run now."""
    for head in (driver.pid, *(host.pid for host in hosts)):
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(head).children(recursive=True):
                family.setdefault(process.pid, process)


def _await(
    driver: subprocess.Popen[bytes],
    hosts: list[psutil.Process],
    family: dict[int, psutil.Process],
    case: Case,
) -> None:
    deadline = time.monotonic() + PATIENCE
    while driver.poll() is None and time.monotonic() < deadline:
        _meet(driver, hosts, family)
        time.sleep(0.1)
    if driver.poll() is None:
        case.complaints.append("its driver did not end")
        driver.kill()
    driver.wait()


def _look_for_orphans(case: Case, family: dict[int, psutil.Process]) -> None:
    _, alive = psutil.wait_procs(list(family.values()), timeout=GOING)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            case.complaints.append(f"an orphan: {' '.join(process.cmdline())[:200]}")
            process.kill()


def _look_for_repeats(case: Case, run: Path, marked: Blocks, before: set[str]) -> None:
    """No range of a later session may hold a block that was marked before the kill."""
    from volflow.engine.monitor.event_log import read_events
    from volflow.engine.monitor.events import RangeEnds

    digests = {step.name: step.digest for step in pipeline(run).steps}
    for session in {path.name for path in (run / "events").iterdir()} - before:
        for _, event in read_events(str(run), session):
            if isinstance(event, RangeEnds):
                path = f"{event.step}/{digests[event.step]}/{event.phase}"
                again = marked.get(path, set()) & set(range(event.start, event.stop))
                if again:
                    case.complaints.append(f"{path}: marked and handed out again: {again}")


def _compare(case: Case, found: dict[str, bytes], wanted: dict[str, bytes]) -> None:
    if found != wanted:
        names = sorted(set(found) ^ set(wanted))
        names += [name for name in set(found) & set(wanted) if found[name] != wanted[name]]
        case.complaints.append(f"{len(names)} files differ, such as {names[:3]}")


def marked_blocks(run: Path) -> Blocks:
    """The blocks that have a marker, by job."""
    found: Blocks = {}
    for path in run.glob("ledger/*/*/*/done/*"):
        name = re.fullmatch(r"(\d+)-(\d+)", path.name)
        if name:
            job = "/".join(path.parts[-5:-2])
            found.setdefault(job, set()).update(range(int(name[1]), int(name[2])))
    return found


def _indices(run: Path, marked: Blocks) -> list[str]:
    """The marked blocks of `index`, as their traces are named."""
    grid = pipeline(run).step("index").jobs[0].phase.grid
    numbers = [n for path, found in marked.items() if path.startswith("index/") for n in found]
    return ["-".join(map(str, grid.index(number))) for number in numbers]


def _times(folder: Path, index: str) -> int:
    return len(list((folder / "trace").glob(f"{index}.*")))


@contextlib.contextmanager
def _cluster(victim: str, folder: Path) -> Iterator[tuple[str, list[psutil.Process]]]:
    """Cluster argument of the driver, and the processes of a cluster that it does not start."""
    if victim != "scheduler":
        yield "local", []
        return
    place = folder / "scheduler.json"
    common = ["--scheduler-file", str(place), "--no-dashboard"]
    commands = [["dask_scheduler", "--host", "127.0.0.1", "--port", "0", *common]]
    worker = ["dask_worker", "--nthreads", "1", "--death-timeout", "120", *common]
    commands += [worker] * WORKERS
    hosts: list[psutil.Process] = []
    try:
        for name, *options in commands:
            command = [sys.executable, "-m", f"distributed.cli.{name}", *options]
            hosts.append(psutil.Popen(command, **_surroundings(folder)))
            while not (address := _address(place)):
                time.sleep(0.1)
        yield address, hosts
    finally:
        for host in reversed(hosts):
            with contextlib.suppress(psutil.NoSuchProcess):
                host.terminate()
        psutil.wait_procs(hosts, timeout=GOING)


def _address(place: Path) -> str:
    """The address in a scheduler's file; empty while it is not written."""
    try:
        return str(json.loads(place.read_text())["address"])
    except (OSError, ValueError):
        return ""


def _command(folder: Path, cluster: str) -> list[str]:
    return [sys.executable, "-m", "tests.kills", str(folder / "run"), cluster]


def _surroundings(folder: Path) -> dict[str, Any]:
    """A case's own folder for temporary files, and the same relative paths for all cases."""
    for name in ("trace", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    own = {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1"}
    with open(folder / "log", "ab") as log:
        descriptor = os.dup(log.fileno())
    return {"cwd": folder, "env": {**os.environ, **own}, "stdout": descriptor, "stderr": descriptor}


def main() -> int:
    plan = pipeline(Path(sys.argv[1]))
    return 0 if execute(plan, cluster=sys.argv[2], workers=WORKERS).ok else 3


if __name__ == "__main__":
    sys.exit(main())
