"""Faults of a user's own stage: exits that do not end the run, and errors as short, safe text."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

LONGEST_TEXT = 8000  # characters of an error or a traceback that are kept
ENDING_CALLS = ("_exit", "abort", "execv", "execve")  # the other exec functions call these

_guarded_process = 0
"""Id of the process that the calls must not end now; 0: none."""


class StageExit(BaseException):
    """A stage asked to end the process that it shares with the driver; holds the call as text."""


@contextlib.contextmanager
def exits_raise() -> Iterator[None]:
    """Have `os._exit`, `os.abort` and `os.exec*` raise `StageExit` in this process.

    Processes that a stage forks may end as they like. Code that ends the process from C, or by a
    signal, is not held up.
    """
    global _guarded_process
    _replace_calls()
    before, _guarded_process = _guarded_process, os.getpid()
    try:
        yield
    finally:
        _guarded_process = before


@functools.lru_cache(maxsize=1)
def _replace_calls() -> None:
    """Replace the calls once and for all: a stage may import a name and call it later."""
    for name in ENDING_CALLS:
        call = _guarded(name, getattr(os, name))
        for module in (os, sys.modules[os.name]):  # `posix` holds them too
            setattr(module, name, call)


def _guarded(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def guarded(*args: Any, **options: Any) -> Any:
        if _guarded_process == os.getpid():
            _raise_exit(f"os.{name}({', '.join(map(repr, args))})")
        return call(*args, **options)

    return guarded


def _raise_exit(call: str) -> NoReturn:
    raise StageExit(shortened(call, 200))


def exit_call(error: BaseException) -> str:
    """The call by which a stage asked to end the process, such as `sys.exit(0)`; "" if none."""
    if isinstance(error, StageExit):
        return str(error)
    if isinstance(error, SystemExit):
        with contextlib.suppress(Exception):
            return shortened(f"sys.exit({error.code!r})", 200)
        return "sys.exit"
    return ""


def error_text(error: BaseException) -> str:
    """Type and message of an error; never raises, whatever the error's own methods do."""
    try:
        message = str(error)
    except Exception as second:
        message = f"(no message: its __str__ raised {type(second).__name__})"
    name = type(error).__name__
    return shortened(f"{name}: {message}" if message else name)


def fault_text(error: BaseException) -> str:
    """The error, or the call by which a stage asked to end the process, on one line if short."""
    call = exit_call(error)
    return f"called {call}" if call else shortened(error_text(error), 2000)


def traceback_text(error: BaseException) -> str:
    """The traceback of an error, shortened; never raises."""
    try:
        return shortened("".join(traceback.format_exception(error)))
    except Exception:  # an attribute of the error raised
        lines = traceback.format_tb(error.__traceback__)
        return shortened("".join([*lines, error_text(error)]))


def shortened(text: str, longest: int = LONGEST_TEXT) -> str:
    """The start and the end of a text, with what was left out; without lone surrogates."""
    left_out = len(text) - longest
    if left_out > 0:
        half = longest // 2
        text = f"{text[:half]}\n... {left_out:,} characters left out ...\n{text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode()
