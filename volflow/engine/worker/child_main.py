"""The child process of a worker: runs the ranges that come through a pipe.

Started as `python -m volflow.engine.worker.child_main PIPE PAGE PARENT [FOLDER ...]` with the
descriptors of the pipe and of the shared page, the id of the parent process, and the folders of the
user's own stages.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import pickle
import signal
import sys
import time
from multiprocessing.connection import Connection

from volflow.core.stage.faults import error_text
from volflow.engine.worker.block_range import job_path, run_range
from volflow.engine.worker.memory import trim_heap
from volflow.engine.worker.outcome import Outcome
from volflow.engine.worker.shared_progress import SharedProgress
from volflow.errors import StorageError

TRIM_EVERY = 1.0  # shortest time between two trims of the heap, in seconds


def main(arguments: list[str]) -> None:
    """Run the ranges that come through the pipe until it closes."""
    pipe, page, parent = Connection(int(arguments[0])), int(arguments[1]), int(arguments[2])
    _end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    sys.path[:0] = [folder for folder in arguments[3:] if folder not in sys.path]
    progress, last_job, trimmed = SharedProgress(page), "", 0.0
    while True:
        try:
            message = pipe.recv_bytes()
        except (EOFError, OSError):
            return
        answer: Outcome | BaseException
        try:
            payload, start, stop, prefetch = pickle.loads(message)
            job = pickle.loads(payload)
            progress.first_unmarked = start
            if job_path(job) != last_job or time.monotonic() > trimmed + TRIM_EVERY:
                trim_heap()
                last_job, trimmed = job_path(job), time.monotonic()
            answer = run_range(job, start, stop, progress, prefetch=prefetch)
        except StorageError as error:  # no space left, or the ledger cannot be written
            answer = error
        except Exception as error:  # the job cannot be unpickled
            answer = RuntimeError(error_text(error))
        progress.rest()
        pipe.send_bytes(pickle.dumps(answer))


def _end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends."""
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before this call
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
