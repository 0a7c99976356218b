"""Processes of a case: found by an environment variable that all of them inherit."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import psutil

from tests.soak.drivers import TOKEN

IS_A_CHILD = "volflow.engine.worker.child_main"


def processes(token: str) -> list[psutil.Process]:
    """The processes that were started with a token in their environment; no zombies."""
    needle = f"{TOKEN}={token}\0".encode()
    members = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            if name.isdecimal() and needle in Path(f"/proc/{name}/environ").read_bytes():
                members.append(psutil.Process(int(name)))
    return members


def block_children(token: str) -> list[psutil.Process]:
    """The processes that run blocks."""
    return [each for each in processes(token) if IS_A_CHILD in command(each)]


def workers(token: str) -> list[psutil.Process]:
    """The workers that have a child, a parent each."""
    parents = []
    for child in block_children(token):
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = child.parent()
            if parent is not None and parent.pid > 1:
                parents.append(parent)
    return parents


def orphans(token: str) -> list[psutil.Process]:
    """Children whose worker has ended."""
    alive = {process.pid for process in processes(token)}
    alone = []
    for child in block_children(token):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.ppid() not in alive:
                alone.append(child)
    return alone


def command(process: psutil.Process) -> str:
    """The command line of a process; empty if it has ended."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def gone(look: object, seconds: float) -> list[psutil.Process]:
    """Wait until a function returns no process; those that are there after so many seconds."""
    assert callable(look)
    deadline = time.monotonic() + seconds
    left: list[psutil.Process] = look()
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = look()
    return left


def send(victims: list[psutil.Process], number: int) -> int:
    """Send a signal to processes, and count those that were there to receive it."""
    count = 0
    for process in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
            count += 1
    return count
