"""One driver at a time: a lock next to the run, with an owner and a heartbeat."""

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
from volflow.io.store import Found, Store

log = logging.getLogger(__name__)

KEY = "volflow.lock.json"
_HELD: set[str] = set()  # tokens of the locks that this process holds


class RunLock:
    """Holds a run while the context lasts.

    The lock is an object that is only ever written on the condition that nobody else wrote it
    since it was read. A holder on this machine whose process is gone is replaced at once. One
    elsewhere is replaced when its beat is older than `stale` seconds by our clock *and* the lock
    then stays unchanged for two of its beats, because clocks of two machines may differ.

    Parameters
    ----------
    run : str
        Address of the run.
    beat : float
        Seconds between two heartbeats.
    stale : float
        Seconds after which a holder on another machine counts as gone.
    """

    def __init__(self, run: str, beat: float = 5.0, stale: float = 60.0) -> None:
        self.run, self.beat, self.stale = run, beat, stale
        self.lost = threading.Event()
        """Set when somebody else took the lock over; what is written after that may be theirs."""
        self._store = Store(run)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._generation = b""
        self._body = _myself(beat)

    def __enter__(self) -> RunLock:
        """Take the lock.

        Raises
        ------
        RunHeld
            If another driver holds it; the message says who, where and since when.
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

    def holder(self) -> dict[str, Any] | None:
        """Who holds the run, None if nobody does."""
        return _parse(self._store.find(KEY).value)

    def living(self) -> dict[str, Any] | None:
        """Who holds the run, None if nobody does or the holder is known to be gone."""
        who = self.holder()
        if who is None or who.get("place") == self._body["place"]:
            return who if who is not None and _alive(who) else None
        return who if abs(time.time() - float(who.get("beat", 0))) <= self.stale else None

    def _take(self) -> bytes:
        found = self._store.find(KEY)
        if found.value is not None:
            self._require_gone(found)
            who = _parse(found.value) or {}
            log.warning("run %s: taking over from %s, which is gone", self.run, _describe(who))
        generation = self._store.write_if(KEY, self._stamped(), found.generation)
        if (
            generation is None
        ):  # ours all the same, if the answer to it was lost and it was repeated
            found = self._store.find(KEY)
            who = _parse(found.value) or {}
            if found.value is None:
                self._store.require_bucket()
            if who.get("token") != self._body["token"]:
                raise RunHeld(f"run {self.run} was just taken by {_describe(who)}")
            generation = found.generation
        if self._store.remote:
            try:
                self._require_honest_store()
            except StorageError:
                with contextlib.suppress(StorageError):
                    self._store.write_if(KEY, None, generation)
                raise
        return generation

    def _require_honest_store(self) -> None:
        """Raise if the store heeds no conditions, or lists nothing: it says neither by itself.

        Without conditions nobody is kept out. Where listing is forbidden, Google's store as
        tensorstore reads it lists nothing, so that nothing would seem to be done.
        """
        heeds = self._store.write_if_absent(KEY, self._stamped()) is None
        if heeds and self._store.list(KEY) == [""]:
            return
        if heeds:
            raise StorageError(
                f"run {self.run}: its store does not list what was written there a moment ago; "
                f"the credentials need the right to list, not only to read and write"
            )
        self._store.delete(KEY)
        raise StorageError(
            f"run {self.run}: its store writes over what is there when it is told not to "
            f"(If-None-Match, ifGenerationMatch), so two drivers could not be kept apart; give "
            f"`run` a folder or another store, volumes may stay where they are"
        )

    def _require_gone(self, found: Found) -> None:
        who = _parse(found.value)
        if who is None:  # torn or foreign: nobody can be asked, so watch whether it beats
            who = {"interval": self.beat}
        elif who.get("place") == self._body["place"]:
            if _alive(who):
                raise RunHeld(f"run {self.run} is held by {_describe(who)}")
            return
        elif abs(time.time() - float(who.get("beat", 0))) <= self.stale:
            raise RunHeld(f"run {self.run} is held by {_describe(who)}")
        time.sleep(2 * float(who.get("interval", self.beat)))
        if self._store.find(KEY).generation != found.generation:
            who = self.holder() or who
            raise RunHeld(f"run {self.run} is held by {_describe(who)}")

    def _stamped(self) -> bytes:
        return json.dumps({**self._body, "beat": time.time()}).encode()

    def _keep(self) -> None:
        """Beat until told to stop, or until the lock is somebody else's."""
        while not self._stop.wait(self.beat):
            try:
                generation = self._store.write_if(KEY, self._stamped(), self._generation)
            except StorageError as error:  # the store may come back before we count as gone
                log.warning("run %s: the lock could not be renewed: %s", self.run, error)
                generation = self._found_again()
            if generation is None:
                generation = self._found_again()
            if generation is None:
                who = self._who()
                log.error("run %s: the lock was taken over by %s", self.run, _describe(who))
                self.lost.set()
                return
            self._generation = generation

    def _found_again(self) -> bytes | None:
        """The generation, if the lock is still ours: a retried write can be told it lost."""
        try:
            found = self._store.find(KEY)
        except StorageError:
            return self._generation
        who = _parse(found.value)
        if who is None and found.value is not None:  # it came cut short: ask again at the next beat
            return self._generation
        return found.generation if who and who.get("token") == self._body["token"] else None

    def _who(self) -> dict[str, Any]:
        try:
            return self.holder() or {}
        except StorageError:
            return {}


def _myself(beat: float) -> dict[str, Any]:
    """Who we are; `place` is a kernel and a process namespace, within which pids can be asked."""
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


def _alive(who: dict[str, Any]) -> bool:
    """Whether that very process still runs, and not another one that was given its pid.

    This one does not hold a run any more whose store refused to take the lock back.
    """
    try:
        if who["pid"] == os.getpid() and who["token"] not in _HELD:
            return False  # a lock of ours, or of a like process before us, that was not let go
        process = psutil.Process(int(who["pid"]))
        return _born(process.pid) == who["born"] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except (KeyError, ValueError, TypeError):
        return True


def _born(pid: int) -> float:
    """When a process began: clock ticks since boot, which no change of the clock moves."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return float(stat.rpartition(")")[2].split()[19])
    except OSError:
        return psutil.Process(pid).create_time()


def _parse(body: bytes | None) -> dict[str, Any] | None:
    try:
        found = json.loads(body or b"null")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _describe(who: dict[str, Any]) -> str:
    return (
        f"process {who.get('pid', '?')} on {who.get('host', '?')} "
        f"(user {who.get('user', '?')}, since {who.get('started', '?')})"
    )
