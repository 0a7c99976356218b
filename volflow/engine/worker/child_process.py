"""Run blocks in a child process, so that the worker survives whatever a block does.

    worker  ── range ──>  child        pickled over a pipe, one message per range
            <─ outcome ─               when the range ends
            <─ shared page ─           block under way, its start time, last marker

The child ends with its parent. If it ends on its own, the shared page shows the block that it died
on: that block is recorded as failed with the reason, and a new child continues after it. The child
leads a process group, so that processes which a block has forked end with it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection, Pipe
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING

import psutil

from volflow.engine.worker.child_death import NO_LIMITS, Death, Limits, record_death
from volflow.engine.worker.metrics import BlockMetrics, publish
from volflow.engine.worker.outcome import Outcome
from volflow.engine.worker.shared_progress import SharedProgress

if TYPE_CHECKING:
    from volflow.engine.job import Job

MODULE = "volflow.engine.worker.child_main"
POLL = 0.25  # seconds between two checks of time limit and memory
GRACE = 5.0  # seconds in which faulthandler writes the stack of a block that exceeded its time
SINGLE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
# Dask sets this for its workers: arrays return to the kernel at once, to be zeroed again for the
# next block. Blocks took 1.4 times as long with it.
DASKS_MALLOC = ("MALLOC_TRIM_THRESHOLD_", "65536")
# Threads keep the memory they free: with one heap for each of the many threads that read and
# write, a pyramid took twice the memory.
HEAPS = ("MALLOC_ARENA_MAX", "2")


class Child:
    """A child process that runs ranges of blocks within limits of time and memory."""

    def __init__(self, search_path: tuple[str, ...]) -> None:
        self.search_path, self.limits = search_path, Limits()
        self.process: subprocess.Popen[bytes] | None = None
        self.pipe: Connection | None = None
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the child)
        self.page = os.memfd_create("volflow-progress")
        os.ftruncate(self.page, mmap.PAGESIZE)
        self.progress = SharedProgress(self.page)

    def run(self, job: Job | bytes, start: int, stop: int, limits: Limits = NO_LIMITS) -> Outcome:
        """Run a range; blocks that end the child are recorded as failed, and the others run.

        A pickled job is unpickled in this process only if the child dies: unpickling imports the
        stage, with everything that the stage needs.
        """
        payload = job if isinstance(job, bytes) else pickle.dumps(job)
        self.limits = limits
        started = time.monotonic()
        total = Outcome(start=start, stop=stop, worker=f"{socket.gethostname()}:{os.getpid()}")
        kills: Counter[int] = Counter()
        prefetch = True
        while start < stop:
            self._send(payload, start, stop, prefetch)
            answer, reason = self._wait()
            if answer is not None:
                total.add(answer)
                break
            assert self.process is not None
            death = Death(self.progress.read(), reason, self.process.returncode, limits)
            prefetch = prefetch and death.alone  # else: next, each block by itself
            start = record_death(
                pickle.loads(payload), death, start, total=total, kills=kills, log=self._log_tail()
            )
        total.wall = time.monotonic() - started
        return total

    def current(self) -> BlockMetrics | None:
        """The block under way, its time so far and the child's memory; called from any thread."""
        state, process = self.progress.read(), self.process
        if state.number < 0 or process is None:
            return None
        memory = 0
        with contextlib.suppress(psutil.Error):
            memory = psutil.Process(process.pid).memory_info().rss
        seconds = max(0.0, time.monotonic() - state.started)
        return BlockMetrics(state.number, seconds, memory, state.parts_done, state.parts_total)

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
            self._kill_group()
            self.process = None

    def _send(self, payload: bytes, start: int, stop: int, prefetch: bool) -> None:
        if self.process is None or self._has_ended():
            self.start()
        assert self.pipe is not None
        self.progress.marked(start)
        self.progress.rest()
        self.pipe.send_bytes(pickle.dumps((payload, start, stop, prefetch)))

    def start(self) -> None:
        """Start the process; `run` does so if there is none."""
        self._stop()
        ours, theirs = Pipe()
        self.log.seek(0)
        self.log.truncate()
        environment = {**os.environ, **dict.fromkeys(SINGLE_THREAD, "1")}
        if environment.get(DASKS_MALLOC[0]) == DASKS_MALLOC[1]:
            del environment[DASKS_MALLOC[0]]
        environment.setdefault(*HEAPS)
        command = [sys.executable, "-X", "faulthandler", "-m", MODULE]
        numbers = [str(theirs.fileno()), str(self.page), str(os.getpid())]
        self.process = subprocess.Popen(
            [*command, *numbers, *self.search_path],
            pass_fds=(theirs.fileno(), self.page),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            env=environment,
            process_group=0,
        )
        theirs.close()
        self.pipe = ours

    def _wait(self) -> tuple[Outcome | None, str]:
        """Outcome of the range, or None and the reason why there is none."""
        assert self.pipe is not None
        assert self.process is not None
        process = psutil.Process(self.process.pid)
        while True:
            try:
                if self.pipe.poll(POLL):
                    answer = pickle.loads(self.pipe.recv_bytes())
                    if isinstance(answer, BaseException):
                        raise answer
                    assert isinstance(answer, Outcome)
                    return answer, ""
                # A process that the child has forked keeps the pipe open: no end of file then.
                ended = self._has_ended() and not self.pipe.poll()
            except (EOFError, ConnectionResetError):
                ended = True
            if ended:
                self._end_within(GRACE)
                return None, "signal" if self.process.returncode < 0 else "exit"
            reason = self._exceeded_limit(process)
            if reason:
                self._end(signal.SIGABRT if reason == "timeout" else signal.SIGKILL)
                return None, reason

    def _exceeded_limit(self, process: psutil.Process) -> str:
        """The limit that the block under way exceeds: 'timeout', 'memory' or ''."""
        state = self.progress.read()
        if state.number < 0:
            return ""
        if self.limits.timeout and time.monotonic() - state.started > self.limits.timeout:
            return "timeout"
        with contextlib.suppress(psutil.NoSuchProcess):
            if self.limits.memory and process.memory_info().rss > self.limits.memory:
                return "memory"
        return ""

    def _end(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self._end_within(GRACE)

    def _end_within(self, seconds: float) -> None:
        """Let the process end by itself for so long, then kill its group."""
        deadline = time.monotonic() + seconds
        while not self._has_ended() and time.monotonic() < deadline:
            time.sleep(0.01)
        self._kill_group()

    def _has_ended(self) -> bool:
        """Whether the process has ended; keeps its id taken, which is that of its group."""
        assert self.process is not None
        if self.process.returncode is not None:
            return True
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.process.pid, options) is not None

    def _kill_group(self) -> None:
        """Kill the process, unless it has ended, and all that it forked into its group."""
        assert self.process is not None
        if self.process.returncode is None:  # else the id may be another's by now
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _log_tail(self, length: int = 8000) -> str:
        size = self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, size - length))
        return self.log.read().decode(errors="replace")


