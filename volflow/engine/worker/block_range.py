"""Run a range of blocks one after another; mark those that are done, record those that fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from volflow.core.block_progress import listening
from volflow.core.stage.faults import error_text, exit_call, traceback_text
from volflow.engine.fence import require_current
from volflow.engine.job import Job
from volflow.engine.phases.kind import BlockInputs
from volflow.engine.phases.registry import read_block, run_block
from volflow.engine.result import Failure
from volflow.engine.worker.disk_full import is_full, translate_disk_full
from volflow.engine.worker.memory import peak_memory, reset_peak
from volflow.engine.worker.outcome import Outcome, Progress
from volflow.engine.worker.prefetch import Prefetcher
from volflow.errors import BlockError, RunHeld, StorageError
from volflow.io.run.ledger import Ledger

MARK_EVERY = 2.0  # seconds of work that is repeated, at most, if the worker is killed


def job_path(job: Job) -> str:
    """Path of a job's markers in the ledger."""
    return f"{job.step}/{job.digest}/{job.phase.name}"


def run_range(
    job: Job,
    start: int,
    stop: int,
    progress: Progress | None = None,
    tolerate: bool = True,
    prefetch: bool = True,
) -> Outcome:
    """Run the blocks `start` to `stop` of a job; mark them as they are done.

    A block that raises is tried `job.attempts` times, then recorded as failed, and the next blocks
    run; so is one that calls `sys.exit`. A full disk ends the range instead: no other block could
    be written either.

    Parameters
    ----------
    job : Job
    start, stop : int
        Half-open range of block numbers.
    progress : Progress, optional
    tolerate : bool
        False: an exception is raised instead of recorded, for a debugger.
    prefetch : bool
        Whether a map may read the next block while it computes one; it does so only if the job's
        plan leaves memory for it.

    Raises
    ------
    StorageFull
        If no space is left at the run or a volume.
    RunHeld
        If the driver that handed out the job has lost the run: nothing more is written, marked or
        recorded as failed.
    StorageError
        If a marker cannot be written.
    """
    require_current(job)
    with translate_disk_full(job.run, f"step '{job.step}', phase '{job.phase.name}': "):
        return _run_range(job, start, stop, progress or Progress(), tolerate, prefetch)


def _run_range(
    job: Job, start: int, stop: int, progress: Progress, tolerate: bool, prefetch: bool
) -> Outcome:
    started = time.monotonic()
    markers = _Markers(job, start, progress)
    outcome = Outcome(start=start, stop=stop)
    reader = None
    if prefetch and job.prefetch and job.sources and job.phase.part is None:
        reader = Prefetcher(partial(read_block, job), stop, progress.prefetches)
    inputs = None if reader is None else reader.take
    try:
        with listening(progress.parts):
            for number in range(start, stop):
                progress.begin(number)
                failure = _attempt(job, number, inputs, markers.costs, progress, tolerate)
                if failure is None:
                    outcome.done += 1
                    markers.extend(number + 1)
                else:
                    markers.flush()
                    outcome.failures.append(record_failure(job, number, failure))
                    markers.skip(number)
    finally:
        if reader is not None:
            reader.close()
        markers.flush()
    total = markers.total
    outcome.voxels, outcome.empty = int(total["voxels"]), int(total["empty"])
    outcome.seconds, outcome.cpu = float(total["seconds"]), float(total["cpu"])
    outcome.peak = int(total["peak"])
    outcome.wall = time.monotonic() - started
    return outcome


