"""The fence of a run: only tasks of the driver that holds its lock may write.

The token in the lock object is a fencing token. A task carries the token of the driver that handed
it out, and reads the lock object before it writes voxels, a record or a marker. A driver or worker
that was paused, and tasks that outlive their driver, so write nothing after a takeover, except
for a write under way at that moment.
"""

from __future__ import annotations

import json
import time
from functools import lru_cache

from volflow.errors import RunHeld, StorageError
from volflow.io.run.lock import KEY, RunLock, describe_holder
from volflow.io.store import Store

CHECKED_FOR = 0.005  # seconds for which a check counts, so that a burst of writes needs one
CHECKED_FOR_REMOTELY = 0.05  # the same on an object store, where a write takes as long
PATIENCE = 3  # further reads before a task counts as stale: network disks show changes late
PAUSE = 0.5  # seconds between two of them

_checked: dict[tuple[str, str], tuple[float, bytes]] = {}
"""When a driver was last seen to hold its run, and the lock object of that moment."""


def require_fence(run: str, token: str, *, recheck: bool = True, patience: int = PATIENCE) -> None:
    """Check that a driver still holds its run.

    Parameters
    ----------
    run : str
        Address of the run.
    token : str
        Token of the driver's lock; empty: nothing is checked.
    recheck : bool
        False: a check a moment ago suffices (`CHECKED_FOR`). A pause of the process or of
        the machine counts as time.
    patience : int
        Number of further reads before the lock counts as lost.

    Raises
    ------
    RunHeld
        If another driver holds the run, or none.
    StorageError
        If the lock object cannot be read.
    """
    if not token:
        return
    store, now = _store(run), _now()
    enough = CHECKED_FOR_REMOTELY if store.remote else CHECKED_FOR
    checked, accepted = _checked.get((run, token), (-1.0, None))
    if not recheck and now - checked <= enough:
        return
    holder = None
    for attempt in range(patience + 1):
        if attempt:
            time.sleep(PAUSE)
        body = store.value(KEY)
        if body is not None and body == accepted:
            _checked[run, token] = now, body
            return
        try:
            holder = json.loads(body or b"null")
        except ValueError:  # cut short, or being replaced
            holder = {}
        if isinstance(holder, dict) and holder.get("token") == token:
            _checked.clear()
            _checked[run, token] = now, body or b""
            return
    raise RunHeld(_lost(run, holder if isinstance(holder, dict) else None))


def require_held(lock: RunLock) -> None:
    """Check that the driver of this process still holds its run.

    The lock object itself is read: the thread that renews it may not have run since a pause.

    Raises
    ------
    RunHeld
        If another driver has taken the run over.
    """
    try:
        require_fence(lock.run, lock.token, patience=0)
    except RunHeld:
        raise
    except StorageError:  # the store may recover; the heartbeat decides
        if lock.lost.is_set():
            raise RunHeld(_lost(lock.run, None)) from None


def _lost(run: str, holder: dict[str, object] | None) -> str:
    now_held = f"it is held by {describe_holder(holder)}" if holder else "its lock was released"
    return (
        f"run {run}: expected the lock of the driver that started this work, but {now_held}; "
        f"nothing more is written; see `volflow status {run}`"
    )


@lru_cache(maxsize=8)
def _store(run: str) -> Store:
    return Store(run)


def _now() -> float:
    """Seconds on a clock that also counts while the machine sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)