_CHILDREN: dict[tuple[tuple[str, ...], str], Child] = {}


def run_in_child(
    payload: bytes,
    start: int,
    stop: int,
    search_path: tuple[str, ...],
    limits: Limits,
    place: tuple[str, str] = ("", ""),
    session: str = "",
) -> Outcome:
    """Run a range of a pickled job in this process's child; the task that Dask workers run.

    Workers may outlive a driver. Each session gets a child of its own: an earlier one may hold
    volumes open that were replaced since, and stages whose code was changed.

    Parameters
    ----------
    payload : bytes
        The pickled job.
    start, stop : int
        Half-open range of block numbers.
    search_path : tuple of str
        Folders of the user's own stages.
    limits : Limits
    place : tuple of str
        Step and phase, for the worker's metrics.
    session : str
        Token of the driver's lock.
    """
    sys.path[:0] = [folder for folder in search_path if folder not in sys.path]
    key = search_path, session
    if key not in _CHILDREN:
        if not _CHILDREN:
            Finalize(None, _close_children, exitpriority=100)
        _close_children()
        _CHILDREN[key] = Child(search_path)
    child = _CHILDREN[key]
    publish(child.current, *place)
    return child.run(payload, start, stop, limits)


def _close_children() -> None:
    """End this process's child and what it forked; also called when this process ends."""
    while _CHILDREN:
        _CHILDREN.popitem()[1].close()
