"""Removal of files that killed processes left unfinished in a run.

On a file system tensorstore writes `KEY.__lock` and renames it. Data of a block are written again
under the same name. Markers and events may not be, so their folders are searched. A driver of
workers on other machines leaves the file by which they show that they see the run, and its keys.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from volflow.io.address import Address

SUFFIX = ".__lock"
FOLDERS = ("ledger", "events", "results")
SIGHT = ".volflow-"
"""Beginning of the name of a file that workers look for, to show that they see the run."""
KEYS = "volflow-keys"
"""Folder of the certificates that a driver makes for its workers."""


def remove_leftovers(run: str) -> int:
    """Remove what killed drivers and workers left unfinished in a run in a local folder.

    The run must be held, and its executor not be open.

    Returns
    -------
    int
        Number of the files and folders removed.
    """
    place = Address.parse(run).local
    if place is None:
        return 0
    count = sum(_removed(place / name) for name in FOLDERS)
    for path in place.glob(f"{SIGHT}*"):
        with contextlib.suppress(OSError):
            path.unlink()
            count += 1
    if (place / KEYS).is_dir():
        shutil.rmtree(place / KEYS, ignore_errors=True)
        count += 1
    return count


def _removed(folder: Path | str) -> int:
    count = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:  # a ledger may have millions
            if entry.is_dir(follow_symlinks=False):
                count += _removed(entry.path)
            elif entry.name.endswith(SUFFIX):
                with contextlib.suppress(OSError):  # its writer is alive and renamed it
                    os.unlink(entry.path)
                    count += 1
    return count
