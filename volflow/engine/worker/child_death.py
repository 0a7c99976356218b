"""The death of a child process: the blocks it had finished are marked, its last one has failed."""

from __future__ import annotations

import signal
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.filesize import decimal

from volflow.engine.result import Failure
from volflow.engine.worker.outcome import Outcome
from volflow.engine.worker.shared_progress import PageContent

if TYPE_CHECKING:
    from volflow.engine.job import Job

KILLS_PER_BLOCK = 2  # one SIGKILL may come from outside; a second one is the block's fault
BETWEEN_BLOCKS = -1


@dataclass(frozen=True)
class Limits:
    """Limits of a block: time in seconds and memory in bytes; 0: none."""

    timeout: float = 0.0
    memory: int = 0


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Death:
    """End of a child process, and its progress until then."""

    progress: PageContent
    reason: str
    """exit, signal, timeout or memory."""
    code: int
    """Exit code; negative: the number of the signal."""
    limits: Limits

    @property
    def alone(self) -> bool:
        """Whether the block under way is the only suspect: no other one was being prefetched."""
        return self.progress.prefetching < 0 or self.reason == "timeout"

    @property
    def killed(self) -> bool:
        """Whether the process ended by a SIGKILL that its worker did not send."""
        return self.reason == "signal" and self.code == -signal.SIGKILL

    def message(self) -> str:
        """The reason as a sentence."""
        if self.reason == "timeout":
            return f"the block exceeded its time limit of {self.limits.timeout:g} s"
        if self.reason == "memory":
            return f"the block used more than {decimal(self.limits.memory)} "
        if self.reason == "signal":
            name = signal.Signals(-self.code).name
            outside = " (out of memory, or killed from outside)" if self.killed else ""
            return f"the block ended its process with signal {-self.code}, {name}{outside}"
        return f"the block ended its process with exit code {self.code}"


def record_death(
    job: Job, death: Death, start: int, *, total: Outcome, kills: Counter[int], log: str
) -> int:
    """Mark the blocks that a dead child finished, and record its last one as failed.

    Parameters
    ----------
    job : Job
    death : Death
    start : int
        First block of the range that the child was given.
    total : Outcome
        Updated.
    kills : Counter
        Number of deaths by block; updated.
    log : str
        End of the child's output, with the stack of its last block.

    Returns
    -------
    int
        Block from which to continue.
    """
    # Only now: this worker has imported nothing of what runs blocks.
    from volflow.engine.worker.block_range import mark_done, record_failure, recorded_failures

    number, unmarked = death.progress.number, death.progress.unmarked
    if number < 0:  # it died before the first block or between two
        kills[BETWEEN_BLOCKS] += 1
        if kills[BETWEEN_BLOCKS] < KILLS_PER_BLOCK:
            return start
        number = start
    if number > unmarked:
        mark_done(job, unmarked, number, {})
    earlier = recorded_failures(job, start, number)
    total.failures += earlier
    total.done += max(0, number - start - len(earlier))
    if not death.alone:
        return number
    kills[number] += 1
    if death.killed and kills[number] < KILLS_PER_BLOCK:
        return number
    index = job.phase.grid.index(number)
    failure = Failure(job.step, job.phase.name, index, death.reason, death.message(), log)
    total.failures.append(record_failure(job, number, failure))
    return number + 1
