"""History of a run by its event log: time line, throughput, losses, and the work of each worker.

The log of a week may be long, so it is read once and only sums are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from volflow.engine.monitor import events
from volflow.engine.monitor.event_log import read_events

MOST_BINS = 240  # of the time line; an even number


@dataclass
class Bins:
    """Counts over time in at most `MOST_BINS` bins, which double in width as time passes."""

    origin: float
    width: float = 1.0
    counts: list[int] = field(default_factory=list)

    def add(self, time: float, count: int) -> None:
        """Add a count at a time."""
        place = max(0, int((time - self.origin) / self.width))
        while place >= MOST_BINS:
            self.counts += [0] * (len(self.counts) % 2)
            pairs = zip(self.counts[0::2], self.counts[1::2], strict=True)
            self.counts = [a + b for a, b in pairs]
            self.width *= 2
            place = int((time - self.origin) / self.width)
        self.counts += [0] * (place + 1 - len(self.counts))
        self.counts[place] += count


class _Sums:
    """Sums over the events of a run."""

    def __init__(self, time: float) -> None:
        self.bins = Bins(time)
        self.sessions = self.again = self.stalls = self.failed = 0
        self.lost: set[str] = set()
        """Lost workers that have not come back under the same name."""
        self.lost_before = 0
        """Lost workers of earlier sessions, whose names may recur."""
        self.spans: list[dict[str, Any]] = []
        self.workers: dict[str, list[float]] = {}

    def add(self, time: float, event: events.Event) -> None:
        match event:
            case events.RunBegins():
                self.sessions += 1
                self.lost_before += len(self.lost)
                self.lost.clear()
            case events.RangeEnds():
                self.bins.add(time, event.done)
                worker = self.workers.setdefault(event.worker or "this process", [0, 0.0])
                worker[0] += event.done
                worker[1] += event.wall
            case events.RangeLost():
                self.again += 1
            case events.Stall():
                self.stalls += 1
            case events.BlockFailed():
                self.failed += 1
            case events.WorkersChange():
                self.lost = (self.lost | set(event.lost)) - set(event.joined)
            case events.StepBegins():
                self.spans.append({"step": event.step, "begun": time, "ended": None})
            case events.StepEnds():
                if self.spans and self.spans[-1]["step"] == event.step:
                    self.spans[-1]["ended"] = time
            case _:
                pass


def history(run: str) -> dict[str, Any]:
    """Sums over the event log of a run, all of its sessions together, for JSON.

    Returns
    -------
    dict
        `begun` and `ended` (seconds since 1970), `sessions`, `again` (ranges handed out again),
        `lost` (workers that did not come back), `stalls`, `failed` (blocks, counted each time that
        one failed), `spans` (of steps: `step`, `begun`, `ended`), `blocks` (done, in bins of
        `every` seconds), and `workers`: `name`, `blocks`, `seconds` of work. Empty without a log.
    """
    sums: _Sums | None = None
    time = 0.0
    for time, event in read_events(run):
        sums = sums or _Sums(time)
        sums.add(time, event)
    if sums is None:
        return {}
    for span in sums.spans:
        span["ended"] = span["ended"] or time
    return {
        "begun": sums.bins.origin,
        "ended": time,
        "sessions": sums.sessions,
        "again": sums.again,
        "lost": sums.lost_before + len(sums.lost),
        "stalls": sums.stalls,
        "failed": sums.failed,
        "spans": [span for span in sums.spans if span["ended"] > span["begun"]],
        "every": sums.bins.width,
        "blocks": sums.bins.counts,
        "workers": [
            {"name": name, "blocks": int(blocks), "seconds": round(seconds, 2)}
            for name, (blocks, seconds) in sorted(sums.workers.items())
        ],
    }


def seconds_by_step(history: dict[str, Any]) -> dict[str, float]:
    """Time that each step took in all sessions together, in seconds."""
    seconds: dict[str, float] = {}
    for span in history.get("spans", []):
        seconds[span["step"]] = seconds.get(span["step"], 0.0) + span["ended"] - span["begun"]
    return seconds
