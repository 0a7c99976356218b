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
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as folder:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield folder
        finally:
            os.close(held)


def remove_abandoned() -> None:
    """Remove the folders of this user's drivers that are gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another's, or gone meanwhile
            found = folder.stat()
            old = time.time() - found.st_mtime > YOUNG
            if old and found.st_uid == os.getuid() and _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
