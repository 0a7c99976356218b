"""A range of blocks: one after another, marked as they are done, failures written down."""

from __future__ import annotations

import contextlib
import errno
import resource
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from volflow.engine.job import Job
from volflow.engine.phases.kind import BlockInputs
from volflow.engine.phases.registry import read_block, run_block
from volflow.engine.result import Failure
from volflow.engine.worker.prefetch import Prefetcher
from volflow.errors import StorageError, StorageFull
from volflow.io.run.ledger import Ledger

FULL = ("No space left on device", "Disk quota exceeded")  # as tensorstore passes it on
MARK_EVERY = 2.0  # seconds of work that a killed worker may have to do again


@dataclass
class Outcome:
    """What became of a range of blocks; small, because it travels to the driver."""

    done: int = 0
    empty: int = 0
    voxels: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    """Seconds of processors, of all threads; does not depend on who else uses the machine."""
    peak: int = 0
    failures: list[Failure] = field(default_factory=list)
    start: int = 0
    stop: int = 0
    """The range that was handed out; `add` leaves it alone."""
    wall: float = 0.0
    """Seconds from the first block to the last marker, on the worker."""
    worker: str = ""
    """Host and process; empty in the driver's own."""
    again: list[tuple[int, int]] = field(default_factory=list)
    """Ranges that have to be handed out again, because their worker was lost."""

    def add(self, other: Outcome) -> None:
        """Count another range's outcome in."""
        self.done += other.done
        self.empty += other.empty
        self.voxels += other.voxels
        self.seconds += other.seconds
        self.cpu += other.cpu
        self.peak = max(self.peak, other.peak)
        self.failures += other.failures


class Progress:
    """Told where a range stands, so that a parent process can tell which block ended its child."""

    def begin(self, number: int) -> None:
        """Work on this block begins; those before it are written."""

    def prefetches(self, number: int) -> None:
        """A block begins to be read beside the one under way."""

    def marked(self, number: int) -> None:
        """Every block below this number is marked, or reported as failed."""


def job_path(job: Job) -> str:
    """Where the ledger keeps the markers of a job."""
    return f"{job.step}/{job.digest}/{job.phase.name}"


def run_range(
    job: Job,
    start: int,
    stop: int,
    progress: Progress | None = None,
    tolerate: bool = True,
    ahead: bool = True,
) -> Outcome:
    """Do the blocks `start` to `stop` of a job, marking runs of finished ones as it goes.

    A block that raises is tried `job.attempts` times, then recorded as failed, and the others
    go on, unless there is no room left: no other block could be written either. With `tolerate`
    False the exception leaves instead (for a debugger). A map reads the next block while it
    computes one, unless `ahead` is False or memory is short.

    Raises
    ------
    StorageFull
        If there is no room left where the run is written.
    StorageError
        If a marker cannot be written.
    """
    with translate_disk_full(job.run, f"step '{job.step}', pass '{job.phase.name}': "):
        return _run_range(job, start, stop, progress or Progress(), tolerate, ahead)


@contextlib.contextmanager
def translate_disk_full(run: str, where: str = "") -> Iterator[None]:
    """Say in words that a disk or a quota is full, and what to do, whatever found it so.

    Parameters
    ----------
    run : str
    where : str
        What the sentence begins with.

    Raises
    ------
    StorageFull
    """
    try:
        yield
    except StorageFull:
        raise
    except (OSError, StorageError) as error:
        if not is_full(error):
            raise
        raise StorageFull(
            f"{where}there is no room left: {error}\n"
            f"make room and run again, or: volflow retry {run}"
        ) from error


def _run_range(
    job: Job, start: int, stop: int, progress: Progress, tolerate: bool, ahead: bool
) -> Outcome:
    begun = time.monotonic()
    marks = _Marks(job, start, progress)
    outcome = Outcome(start=start, stop=stop)
    ahead = ahead and job.prefetch and bool(job.sources) and job.phase.part is None
    reader = Prefetcher(lambda number: read_block(job, number), stop, progress.prefetches, ahead)
    try:
        for number in range(start, stop):
            progress.begin(number)
            failure = _attempt(job, number, reader, marks.costs, tolerate)
            if failure is None:
                outcome.done += 1
                marks.up_to(number + 1)
            else:
                marks.flush()
                outcome.failures.append(record_failure(job, number, failure))
                marks.skip(number)
    finally:
        reader.close()
        marks.flush()
    total = marks.total
    outcome.voxels, outcome.empty = int(total["voxels"]), int(total["empty"])
    outcome.seconds, outcome.cpu = float(total["seconds"]), float(total["cpu"])
    outcome.peak = int(total["peak"])
    outcome.wall = time.monotonic() - begun
    return outcome


