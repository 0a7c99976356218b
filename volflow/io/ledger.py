"""What is done and what failed: markers next to the run, on any store.

    ledger/STEP/DIGEST/PASS/done/START-STOP    blocks START to STOP are written; body: costs
    ledger/STEP/DIGEST/PASS/failed/NUMBER      a block that failed; body: why

A marker is written once, after the data, and never changed: the union of the ranges counts, and
reading it is one listing. Beside each scale of an output layer lies `volflow.owner.SCALE.json`,
the digest of the step whose voxels it holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from volflow.errors import StorageError
from volflow.io.lock import RunLock
from volflow.io.store import Store

__all__ = ["Ledger", "RunLock", "owner", "set_owner", "union"]

_RANGE = re.compile(r"(\d+)-(\d+)")


class Ledger:
    """The markers of a run; a job's are found by its path, `STEP/DIGEST/PASS`."""

    def __init__(self, run: str) -> None:
        self._store = Store(run)

    def done(self, job: str) -> list[tuple[int, int]]:
        """The blocks that are done: sorted half-open ranges that neither overlap nor touch."""
        return union(self._ranges(job).values())

    def mark_done(self, job: str, start: int, stop: int, costs: dict[str, Any]) -> None:
        """Mark the blocks `start` to `stop` as done.

        Raises
        ------
        ValueError
            If the range is empty.
        """
        if not 0 <= start < stop:
            raise ValueError(f"blocks {start} to {stop} of {job} cannot be marked: no such range")
        self._store.write(f"{_done(job)}{start}-{stop}", json.dumps(costs).encode())

    def costs(self, job: str) -> list[dict[str, Any]]:
        """The costs in the markers, in the order of their ranges, with `start` and `stop`."""
        ranges = self._ranges(job)
        bodies = self._store.read_many(f"{_done(job)}{name}" for name in ranges)
        found = []
        for name, (start, stop) in sorted(ranges.items(), key=lambda item: item[1]):
            body = _object(bodies.get(f"{_done(job)}{name}"))
            if body is not None:
                found.append({**body, "start": start, "stop": stop})
        return found

    def mark_failed(self, job: str, number: int, failure: dict[str, Any]) -> None:
        """Record why a block failed, replacing an earlier record of it."""
        self._store.write(f"{_failed(job)}{number}", json.dumps(failure).encode())

    def failed(self, job: str) -> dict[int, dict[str, Any]]:
        """The blocks that failed, by number, and why."""
        numbers = sorted(int(name) for name in self._store.list(_failed(job)) if name.isdecimal())
        bodies = self._store.read_many(f"{_failed(job)}{number}" for number in numbers)
        found = {n: _object(bodies.get(f"{_failed(job)}{n}")) for n in numbers}
        return {number: body for number, body in found.items() if body is not None}

    def clear_failed(self, job: str, number: int | None = None) -> None:
        """Forget which blocks failed, or that one did."""
        if number is None:
            self._store.delete_prefix(_failed(job))
        else:
            self._store.delete(f"{_failed(job)}{number}")

    def purge_step(self, step: str, keep_digest: str | None = None) -> None:
        """Delete all markers of a step, but for those of one digest."""
        prefix = f"ledger/{step}/"
        digests = {name.partition("/")[0] for name in self._store.list(prefix)}
        for digest in sorted(digests - {keep_digest}):
            self._store.delete_prefix(f"{prefix}{digest}/")

    def _ranges(self, job: str) -> dict[str, tuple[int, int]]:
        """The ranges in the names of the markers; whatever else lies there is passed over."""
        matches = ((name, _RANGE.fullmatch(name)) for name in self._store.list(_done(job)))
        found = {name: (int(match[1]), int(match[2])) for name, match in matches if match}
        return {name: (start, stop) for name, (start, stop) in found.items() if start < stop}


def _done(job: str) -> str:
    return f"ledger/{job}/done/"


def _failed(job: str) -> str:
    return f"ledger/{job}/failed/"


def _object(body: bytes | None) -> dict[str, Any] | None:
    """A JSON object; None for bytes that hold none, such as a file that is not ours."""
    try:
        found = json.loads(body or b"null")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def union(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Half-open ranges united: sorted, without overlap, and touching ones joined."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], stop))
        else:
            found.append((start, stop))
    return found


def owner(address: str, scale: int = 0) -> str | None:
    """The digest of the step whose voxels a scale of a layer holds; None if nobody said."""
    body = Store(address).read_json(_owner(scale))
    if body is None:
        return None
    if not (isinstance(body, dict) and isinstance(body.get("digest"), str)):
        raise StorageError(f"{address}: {_owner(scale)} does not name a digest")
    return str(body["digest"])


def set_owner(address: str, digest: str, scale: int = 0) -> None:
    """Say which step's voxels a scale of a layer holds from now on."""
    Store(address).write_json(_owner(scale), {"digest": digest})


def _owner(scale: int) -> str:
    return f"volflow.owner.{scale}.json"