def _attempt(
    job: Job,
    number: int,
    prefetched: Callable[[int], BlockInputs] | None,
    costs: dict[str, float],
    progress: Progress,
    tolerate: bool,
) -> Failure | None:
    """Run one block and add its costs; return its failure after the last attempt."""
    for attempt in range(1, job.attempts + 1):
        started, cpu_started = time.perf_counter(), time.process_time()
        try:
            cost = run_block(job, number, prefetched)
        except Exception as error:
            if not tolerate or is_full(error) or isinstance(error, RunHeld):
                raise
            failure = _failure(job, number, error)
        except BaseException as error:  # SystemExit, GeneratorExit and a stage's own
            if isinstance(error, KeyboardInterrupt) and progress.interrupted:
                raise
            failure = _failure(job, number, error)
            if not tolerate:
                raise BlockError(failure.error) from error
        else:
            costs["seconds"] = costs.get("seconds", 0.0) + time.perf_counter() - started
            costs["cpu"] = costs.get("cpu", 0.0) + time.process_time() - cpu_started
            for name, value in cost.items():
                costs[name] = costs.get(name, 0) + value
                if name.startswith("passed"):
                    costs[f"max.{name}"] = max(costs.get(f"max.{name}", 0), value)
            return None
        if attempt == job.attempts:
            return failure
    raise AssertionError("unreachable: attempts is at least one")


def _failure(job: Job, number: int, error: BaseException) -> Failure:
    reason = "storage" if isinstance(error, StorageError) else "exception"
    message, call = error_text(error), exit_call(error)
    if call:
        reason, message = "exit", f"the block called {call}"
    index = job.phase.grid.index(number)
    return Failure(job.step, job.phase.name, index, reason, message, traceback_text(error))


def record_failure(job: Job, number: int, failure: Failure) -> Failure:
    """Write a failure into the ledger, and return it."""
    require_current(job)
    body = {"reason": failure.reason, "error": failure.error, "traceback": failure.traceback}
    Ledger(job.run).mark_failed(job_path(job), number, {"index": failure.index, **body})
    return failure


def mark_done(job: Job, start: int, stop: int, costs: dict[str, float]) -> None:
    """Mark blocks of a job as done, unless its driver has lost the run."""
    require_current(job)
    Ledger(job.run).mark_done(job_path(job), start, stop, costs)


def recorded_failures(job: Job, start: int = 0, stop: int | None = None) -> list[Failure]:
    """Failures in the ledger for a job, or for a range of its blocks."""
    failed = Ledger(job.run).failed(job_path(job))
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
        for number, body in sorted(failed.items())
        if start <= number < stop
    ]


class _Markers:
    """Markers of the contiguous runs of finished blocks in a range."""

    def __init__(self, job: Job, start: int, progress: Progress) -> None:
        self.job, self.progress = job, progress
        self.start = self.stop = start
        self.costs: dict[str, float] = {}
        self.total = dict.fromkeys(("voxels", "empty", "seconds", "cpu", "peak"), 0.0)
        self.due = time.monotonic() + MARK_EVERY
        reset_peak()

    def extend(self, stop: int) -> None:
        """Add the blocks up to `stop`; write a marker now and then."""
        self.stop = stop
        if time.monotonic() > self.due:
            self.flush()

    def flush(self) -> None:
        """Write the marker of the blocks since the last one."""
        if self.stop > self.start:
            self.costs["peak"] = peak_memory()
            mark_done(self.job, self.start, self.stop, self.costs)
            for name in ("voxels", "empty", "seconds", "cpu"):
                self.total[name] += self.costs.get(name, 0)
            self.total["peak"] = max(self.total["peak"], self.costs["peak"])
            self.start = self.stop
            self.costs.clear()
            reset_peak()
        self.progress.marked(self.start)
        self.due = time.monotonic() + MARK_EVERY

    def skip(self, number: int) -> None:
        """Leave out a block that failed."""
        self.start = self.stop = number + 1
        self.progress.marked(self.start)


def contiguous(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Contiguous half-open ranges of sorted numbers."""
    start = previous = None
    for number in numbers:
        if previous is None or number != previous + 1:
            if previous is not None and start is not None:
                yield start, previous + 1
            start = number
        previous = number
    if previous is not None and start is not None:
        yield start, previous + 1
