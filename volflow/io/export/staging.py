"""Files and folders that appear as a whole: written under a hidden name, then renamed.

    .NAME.x7a2.partial/NAME     while it is written
    NAME                        when it is complete

A process that dies leaves the hidden folder. The next process that writes NAME deletes it; a
lock on the folder protects those that are still being written.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from volflow.errors import StorageError

METADATA = ("info", ".zgroup", ".zattrs", ".zarray", "zarr.json", "attributes.json")
"""Files that make a folder a volume; they are moved last."""


class Staged:
    """A file or folder that is being written under a hidden name on the same file system.

    Attributes
    ----------
    path : Path
        Where to write it; its last part is that of the destination.
    """

    def __init__(self, destination: Path) -> None:
        self.destination = destination
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            _delete_leftovers(destination)
            folder = tempfile.mkdtemp(".partial", f".{destination.name}.", destination.parent)
            self._folder = Path(folder)
            self._lock = os.open(self._folder, os.O_RDONLY)
        except OSError as error:
            raise StorageError(f"{destination} cannot be written: {error}") from error
        _lock(self._lock)
        self.path = self._folder / destination.name

    def publish(self) -> None:
        """Rename it to its destination: a file replaces one there, a folder's files are added.

        Raises
        ------
        StorageError
            If the file system refuses.
        """
        try:
            if self.path.is_file():
                _sync(self.path)
            if self.path.is_dir() and self.destination.is_dir():
                _move_into(self.path, self.destination)
            else:
                os.replace(self.path, self.destination)
        except OSError as error:
            raise StorageError(f"{self.destination} cannot be written: {error}") from error
        self.discard()

    def discard(self) -> None:
        """Delete what was written and not published."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """Give up the lock; what was written stays until another process writes the same name."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


@contextmanager
def staged(destination: Path) -> Iterator[Path]:
    """The path under which to write a file or folder that appears when the block ends well.

    Raises
    ------
    StorageError
        If the file system refuses.
    """
    copy = Staged(destination)
    try:
        yield copy.path
    except BaseException:
        copy.discard()
        raise
    copy.publish()


def _delete_leftovers(destination: Path) -> None:
    """Delete hidden folders of this name that no living process writes."""
    for folder in destination.parent.glob(f".{_literal(destination.name)}.*.partial"):
        lock = os.open(folder, os.O_RDONLY)
        try:
            if _lock(lock):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _literal(name: str) -> str:
    """A name as a pattern that matches nothing else."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _lock(descriptor: int) -> bool:
    """Lock a folder; False if another process has it, or the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sync(path: Path) -> None:
    """Have a file's bytes on disk before its name is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move_into(source: Path, destination: Path) -> None:
    """Move the files of a volume into a folder, those that make it a volume last."""
    for child in sorted(source.iterdir(), key=lambda child: child.name in METADATA):
        target = destination / child.name
        if target.is_dir() and child.is_dir():
            _move_into(child, target)
        else:
            os.replace(child, target)
