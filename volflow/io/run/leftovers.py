"""Removal of files that killed processes left unfinished in a run.

On a file system tensorstore writes `KEY.__lock` and renames it. Data of a block are written again
under the same name. Markers and events may not be, so their folders are searched.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from volflow.io.address import Address

SUFFIX = ".__lock"
FOLDERS = ("ledger", "events", "results")


def remove_leftovers(run: str) -> int:
    """Remove unfinished markers and events of a run in a local folder; return their number."""
    place = Address.parse(run).local
    if place is None:
        return 0
    return sum(_removed(place / name) for name in FOLDERS)


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
