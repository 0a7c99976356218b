"""The outcome of a range whose worker was lost, as the ledger has it."""

from __future__ import annotations

from volflow.engine.job import Job
from volflow.engine.worker.block_range import contiguous, job_path, recorded_failures
from volflow.engine.worker.outcome import Outcome
from volflow.io.run.ledger import Ledger


def outcome_by_ledger(job: Job, piece: tuple[int, int]) -> Outcome:
    """Outcome of a range according to the ledger; `again` lists its unfinished blocks."""
    start, stop = piece
    failures = recorded_failures(job, start, stop)
    settled = {job.phase.grid.number(failure.index) for failure in failures}
    done = 0
    for first, last in Ledger(job.run).done(job_path(job)):
        inside = range(max(first, start), min(last, stop))
        done += len(inside)
        settled.update(inside)
    missing = [number for number in range(start, stop) if number not in settled]
    again = list(contiguous(missing))
    return Outcome(done=done, failures=failures, start=start, stop=stop, again=again)
