"""Checks after the drivers of a case: bytes, repeated blocks, processes, files."""

from __future__ import annotations

import re
import signal
from collections.abc import Collection
from typing import TYPE_CHECKING

from tests.soak.drivers import Blocks, Driver
from tests.soak.pipelines import PLAIN, Variant, index_names
from tests.soak.places import OWNER, Place
from tests.soak.processes import gone, processes, send

if TYPE_CHECKING:
    from tests.soak.case import Case

GOING = 90.0  # seconds in which all processes of a run have to end
AT_WORK = 3  # files that were being written when a process was stopped: nothing can stop those
SCRATCH = re.compile(r"dask-scratch-space|volflow-\w{8}")
"""Folders that Dask leaves behind, and that of a Slurm job which took too long to end."""


def finish(case: Case, variant: Variant = PLAIN) -> None:
    """Check a run that is done: its bytes, that nothing is left to do, and what it leaves."""
    compare(case, variant)
    if case.store == "disk" and case.draw.random() < 0.5:
        last = case.start(variant, executor="none")
        case.end(last)
        if list(Place(case.run).ranges(last.pid)):
            case.complain("repeated", "a run that was done had blocks to run")
    look_for_leftovers(case)


def compare(case: Case, variant: Variant, run: str = "", *, layers: Collection[str] = ()) -> None:
    """Compare the files of the results with those of an undisturbed run.

    With `layers`, only the files of those are compared, and not their owners.
    """
    wanted = case.lab.reference(case.store, case.pipeline, variant).sums
    sums = Place(run or case.run).sums()
    if layers:
        wanted, sums = (_of(each, layers) for each in (wanted, sums))
    _compare(case, sums, wanted)


def compare_layer(case: Case, variant: Variant, address: str, layer: str) -> None:
    """Compare the files of a layer that is outside of the run, without its owner."""
    wanted = case.lab.reference(case.store, case.pipeline, variant).sums
    sums = {f"{layer}/{name}": text for name, text in Place(address).sums(True).items()}
    _compare(case, *(_of(each, [layer]) for each in (sums, wanted)))


def _of(sums: dict[str, str], layers: Collection[str]) -> dict[str, str]:
    folders = tuple(f"{layer}/" for layer in layers)
    return {n: text for n, text in sums.items() if n.startswith(folders) and OWNER not in n}


def _compare(case: Case, sums: dict[str, str], wanted: dict[str, str]) -> None:
    many, few = set(sums) - set(wanted), set(wanted) - set(sums)
    other = {name for name in set(sums) & set(wanted) if sums[name] != wanted[name]}
    for what, names in (("too many", many), ("missing", few), ("with other bytes", other)):
        if names:
            case.complain("bytes", f"{len(names)} files {what}: {sorted(names)[:4]}")


def look_for_leftovers(case: Case) -> None:
    """Look for processes, jobs and files that no run should leave."""
    place = Place(case.run)
    left = [f"{each}" for each in gone(lambda: processes(case.token), GOING)]
    send(processes(case.token), signal.SIGKILL)
    for each in left + case.lab.leftovers(case.executor):
        case.complain("orphan", each)
    if place.holder():
        case.complain("files", "the lock is still there")
    known = case.lab.reference(case.store, case.pipeline, PLAIN).top
    odd = sorted({name.partition("/")[0] for name in place.names()} - known - {"logs"})
    temporary = [p.name for p in (case.folder / "tmp").iterdir() if not SCRATCH.fullmatch(p.name)]
    torn = [path.name for path in case.folder.rglob("*__lock")]
    if odd + temporary + torn:
        case.complain("files", f"files were left: {odd + temporary + torn}")


def look_for_late_writes(case: Case, before: dict[str, int]) -> None:
    """Look for files that a driver or its tasks have written after it had lost the run."""
    after = Place(case.run).written()
    late = sorted(name for name in after if after[name] != before.get(name))
    deleted = sorted(set(before) - set(after))
    if len(late) > AT_WORK or deleted:
        text = f"{len(late)} files written {late[:4]}, {len(deleted)} deleted {deleted[:4]}"
        case.complain("late", text)
    elif late:
        case.note += f", {len(late)} files at work"


def look_for_repeats(case: Case, driver: Driver, place: Place) -> None:
    """No range of a driver may hold a block that was marked before it started."""
    for job, numbers in place.ranges(driver.pid):
        again = driver.marked.get(job, set()) & set(numbers)
        if again:
            case.complain("repeated", f"{job}: marked, and handed out again: {sorted(again)}")
    if driver.traced_job.split("/")[1:2] == [place.digests().get("index")]:
        repeated = [name for name, times in driver.traced.items() if run_times(case, name) != times]
        if repeated:
            case.complain("repeated", f"marked blocks of index were run again: {repeated}")


def trace(case: Case, variant: Variant, marked: Blocks) -> tuple[str, dict[str, int]]:
    """The job of `index` that has markers, and how often each of its marked blocks was run."""
    names = index_names(case.pipeline, case.run, variant)
    for job, numbers in marked.items():
        if job.startswith("index/"):  # of one digest: markers of another one are deleted
            return job, {names[n]: run_times(case, names[n]) for n in numbers if n < len(names)}
    return "", {}


def run_times(case: Case, name: str) -> int:
    """Number of times that a block of `index` was run."""
    return len(list((case.folder / "trace").glob(f"{name}.*")))
