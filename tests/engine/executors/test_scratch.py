"""A driver's scratch folder: removed with the driver, and by no other driver before."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from volflow.engine.executors import scratch as scratch_module
from volflow.engine.executors.scratch import PREFIX, remove_abandoned, scratch

DRIVER = """
import os, signal
from volflow.engine.executors.scratch import scratch
with scratch() as folder:
    open(os.path.join(folder, "file"), "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(scratch_module, "YOUNG", -1.0)  # no folder is too young to be removed
    return tmp_path


def test_it_goes_with_its_context_and_others_leave_it_alone(place):
    with scratch() as folder:
        (Path(folder) / "file").touch()
        remove_abandoned()
        with scratch() as other:
            assert other != folder
        assert os.listdir(folder) == ["file"]
    assert list(place.iterdir()) == []


def test_a_killed_drivers_folder_is_removed_by_the_next_one(place):
    assert subprocess.run([sys.executable, "-c", DRIVER], check=False).returncode == -9
    assert len(list(place.glob(f"{PREFIX}*/file"))) == 1
    remove_abandoned()
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("call", [(os, "open"), (fcntl, "flock")], ids=["opened", "locked"])
def test_a_folder_that_is_removed_before_it_is_held_is_made_again(place, monkeypatch, call):
    created = []
    plain = getattr(*call)

    def late(*arguments, **named):
        """Another driver comes just before the first folder is opened, or locked."""
        actual = [str(folder) for folder in place.glob(f"{PREFIX}*")]
        if actual and not created:
            created.extend(actual)
            shutil.rmtree(actual[0])
        return plain(*arguments, **named)

    monkeypatch.setattr(*call, late)
    with scratch() as folder:
        assert os.path.isdir(folder)
        assert created
        assert folder not in created
        remove_abandoned()
        assert os.path.isdir(folder)
