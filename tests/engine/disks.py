"""Disks as small as a test wants them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.engine.runs import wait_for


def mount(*arguments: str) -> bool:
    done = subprocess.run(["mount", *arguments], capture_output=True, check=False)
    return done.returncode == 0


@contextmanager
def disk_of(size: str, folder: Path) -> Iterator[Path]:
    """A disk of `size`, as mount takes it, in a new folder; skips where one may not mount."""
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)):
        pytest.skip("a small disk can be mounted by root only")
    yield folder
    # a write that failed may hold its file for a moment longer
    wait_for(lambda: subprocess.run(["umount", str(folder)], check=False).returncode == 0)
