"""The run's event log: JSON Lines, stored next to the run.

    events/SESSION/NUMBER.jsonl     some seconds of one driver's events, written once

A session is one driver's hold of the run. Its name starts with the time to the microsecond, so that
sessions sort by time. Objects are never appended to, so the log is the same on a disk and in an
object store.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from volflow.engine.monitor.events import (
    Event,
    RunBegins,
    RunEnds,
    Stall,
    WorkersChange,
    from_json,
    to_json,
)
from volflow.errors import StorageError
from volflow.io.store import Store

FLUSH_FIRST, FLUSH_LATER = 5.0, 60.0  # seconds between two objects: at first, and after hours
MOST_LINES = 10_000  # of an object
WRITTEN_AT_ONCE = (RunBegins, RunEnds, WorkersChange, Stall)
READ_TOGETHER = 64  # objects that are read at the same time

logger = logging.getLogger(__name__)


class EventLog:
    """Writes the events of one session; may be called by several threads.

    While the store does not answer, events are kept and the run continues; the next flush tries
    again.
    """

    def __init__(self, run: str) -> None:
        self._store, self._lock = Store(run), threading.Lock()
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self.session = f"{now}-{secrets.token_hex(3)}"
        self._lines: list[str] = []
        self._number = 0
        self._started = self._flushed = time.monotonic()

    def add(self, event: Event) -> None:
        """Add an event. Rare events are written at once, the others within seconds."""
        with self._lock:  # around the time too, or the lines of two threads could change places
            self._lines.append(to_json(event, time.time()))
        self.flush(due=not isinstance(event, WRITTEN_AT_ONCE))

    def flush(self, due: bool = False) -> None:
        """Write the pending events; with `due`, only if they have waited long enough."""
        now = time.monotonic()
        wait = min(FLUSH_LATER, max(FLUSH_FIRST, (now - self._started) / 100))
        with self._lock:
            early = now - self._flushed < wait and len(self._lines) < MOST_LINES
            if not self._lines or (due and early):
                return
            body = "\n".join(self._lines) + "\n"
            self._flushed = now
            try:
                self._store.write(f"events/{self.session}/{self._number:06}.jsonl", body.encode())
            except StorageError as error:
                logger.info("events are kept in memory: %s", error)
                del self._lines[: -10 * MOST_LINES]  # so that memory stays bounded
                return
            self._number += 1
            self._lines.clear()


def read_events(run: str, session: str = "") -> Iterator[tuple[float, Event]]:
    """Times and events of a run in the order in which they were written.

    Lines that are no events are skipped, so that a damaged log does not prevent a report.

    Parameters
    ----------
    run : str
        Address of the run.
    session : str
        Only the events of this session; default: of all.
    """
    store = Store(run)
    prefix = f"events/{session}/" if session else "events/"
    names = [name for name in store.list(prefix) if name.endswith(".jsonl")]
    for start in range(0, len(names), READ_TOGETHER):
        keys = [prefix + name for name in names[start : start + READ_TOGETHER]]
        bodies = store.read_many(keys)
        for key in keys:
            for line in bodies.get(key, b"").splitlines():
                entry = from_json(line)
                if entry is not None:
                    yield entry
