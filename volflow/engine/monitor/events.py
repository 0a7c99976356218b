"""Events of a run, and their form in JSON.

A line of the event log is an object with `time` (seconds since 1970), `event` (the name of its
kind, see `NAMES`) and the fields of its class.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from volflow.core.geometry import Triple


@dataclass(frozen=True)
class RunBegins:
    """A driver holds the run."""

    version: str
    host: str
    pid: int
    steps: tuple[str, ...]
    """Names of the steps to run."""


@dataclass(frozen=True)
class RunEnds:
    """A driver releases the run."""

    ok: bool
    interrupted: bool
    error: str
    seconds: float


@dataclass(frozen=True)
class StepBegins:
    """A step starts."""

    step: str
    total: int
    """Blocks of all its phases."""
    already: int
    """Blocks that earlier sessions have done."""


@dataclass(frozen=True)
class StepEnds:
    """A step has no block left to try."""

    step: str
    done: int
    failed: int
    left: int
    seconds: float


@dataclass(frozen=True)
class RangeEnds:
    """A worker returned a range of blocks."""

    step: str
    phase: str
    start: int
    stop: int
    done: int
    failed: int
    seconds: float
    """Sum over the blocks."""
    wall: float
    """From the first block to the last marker."""
    worker: str
    """Host and process; empty for the driver's own process."""


@dataclass(frozen=True)
class RangeLost:
    """A worker was lost; the range is handed out again."""

    step: str
    phase: str
    start: int
    stop: int


@dataclass(frozen=True)
class BlockFailed:
    """A block failed for good."""

    step: str
    phase: str
    index: Triple
    reason: str
    error: str


@dataclass(frozen=True)
class WorkersChange:
    """Workers joined, or are lost."""

    joined: tuple[str, ...]
    lost: tuple[str, ...]


@dataclass(frozen=True)
class Stall:
    """No block was finished for a time."""

    step: str
    seconds: float
    under_way: tuple[str, ...]
    """Ranges handed out and their workers, a line each."""


@dataclass(frozen=True)
class Note:
    """A line for the user."""

    text: str


Event = (
    RunBegins
    | RunEnds
    | StepBegins
    | StepEnds
    | RangeEnds
    | RangeLost
    | BlockFailed
    | WorkersChange
    | Stall
    | Note
)

NAMES: dict[type[Event], str] = {
    RunBegins: "run_begins",
    RunEnds: "run_ends",
    StepBegins: "step_begins",
    StepEnds: "step_ends",
    RangeEnds: "range",
    RangeLost: "again",
    BlockFailed: "failed",
    WorkersChange: "workers",
    Stall: "stall",
    Note: "note",
}
"""The names of events in stored logs."""

_CLASSES = {name: kind for kind, name in NAMES.items()}
LATEST = 1e11  # seconds since 1970
LARGEST = 1e15  # of all numbers
_TYPES: dict[str, Any] = {"str": str, "bool": bool, "int": int, "float": (int, float)}
_RENAMED = {"pass": "phase"}  # keys of earlier versions


def to_json(event: Event, time: float) -> str:
    """One line of JSON for an event at a time (seconds since 1970)."""
    head = {"time": round(time, 3), "event": NAMES[type(event)]}
    return json.dumps(head | dataclasses.asdict(event))


def from_json(line: bytes | str) -> tuple[float, Event] | None:
    """Time and event of a line; None for a line that is not an event of this or earlier versions.

    Keys that the event does not have are ignored: a later version may write more. So are values
    of another type, as a damaged log has them.
    """
    try:
        entry = json.loads(line)
        kind = _CLASSES[entry["event"]]
        time = float(entry["time"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
    entry = {_RENAMED.get(key, key): _frozen(value) for key, value in entry.items()}
    fields = dataclasses.fields(kind)
    if not 0 <= time < LATEST or not all(_fits(entry.get(each.name), each) for each in fields):
        return None
    return time, kind(**{each.name: entry[each.name] for each in fields})


def _fits(value: Any, field: dataclasses.Field[Any]) -> bool:
    """Whether a value has the type of a field; None never has."""
    expected = _TYPES.get(str(field.type), tuple)
    if isinstance(value, bool) != (expected is bool) or not isinstance(value, expected):
        return False
    return not isinstance(value, int | float) or abs(value) < LARGEST


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
