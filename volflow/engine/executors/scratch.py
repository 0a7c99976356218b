"""A folder for Dask's own files that does not outlive its driver for long.

A driver that is killed cannot remove its folder. It holds a lock on it that the kernel lets go,
and the next driver on the machine removes whatever nobody holds.
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
YOUNG = 2.0  # seconds in which a driver that has made its folder surely holds it


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A folder that goes when the context ends, or after the death of this process."""
    remove_abandoned()
    while True:
        with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as folder:
            held = _held(folder)
            if held is None:
                continue
            try:
                yield folder
            finally:
                os.close(held)
            return


def _held(folder: str) -> int | None:
    """A descriptor with the lock on a folder; None if it was removed before it was ours.

    That takes more than `YOUNG` seconds on a machine that is far too busy.
    """
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    fcntl.flock(held, fcntl.LOCK_EX)
    if os.path.exists(folder):
        return held
    os.close(held)
    return None


def remove_abandoned() -> None:
    """Remove the folders of this user's drivers that are gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another's, or gone meanwhile
            found = folder.stat()
            old = time.time() - found.st_mtime > YOUNG
            if old and found.st_uid == os.getuid():
                _remove_unheld(folder)


def _remove_unheld(folder: Path) -> None:
    """Remove a folder under its lock, so that nobody takes it for theirs meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)
