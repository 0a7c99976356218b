"""A folder for Dask's own files that is removed even if the driver is killed.

A killed driver cannot remove its folder. But the kernel releases the lock it held on it, and the
next driver on the machine removes every folder without a lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "volflow-driver-"
YOUNG = 2.0  # seconds in which a driver that has made its folder has surely locked it


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """Make a folder that is removed with the context, or after the death of this process."""
    remove_abandoned()
    while True:
        with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as folder:
            lock = _locked(folder)
            if lock is None:
                continue
            try:
                yield folder
            finally:
                os.close(lock)
            return


def _locked(folder: str) -> int | None:
    """Descriptor with the lock on a folder; None if another driver removed the folder first.

    That takes more than `YOUNG` seconds, on a heavily overloaded machine.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    if os.path.exists(folder):
        return descriptor
    os.close(descriptor)
    return None


def remove_abandoned() -> None:
    """Remove the folders of this user's drivers that have ended."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or removed meanwhile
            status = folder.stat()
            old = time.time() - status.st_mtime > YOUNG
            if old and status.st_uid == os.getuid():
                _remove_unlocked(folder)


def _remove_unlocked(folder: Path) -> None:
    """Remove a folder while holding its lock, so that no other driver takes it over meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)
