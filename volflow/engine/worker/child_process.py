"""Blocks in a child process, so that the worker outlives whatever a block does.

    worker  ── range ──>  child        pickled over a pipe, one message per range
            <─ outcome ─               when the range ends
            <─ shared page ─           which block is under way, since when, what is marked

The child ends with its parent. When it ends alone, the shared page names the block that it
died on; that block is recorded with the reason, a new child goes on behind it.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import mmap
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe

import psutil

from volflow.engine.job import Job
from volflow.engine.result import Failure
from volflow.engine.worker.block_range import (
    Outcome,
    Progress,
    job_path,
    record_failure,
    recorded_failures,
    run_range,
)
from volflow.errors import StorageError
from volflow.io.run.ledger import Ledger

GIVE_BACK = 1.0  # seconds between two times that freed memory goes back to the kernel, at least
POLL = 0.25  # seconds between looks at deadline and memory
GRACE = 5.0  # seconds for faulthandler to write the stack of a hung block
KILLS = 2  # SIGKILL may come from outside; a second one on the same block is the block's
PAGE = struct.Struct("qqdq")  # block under way, first unmarked one, when it began, one read ahead
SINGLE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
# Set by Dask for its workers: all arrays go back to the kernel at once, to be zeroed again for the
# next block. Blocks took 1.4 times as long with it.
DASKS_MALLOC = ("MALLOC_TRIM_THRESHOLD_", "65536")
# What threads free stays theirs: with a heap for each of the many that read and write, a pyramid
# took twice the memory.
HEAPS = ("MALLOC_ARENA_MAX", "2")


class SharedProgress(Progress):
    """Progress in a page of memory that outlives the process that writes it."""

    def __init__(self, descriptor: int) -> None:
        self.page = mmap.mmap(descriptor, mmap.PAGESIZE)
        self.next = 0

    def begin(self, number: int) -> None:
        PAGE.pack_into(self.page, 0, number, self.next, time.monotonic(), -1)

    def prefetches(self, number: int) -> None:
        struct.pack_into("q", self.page, PAGE.size - 8, number)

    def marked(self, number: int) -> None:
        self.next = number
        struct.pack_into("q", self.page, 8, number)

    def rest(self) -> None:
        """No block is under way."""
        struct.pack_into("q", self.page, 0, -1)
        self.prefetches(-1)

    def read(self) -> tuple[int, int, float]:
        """The block under way (-1: none), the first unmarked block, and when the block began."""
        number, unmarked, begun, _ = PAGE.unpack_from(self.page, 0)
        return number, unmarked, begun

    @property
    def two_at_once(self) -> bool:
        """Whether the block under way was not alone: the next one had begun to be read."""
        return bool(PAGE.unpack_from(self.page, 0)[3] >= 0)


@dataclass(frozen=True)
class Limits:
    """What a block may take: seconds (0: as long as it likes) and bytes (0: no limit)."""

    timeout: float = 0.0
    memory: int = 0


class Child:
    """A child process that runs ranges of blocks, watched for deadline and memory."""

    def __init__(self, search_path: tuple[str, ...]) -> None:
        self.search_path, self.limits = search_path, Limits()
        self.process: subprocess.Popen[bytes] | None = None
        self.pipe: Connection | None = None
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the child)
        self.page = os.memfd_create("volflow-progress")
        os.ftruncate(self.page, mmap.PAGESIZE)
        self.progress = SharedProgress(self.page)

    def run(self, job: Job | bytes, start: int, stop: int, limits: Limits = Limits()) -> Outcome:
        """Run a range; blocks that end the child are recorded as failed, the others go on.

        A job that comes pickled is loaded here only if the child dies: loading it imports the
        stage, and all that the stage needs, into this process too.
        """
        payload = job if isinstance(job, bytes) else pickle.dumps(job)
        self.limits = limits
        begun = time.monotonic()
        total = Outcome(start=start, stop=stop, worker=f"{socket.gethostname()}:{os.getpid()}")
        kills: dict[int, int] = {}
        ahead = True
        while start < stop:
            self._send(payload, start, stop, ahead)
            answer, reason = self._wait()
            if answer is not None:
                total.add(answer)
                break
            # Reading ahead may have ended the child, or taken the memory: each block alone, then.
            shared = self.progress.two_at_once and reason != "timeout"
            ahead = ahead and not shared
            number, unmarked, _ = self.progress.read()
            dead = pickle.loads(payload)
            start = self._record_death(
                dead, total, start, number, unmarked, reason, kills, not shared
            )
        total.wall = time.monotonic() - begun
        return total

    def close(self) -> None:
        """End the child for good."""
        self._stop()
        self.log.close()
        self.progress.page.close()
        os.close(self.page)

    def _stop(self) -> None:
        if self.pipe is not None:
            self.pipe.close()
            self.pipe = None
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _send(self, payload: bytes, start: int, stop: int, ahead: bool) -> None:
        if self.process is None or self.process.poll() is not None:
            self.start()
        assert self.pipe is not None
        self.progress.marked(start)
        self.progress.rest()
        self.pipe.send_bytes(pickle.dumps((payload, start, stop, ahead)))

    def start(self) -> None:
        """Start the process; `run` does so where there is none."""
        self._stop()
        ours, theirs = Pipe()
        self.log.seek(0)
        self.log.truncate()
        environment = {**os.environ, **dict.fromkeys(SINGLE_THREAD, "1")}
        if environment.get(DASKS_MALLOC[0]) == DASKS_MALLOC[1]:
            del environment[DASKS_MALLOC[0]]
        environment.setdefault(*HEAPS)
        module = "volflow.engine.worker.child_process"
        command = [sys.executable, "-X", "faulthandler", "-m", module]
        numbers = [str(theirs.fileno()), str(self.page), str(os.getpid())]
        self.process = subprocess.Popen(
            [*command, *numbers, *self.search_path],
            pass_fds=(theirs.fileno(), self.page),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            env=environment,
        )
        theirs.close()
        self.pipe = ours

    def _wait(self) -> tuple[Outcome | None, str]:
        """The outcome of the range, or why there will be none."""
        assert self.pipe is not None
        assert self.process is not None
        watched = psutil.Process(self.process.pid)
        while True:
            try:
                if self.pipe.poll(POLL):
                    answer = pickle.loads(self.pipe.recv_bytes())
                    if isinstance(answer, BaseException):
                        raise answer
                    assert isinstance(answer, Outcome)
                    return answer, ""
            except (EOFError, ConnectionResetError):
                self.process.wait()
                return None, "signal" if self.process.returncode < 0 else "exit"
            reason = self._exceeded_limit(watched)
            if reason:
                self._end(signal.SIGABRT if reason == "timeout" else signal.SIGKILL)
                return None, reason

    def _exceeded_limit(self, watched: psutil.Process) -> str:
        number, _, begun = self.progress.read()
        if number < 0:
            return ""
        if self.limits.timeout and time.monotonic() - begun > self.limits.timeout:
            return "timeout"
        with contextlib.suppress(psutil.NoSuchProcess):
            if self.limits.memory and watched.memory_info().rss > self.limits.memory:
                return "memory"
        return ""

    def _end(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _record_death(
        self,
        job: Job,
        total: Outcome,
        start: int,
        number: int,
        unmarked: int,
        reason: str,
        kills: dict[int, int],
        alone: bool,
    ) -> int:
        """Mark what the dead child had finished, record its last block, say where to go on."""
        assert self.process is not None
        code = self.process.returncode
        if number < 0:  # it died before the first block or between two
            kills[-1] = kills.get(-1, 0) + 1
            if kills[-1] < KILLS:
                return start
            number = start
        if number > unmarked:
            Ledger(job.run).mark_done(job_path(job), unmarked, number, {})
        earlier = recorded_failures(job, start, number)
        total.failures += earlier
        total.done += max(0, number - start - len(earlier))
        if not alone:
            return number
        kills[number] = kills.get(number, 0) + 1
        if reason == "signal" and code == -signal.SIGKILL and kills[number] < KILLS:
            return number
        failure = Failure(
            job.step,
            job.phase.name,
            job.phase.grid.index(number),
            reason,
            self._failure_message(reason, code),
            self._log_tail(),
        )
        total.failures.append(record_failure(job, number, failure))
        return number + 1

    def _failure_message(self, reason: str, code: int) -> str:
        if reason == "timeout":
            return f"the block was not done after {self.limits.timeout:g} s"
        if reason == "memory":
            from rich.filesize import decimal

            return f"the block used more than {decimal(self.limits.memory)}"
        if reason == "signal":
            name = signal.Signals(-code).name
            outside = " (out of memory, or killed from outside)" if code == -9 else ""
            return f"the block ended its process with signal {-code}, {name}{outside}"
        return f"the block ended its process with exit code {code}"

    def _log_tail(self, length: int = 8000) -> str:
        size = self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, size - length))
        return self.log.read().decode(errors="replace")


_CHILDREN: dict[tuple[str, ...], Child] = {}


def run_in_child(
    payload: bytes, start: int, stop: int, search_path: tuple[str, ...], limits: Limits
) -> Outcome:
    """Run a range of a pickled job in this process's child; the task that Dask workers get."""
    sys.path[:0] = [folder for folder in search_path if folder not in sys.path]
    if search_path not in _CHILDREN:
        for child in _CHILDREN.values():
            child.close()
        _CHILDREN.clear()
        _CHILDREN[search_path] = Child(search_path)
    return _CHILDREN[search_path].run(payload, start, stop, limits)


def _end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent is gone."""
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:  # it went before we asked
        os._exit(1)


def trim_heap() -> None:
    """Return to the kernel what earlier blocks used, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def main(arguments: list[str]) -> None:
    """Run the ranges that come through the pipe until it closes."""
    pipe, page, parent = Connection(int(arguments[0])), int(arguments[1]), int(arguments[2])
    _end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    sys.path[:0] = [folder for folder in arguments[3:] if folder not in sys.path]
    progress, before, rest = SharedProgress(page), "", 0.0
    while True:
        try:
            message = pipe.recv_bytes()
        except (EOFError, OSError):
            return
        answer: Outcome | BaseException
        try:
            payload, start, stop, ahead = pickle.loads(message)
            job = pickle.loads(payload)
            progress.next = start
            if job_path(job) != before or time.monotonic() > rest + GIVE_BACK:
                trim_heap()
                before, rest = job_path(job), time.monotonic()
            answer = run_range(job, start, stop, progress, ahead=ahead)
        except StorageError as error:  # no room, or the ledger cannot be written
            answer = error
        except Exception as error:  # the job does not load
            answer = RuntimeError(f"{type(error).__name__}: {error}")
        progress.rest()
        pipe.send_bytes(pickle.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
