"""The lock of a run, for one driver at a time: an object with an owner and a heartbeat."""

from __future__ import annotations

import contextlib
import getpass
import json
import logging
import os
import secrets
import socket
import threading
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from volflow.errors import RunHeld, StorageError
from volflow.io.sealed import seal_problem, sealed
from volflow.io.store import Store, StoredObject

log = logging.getLogger(__name__)

KEY = "volflow.lock.json"
_KEYS = ("host", "pid", "born", "place", "user", "started", "interval", "token", "beat")
"""The keys of earlier versions, which wrote no checksum."""
BEAT = 5.0  # seconds between two heartbeats
STALE = 60.0  # seconds without one after which a holder on another machine counts as lost
_HELD: set[str] = set()  # tokens of the locks that this process holds


class RunLock:
    """A lock on a run for the duration of a `with` block.

    The lock object is written only on the condition that it has not changed since it was read. A
    holder on this machine whose process has ended is replaced at once. A holder on another
    machine is replaced if its heartbeat is older than `stale` seconds by our clock *and* the lock
    then stays unchanged for two of its heartbeats, because clocks of two machines may differ.

    Parameters
    ----------
    run : str
        Address of the run.
    beat : float, optional
        Seconds between two heartbeats; default: `BEAT`.
    stale : float, optional
        Seconds without a heartbeat after which a holder on another machine counts as lost;
        default: `STALE`.
    """

    def __init__(self, run: str, beat: float | None = None, stale: float | None = None) -> None:
        self.run = run
        self.beat = BEAT if beat is None else beat
        self.stale = STALE if stale is None else stale
        self.lost = threading.Event()
        """Set when another driver has taken the lock over, and may be writing the same objects."""
        self._store = Store(run)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._generation = b""
        self._body = _identity(self.beat)

    def __enter__(self) -> RunLock:
        """Take the lock.

        Raises
        ------
        RunHeld
            If another driver holds it; the message has its process, host, user and start.
        """
        _HELD.add(self._body["token"])
        try:
            self._generation = self._take()
        except BaseException:
            _HELD.discard(self._body["token"])
            raise
        self._stop.clear()
        self.lost.clear()
        self._thread = threading.Thread(target=self._keep, name="run-lock", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        _HELD.discard(self._body["token"])
        if not self.lost.is_set():
            self._store.write_if(KEY, None, self._generation)

    @property
    def token(self) -> str:
        """The fencing token of this lock, which its tasks carry."""
        return str(self._body["token"])

    def holder(self) -> dict[str, Any] | None:
        """The holder of the run; None if there is none."""
        return _parse(self._store.find(KEY).value)

    def living(self) -> dict[str, Any] | None:
        """The holder of the run; None if there is none, or it is known to have ended."""
        holder = self.holder()
        if holder is None or holder.get("place") == self._body["place"]:
            return holder if holder is not None and _alive(holder) else None
        return holder if abs(time.time() - float(holder.get("beat", 0))) <= self.stale else None

    def _take(self) -> bytes:
        stored = self._store.find(KEY)
        if stored.value is not None:
            self._require_lost(stored)
            holder = _parse(stored.value) or {}
            log.warning(
                "run %s: taking over from %s, which ended", self.run, describe_holder(holder)
            )
        generation = self._store.write_if(KEY, self._stamped(), stored.generation)
        if generation is None:  # ours after all, if the response was lost and the write repeated
            stored = self._store.find(KEY)
            holder = _parse(stored.value) or {}
            if stored.value is None:
                self._store.require_bucket()
            if holder.get("token") != self._body["token"]:
                raise RunHeld(f"run {self.run} was just taken by {describe_holder(holder)}")
            generation = stored.generation
        if self._store.remote:
            try:
                self._require_conditions()
            except StorageError:
                with contextlib.suppress(StorageError):
                    self._store.write_if(KEY, None, generation)
                raise
        return generation

    def _require_conditions(self) -> None:
        """Raise if the store ignores conditions of writing, or lists nothing.

        Without conditions the lock would exclude no other driver. If listing is forbidden, a
        bucket on Google Cloud Storage seems empty to tensorstore, and no block would count as done.
        """
        obeyed = self._store.write_if_absent(KEY, self._stamped()) is None
        if obeyed and self._store.list(KEY) == [""]:
            return
        if obeyed:
            raise StorageError(
                f"run {self.run}: its store does not list an object written a moment ago; the "
                f"credentials need the permission to list, in addition to reading and writing"
            )
        self._store.delete(KEY)
        raise StorageError(
            f"run {self.run}: its store overwrites objects despite If-None-Match or "
            f"ifGenerationMatch, so the lock could not exclude a second driver; put `run` in a "
            f"folder or another store (volumes may stay)"
        )

    def _require_lost(self, stored: StoredObject) -> None:
        """Raise if the holder of the lock may be alive."""
        holder = _parse(stored.value)
        if holder is None:  # damaged or foreign: only its heartbeat can be observed
            holder = {"interval": self.beat}
        elif holder.get("place") == self._body["place"]:
            if _alive(holder):
                raise RunHeld(f"run {self.run} is held by {describe_holder(holder)}")
            return
        elif abs(time.time() - float(holder.get("beat", 0))) <= self.stale:
            raise RunHeld(f"run {self.run} is held by {describe_holder(holder)}")
        time.sleep(2 * float(holder.get("interval", self.beat)))
        if self._store.find(KEY).generation != stored.generation:
            holder = self.holder() or holder
            raise RunHeld(f"run {self.run} is held by {describe_holder(holder)}")

    def _stamped(self) -> bytes:
        return json.dumps(sealed({**self._body, "beat": time.time()})).encode()

    def _keep(self) -> None:
        """Renew the heartbeat until the lock is released, or another driver has it."""
        while not self._stop.wait(self.beat):
            try:
                generation = self._store.write_if(KEY, self._stamped(), self._generation)
            except StorageError as error:  # the store may recover before we count as lost
                log.warning("run %s: the lock could not be renewed: %s", self.run, error)
                generation = self._own_generation()
            if generation is None:
                generation = self._own_generation()
            if generation is None:
                holder = self._known_holder()
                log.error(
                    "run %s: the lock was taken over by %s", self.run, describe_holder(holder)
                )
                self.lost.set()
                return
            self._generation = generation

    def _own_generation(self) -> bytes | None:
        """The generation if the lock is still ours: a repeated write may be refused in error."""
        try:
            stored = self._store.find(KEY)
        except StorageError:
            return self._generation
        holder = _parse(stored.value)
        if holder is None and stored.value is not None:  # cut short: read again at the next beat
            return self._generation
        is_ours = holder is not None and holder.get("token") == self._body["token"]
        return stored.generation if is_ours else None

    def _known_holder(self) -> dict[str, Any]:
        try:
            return self.holder() or {}
        except StorageError:
            return {}


def _identity(beat: float) -> dict[str, Any]:
    """The identity of this process; `place` is the kernel and process namespace of its pid."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "born": _born(os.getpid()),
        "place": _place(),
        "user": _user(),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "interval": beat,
        "token": secrets.token_hex(8),
    }


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()} {psutil.boot_time():.0f}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        return str(os.getuid())


def _alive(holder: dict[str, Any]) -> bool:
    """Whether the holder's process still runs, and not another one with its pid.

    A lock of this process whose release failed does not count.
    """
    try:
        if holder["pid"] == os.getpid() and holder["token"] not in _HELD:
            return False  # a lock of ours, or of an earlier process with our pid, not released
        process = psutil.Process(int(holder["pid"]))
        return _born(process.pid) == holder["born"] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except (KeyError, ValueError, TypeError):
        return True


def _born(pid: int) -> float:
    """Start of a process in clock ticks since boot, which do not depend on the wall clock."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return float(stat.rpartition(")")[2].split()[19])
    except OSError:
        return psutil.Process(pid).create_time()


def _parse(body: bytes | None) -> dict[str, Any] | None:
    """The holder in a lock object; None if there is none, or the object is damaged."""
    try:
        value = json.loads(body or b"null")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and not seal_problem(value, _KEYS) else None


def describe_holder(holder: dict[str, Any]) -> str:
    """The holder of a lock, for messages."""
    return (
        f"process {holder.get('pid', '?')} on {holder.get('host', '?')} "
        f"(user {holder.get('user', '?')}, since {holder.get('started', '?')})"
    )
