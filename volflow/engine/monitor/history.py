"""How a run went, by its event log: time line, throughput, what was lost and who did the work.

The log of a week may be long, so it is read once and only sums are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from volflow.engine.monitor.events import read_events

BINS = 240  # at most, of the time line; an even number


@dataclass
class Bins:
    """Counts over time, in at most `BINS` steps that are doubled in length when time goes on."""

    begun: float
    width: float = 1.0
    counts: list[int] = field(default_factory=list)

    def add(self, time: float, count: int) -> None:
        """Count something that happened at a time."""
        place = max(0, int((time - self.begun) / self.width))
        while place >= BINS:
            self.counts += [0] * (len(self.counts) % 2)
            pairs = zip(self.counts[0::2], self.counts[1::2], strict=True)
            self.counts = [a + b for a, b in pairs]
            self.width *= 2
            place = int((time - self.begun) / self.width)
        self.counts += [0] * (place + 1 - len(self.counts))
        self.counts[place] += count


def history(run: str) -> dict[str, Any]:
    """What the event log of a run adds up to, as JSON; empty if there is none.

    Returns
    -------
    dict
        `begun` and `ended` (seconds since 1970), `sessions`, `again` (ranges handed out again),
        `lost` (workers), `stalls`, `failed` (blocks, each time that one failed), `spans` (of
        steps: `step`, `begun`, `ended`), `blocks` (done, in equal steps of `every` seconds), and
        `workers`: `name`, `blocks`, `seconds` at work.
    """
    bins: Bins | None = None
    counts = dict.fromkeys(("run_begins", "again", "stall", "failed"), 0)
    lost, time = 0, 0.0
    spans: list[dict[str, Any]] = []
    workers: dict[str, list[float]] = {}
    for event in read_events(run):
        kind, time = event["event"], event["time"]
        bins = bins or Bins(time)
        if kind in counts:
            counts[kind] += 1
        if kind == "range":
            bins.add(time, event["done"])
            worker = workers.setdefault(event["worker"] or "this process", [0, 0.0])
            worker[0] += event["done"]
            worker[1] += event["wall"]
        elif kind == "workers":
            lost += len(event["lost"])
        elif kind == "step_begins":
            spans.append({"step": event["step"], "begun": time, "ended": None})
        elif kind == "step_ends" and spans and spans[-1]["step"] == event["step"]:
            spans[-1]["ended"] = time
    if bins is None:
        return {}
    for span in spans:
        span["ended"] = span["ended"] or time
    return {
        "begun": bins.begun,
        "ended": time,
        "sessions": counts["run_begins"],
        "again": counts["again"],
        "lost": lost,
        "stalls": counts["stall"],
        "failed": counts["failed"],
        "spans": [span for span in spans if span["ended"] > span["begun"]],
        "every": bins.width,
        "blocks": bins.counts,
        "workers": [
            {"name": name, "blocks": int(blocks), "seconds": round(seconds, 2)}
            for name, (blocks, seconds) in sorted(workers.items())
        ],
    }
