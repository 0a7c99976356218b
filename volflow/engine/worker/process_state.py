"""The state of this process that a stage may change, kept and restored around its blocks."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` makes enumerations, in 5 us each
import contextlib
import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STREAMS = ("stdin", "stdout", "stderr")


class ProcessState:
    """Keeps signal handlers, working folder and standard streams while the context lasts.

    Attributes
    ----------
    interrupted : bool
        Whether SIGINT has arrived since the context was entered. True outside the main thread,
        which does not know.
    """

    def __init__(self) -> None:
        self._main = threading.current_thread() is threading.main_thread()
        self.interrupted = not self._main
        self._streams = {name: getattr(sys, name) for name in STREAMS}
        self._files: dict[int, tuple[int, tuple[int, int]]] = {}

    def __enter__(self) -> ProcessState:
        self._folder = _working_folder()
        self._before = signal.getsignal(signal.SIGINT)
        if self._main and callable(self._before):
            signal.signal(signal.SIGINT, self._interrupt)
        self._handlers = {int(number): _signal.getsignal(number) for number in SIGNALS}
        for descriptor in range(3):
            with contextlib.suppress(OSError):  # closed already
                self._files[descriptor] = os.dup(descriptor), _identity(descriptor)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.restore()
        if self._main and callable(self._before):
            signal.signal(signal.SIGINT, self._before)
        for copy, _ in self._files.values():
            os.close(copy)

    def restore(self) -> None:
        """Undo what a block changed; takes microseconds if it changed nothing."""
        if self._main:
            for number, handler in self._handlers.items():
                if _signal.getsignal(number) is not handler and handler is not None:
                    signal.signal(number, handler)
        if self._folder and _working_folder() != self._folder:
            with contextlib.suppress(OSError):  # deleted
                os.chdir(self._folder)
        for descriptor, (copy, identity) in self._files.items():
            if _identity(descriptor) != identity:
                os.dup2(copy, descriptor)
        for descriptor, (name, stream) in enumerate(self._streams.items()):
            if getattr(sys, name) is not stream:
                setattr(sys, name, stream)
            if getattr(stream, "closed", False) and descriptor in self._files:
                reopened = _reopened(descriptor, stream)
                self._streams[name] = reopened
                setattr(sys, name, reopened)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True
        if callable(self._before):
            self._before(number, frame)


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _identity(descriptor: int) -> tuple[int, int]:
    """Device and inode of an open file; zeros if it is closed."""
    try:
        stat = os.fstat(descriptor)
    except OSError:
        return (0, 0)
    return stat.st_dev, stat.st_ino


def _reopened(number: int, stream: Any) -> Any:
    """A standard stream in place of one that was closed."""
    return open(
        number,
        "w" if number else "r",
        buffering=1,
        encoding=getattr(stream, "encoding", None),
        errors=getattr(stream, "errors", None),
        closefd=False,
    )