def _attempt(
    job: Job, number: int, reader: Prefetcher[BlockInputs], costs: dict[str, float], tolerate: bool
) -> Failure | None:
    """Run one block, count its costs in, and say why it failed if it did."""
    for attempt in range(1, job.attempts + 1):
        begun, worked = time.perf_counter(), time.process_time()
        try:
            cost = run_block(job, number, reader.take)
        except Exception as error:
            if not tolerate or is_full(error):
                raise
            if attempt == job.attempts:
                return _failure(job, number, error)
        else:
            costs["seconds"] = costs.get("seconds", 0.0) + time.perf_counter() - begun
            costs["cpu"] = costs.get("cpu", 0.0) + time.process_time() - worked
            for name, value in cost.items():
                costs[name] = costs.get(name, 0) + value
                if name.startswith("passed"):
                    costs[f"max.{name}"] = max(costs.get(f"max.{name}", 0), value)
            return None
    raise AssertionError("unreachable: attempts is at least one")


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, says that a disk or a quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(error, StorageError) and any(text in str(error) for text in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def _failure(job: Job, number: int, error: Exception) -> Failure:
    reason = "storage" if isinstance(error, StorageError) else "exception"
    index = job.phase.grid.index(number)
    message = f"{type(error).__name__}: {error}"
    return Failure(job.step, job.phase.name, index, reason, message, traceback.format_exc())


def record_failure(job: Job, number: int, failure: Failure) -> Failure:
    """Write a failure into the ledger."""
    body = {"reason": failure.reason, "error": failure.error, "traceback": failure.traceback}
    Ledger(job.run).mark_failed(job_path(job), number, {"index": failure.index, **body})
    return failure


def recorded_failures(job: Job, start: int = 0, stop: int | None = None) -> list[Failure]:
    """The failures that the ledger holds for a job, or for a range of its blocks."""
    found = Ledger(job.run).failed(job_path(job))
    stop = len(job.phase.grid) if stop is None else stop
    return [
        Failure(
            job.step,
            job.phase.name,
            job.phase.grid.index(number),
            body["reason"],
            body["error"],
            body["traceback"],
        )
        for number, body in sorted(found.items())
        if start <= number < stop
    ]


class _Marks:
    """Markers of the contiguous runs of finished blocks in a range."""

    def __init__(self, job: Job, start: int, progress: Progress) -> None:
        self.ledger, self.path, self.progress = Ledger(job.run), job_path(job), progress
        self.start = self.stop = start
        self.costs: dict[str, float] = {}
        self.total = dict.fromkeys(("voxels", "empty", "seconds", "cpu", "peak"), 0.0)
        self.due = time.monotonic() + MARK_EVERY
        reset_peak()

    def up_to(self, stop: int) -> None:
        self.stop = stop
        if time.monotonic() > self.due:
            self.flush()

    def flush(self) -> None:
        if self.stop > self.start:
            self.costs["peak"] = peak_memory()
            self.ledger.mark_done(self.path, self.start, self.stop, self.costs)
            for name in ("voxels", "empty", "seconds", "cpu"):
                self.total[name] += self.costs.get(name, 0)
            self.total["peak"] = max(self.total["peak"], self.costs["peak"])
            self.start = self.stop
            self.costs.clear()
            reset_peak()
        self.progress.marked(self.start)
        self.due = time.monotonic() + MARK_EVERY

    def skip(self, number: int) -> None:
        self.start = self.stop = number + 1
        self.progress.marked(self.start)


def reset_peak() -> None:
    """Forget the peak of this process's memory, where the kernel lets us."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> int:
    """Bytes of this process's resident memory at its peak since `reset_peak`."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def contiguous(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Contiguous half-open runs of sorted numbers."""
    start = previous = None
    for number in numbers:
        if previous is None or number != previous + 1:
            if previous is not None and start is not None:
                yield start, previous + 1
            start = number
        previous = number
    if previous is not None and start is not None:
        yield start, previous + 1
