"""The ledger of a run: markers of finished and failed blocks, next to the run, on any store.

    ledger/STEP/DIGEST/PHASE/done/START-STOP   blocks START to STOP are written; body: costs
    ledger/STEP/DIGEST/PHASE/failed/NUMBER     a block that failed; body: the reason

A marker is written once, after the data, and never changed: the union of the ranges counts, and
one listing reads it. The writer of each scale of a volume is in `volflow/io/run/owners.py`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from volflow.io.run.lock import RunLock
from volflow.io.sealed import KEY as CHECKSUM
from volflow.io.sealed import seal_problem, sealed
from volflow.io.store import Store

__all__ = ["JobProgress", "Ledger", "RunLock", "union"]

SAMPLE = (
    1000  # markers from which all costs are estimated: reading one takes as long as listing ten
)
_MARKER = re.compile(r"[^/]+/[^/]+/(?:done/\d{1,18}-\d{1,18}|failed/\d{1,18})", re.ASCII)
_FAILURE = ("index", "reason", "error", "traceback")  # keys of records without a checksum
_RANGE = re.compile(r"\d{1,18}-\d{1,18}", re.ASCII)


class JobProgress(NamedTuple):
    """The finished blocks of a job, and the seconds of work in them."""

    done: list[tuple[int, int]]
    seconds: float


class Ledger:
    """The markers of a run; those of a job are under its path, `STEP/DIGEST/PHASE`."""

    def __init__(self, run: str) -> None:
        self._store = Store(run)

    def done(self, job: str) -> list[tuple[int, int]]:
        """The finished blocks: sorted half-open ranges that neither overlap nor touch."""
        return union(self._spans(job))

    def progress(self, job: str) -> JobProgress:
        """The finished blocks and their seconds; from `SAMPLE` markers if there are more."""
        spans = self._spans(job)
        sample = spans
        if len(spans) > SAMPLE:
            sample = spans[np.linspace(0, len(spans) - 1, SAMPLE).astype(int)]
        seconds = sum(float(body.get("seconds", 0)) for body in self._bodies(job, sample))
        share = _blocks(sample) / max(1, _blocks(spans))
        return JobProgress(union(spans), seconds / share if seconds else 0.0)

    def mark_done(self, job: str, start: int, stop: int, costs: dict[str, Any]) -> None:
        """Mark the blocks `start` to `stop` as done.

        Raises
        ------
        ValueError
            If the range is empty.
        """
        if not 0 <= start < stop:
            raise ValueError(f"{job}: expected a range of blocks, got {start} to {stop}")
        self._store.write(f"{_done(job)}{start}-{stop}", json.dumps(costs).encode())

    def costs(self, job: str) -> list[dict[str, Any]]:
        """The costs in the markers, in the order of their ranges, with `start` and `stop`."""
        return self._bodies(job, self._spans(job))

    def mark_failed(self, job: str, number: int, failure: dict[str, Any]) -> None:
        """Record the failure of a block, replacing an earlier record."""
        self._store.write(f"{_failed(job)}{number}", json.dumps(sealed(failure)).encode())

    def failed(self, job: str) -> dict[int, dict[str, Any]]:
        """The failed blocks by number, with the recorded failures.

        A block whose record is damaged counts as not tried.
        """
        numbers = sorted(int(name) for name in self._store.list(_failed(job)) if name.isdecimal())
        bodies = self._store.read_many(f"{_failed(job)}{number}" for number in numbers)
        failures = {n: _failure(bodies.get(f"{_failed(job)}{n}")) for n in numbers}
        return {number: body for number, body in failures.items() if body is not None}

    def clear_failed(self, job: str, number: int | None = None) -> None:
        """Delete the records of all failed blocks, or of one."""
        if number is None:
            self._store.delete_prefix(_failed(job), only=str.isdecimal)
        else:
            self._store.delete(f"{_failed(job)}{number}")

    def purge_step(self, step: str, keep_digest: str | None = None) -> None:
        """Delete all markers of a step, except those of one digest."""
        keep = "" if keep_digest is None else f"{keep_digest}/"
        self._store.delete_prefix(f"ledger/{step}/", keep=keep, only=_is_marker)

    def _spans(self, job: str) -> np.ndarray:
        """The ranges in the names of the markers, (N, 2) int64, sorted; other names are ignored."""
        names = [name for name in self._store.list(_done(job)) if _RANGE.fullmatch(name)]
        if not names:
            return np.zeros((0, 2), np.int64)
        numbers = np.fromstring(" ".join(names).replace("-", " "), np.int64, sep=" ")
        start, stop = numbers[0::2], numbers[1::2]
        order = np.lexsort((stop, start))
        spans = np.stack([start[order], stop[order]], axis=1)
        return spans[spans[:, 0] < spans[:, 1]]

    def _bodies(self, job: str, spans: np.ndarray) -> list[dict[str, Any]]:
        """The numbers in markers, with `start` and `stop`; unreadable markers are left out."""
        keys = {f"{_done(job)}{start}-{stop}": (start, stop) for start, stop in spans.tolist()}
        stored, bodies = self._store.read_many(keys), []
        for key, (start, stop) in keys.items():
            body = _object(stored.get(key))
            if body is not None:
                numbers = {name: value for name, value in body.items() if _is_number(value)}
                bodies.append({**numbers, "start": start, "stop": stop})
        return bodies


def _is_marker(key: str) -> bool:
    """Whether a key below a step is that of a marker; other files are foreign, and stay."""
    return _MARKER.fullmatch(key) is not None


def _done(job: str) -> str:
    return f"ledger/{job}/done/"


def _failed(job: str) -> str:
    return f"ledger/{job}/failed/"


def _blocks(spans: np.ndarray) -> int:
    return int((spans[:, 1] - spans[:, 0]).sum())


def _object(body: bytes | None) -> dict[str, Any] | None:
    """The JSON object in some bytes; None if they hold none, such as those of a foreign file."""
    try:
        value = json.loads(body or b"null")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _failure(body: bytes | None) -> dict[str, Any] | None:
    """A recorded failure without its checksum; None if it is damaged, or there is none."""
    value = _object(body)
    if value is None or seal_problem(value, _FAILURE):
        return None
    return {name: item for name, item in value.items() if name != CHECKSUM}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def union(ranges: np.ndarray | Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The union of half-open ranges: sorted, without overlap, touching ones joined."""
    spans = ranges if isinstance(ranges, np.ndarray) else np.array(list(ranges), np.int64)
    if not spans.size:
        return []
    start, stop = spans[np.argsort(spans[:, 0], kind="stable")].T
    reached = np.maximum.accumulate(stop)
    begins = np.flatnonzero(np.append(True, start[1:] > reached[:-1]))
    ends = np.append(begins[1:], len(start)) - 1
    return list(zip(start[begins].tolist(), reached[ends].tolist(), strict=True))
