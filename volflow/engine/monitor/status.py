"""Where a run stands, from any shell, during it and afterwards: its ledger and little else.

`outline.json` says which steps and passes there are, the ledger what is done and what failed,
`progress.json` what the driver has handed out, if there is a driver.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from volflow.core.geometry import zyx
from volflow.engine.monitor.watchdog import PROGRESS
from volflow.engine.result import Failure
from volflow.errors import PlanError
from volflow.io.run.ledger import Ledger
from volflow.io.run.lock import RunLock
from volflow.io.store import Store

FRESH = 60.0  # seconds after which a driver's word of what is under way counts no more

Range = tuple[int, int]


@dataclass
class StepStatus:
    """Blocks of a step: `done + failed + running + blocked + left == total`."""

    name: str
    total: int
    done: int = 0
    failed: int = 0
    running: int = 0
    """Handed out to workers."""
    blocked: int = 0
    """Behind blocks that failed: not started until those are done."""
    seconds: float = 0.0
    """Work, of all workers together; an estimate where a pass has very many markers."""
    causes: dict[str, int] = field(default_factory=dict)
    """Failed blocks by reason."""

    @property
    def left(self) -> int:
        """Blocks that nothing is known of, and nothing keeps from being done."""
        return self.total - self.done - self.failed - self.running - self.blocked


@dataclass(frozen=True)
class RunStatus:
    """A run as it stands; `holder` is whoever drives it, None if nobody does."""

    run: str
    steps: list[StepStatus]
    failures: list[Failure]
    holder: dict[str, Any] | None = None
    step: str = ""
    """The step under way."""
    workers: int = 0
    blocks_per_second: float = 0.0
    quiet: float = 0.0
    """Seconds since something was finished."""

    @property
    def finished(self) -> bool:
        """Whether every block of every step is done."""
        return all(step.done == step.total for step in self.steps)

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the step under way will take if it goes on as now; None if unknown."""
        for step in self.steps:
            if step.name == self.step and self.blocks_per_second > 0:
                return (step.left + step.running) / self.blocks_per_second
        return None


def outline(run: str) -> list[dict[str, Any]]:
    """The steps of a run as its driver wrote them down: `name`, `digest`, `after`, `passes`.

    Raises
    ------
    PlanError
        If nothing was ever run there.
    """
    found = Store(run).read_json("outline.json")
    if found is None:
        raise PlanError(f"{run} holds no run (it has no outline.json)")
    steps: list[dict[str, Any]] = found["steps"]
    return steps


def status(run: str) -> RunStatus:
    """Where a run stands.

    Raises
    ------
    PlanError
        If nothing was ever run there.
    """
    steps, ledger = outline(run), Ledger(run)
    holder = RunLock(run).living()
    now = _progress(run) if holder else {}
    failures: list[Failure] = []
    found: list[StepStatus] = []
    behind = False  # a failure before: the driver does not come here
    for step in steps:
        counted = StepStatus(step["name"], 0)
        for phase, count in step["passes"]:
            path = f"{step['name']}/{step['digest']}/{phase}"
            (done, seconds), failed = ledger.progress(path), ledger.failed(path)
            handed = now.get("under_way", []) if now.get("job") == path else []
            running = _open(handed, done, failed)
            finished = sum(stop - start for start, stop in done)
            rest = count - finished - len(failed) - running
            counted.total += count
            counted.done += finished
            counted.failed += len(failed)
            counted.running += running
            counted.blocked += rest if behind else 0
            counted.seconds += seconds
            failures += [_failure(step["name"], phase, body) for _, body in sorted(failed.items())]
            behind = behind or bool(failed)
        reasons = Counter(each.reason for each in failures if each.step == counted.name)
        counted.causes = dict(sorted(reasons.items()))
        found.append(counted)
    return RunStatus(
        run,
        found,
        failures,
        holder,
        now.get("step", ""),
        now.get("workers", 0),
        now.get("blocks_per_second", 0.0),
        now.get("quiet", 0.0),
    )


def as_json(found: RunStatus) -> dict[str, Any]:
    """A status for programs: the numbers of `RunStatus` and `StepStatus` under the same names."""
    names = ("name", "total", "done", "failed", "running", "blocked", "left", "seconds", "causes")
    return {
        "run": found.run,
        "finished": found.finished,
        "held_by": found.holder,
        "step": found.step,
        "workers": found.workers,
        "blocks_per_second": found.blocks_per_second,
        "seconds_left": found.seconds_left,
        "quiet": found.quiet,
        "steps": [{name: getattr(step, name) for name in names} for step in found.steps],
        "failures": [
            {
                "step": each.step,
                "pass": each.phase,
                "index": list(each.index),
                "reason": each.reason,
                "error": each.error,
            }
            for each in found.failures
        ],
    }


def _progress(run: str) -> dict[str, Any]:
    """What the driver last said of what is under way; empty if that is long ago."""
    found = Store(run).read_json(PROGRESS)
    if not isinstance(found, dict) or abs(time.time() - found.get("time", 0)) > FRESH:
        return {}
    return found


def _open(handed: Sequence[Range], done: Sequence[Range], failed: Mapping[int, object]) -> int:
    """Blocks in ranges that were handed out and are neither done nor failed."""
    count = 0
    for start, stop in handed:
        inside = [(max(a, start), min(b, stop)) for a, b in done if a < stop and b > start]
        count += stop - start - sum(b - a for a, b in inside)
        count -= sum(start <= number < stop for number in failed)
    return count


def _failure(step: str, phase: str, body: Mapping[str, Any]) -> Failure:
    return Failure(
        step, phase, zyx(body["index"]), body["reason"], body["error"], body["traceback"]
    )
