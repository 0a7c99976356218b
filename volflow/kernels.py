"""`kernel`: a function compiled by numba, whose machine code is stored by version of the source.

Left alone, numba stores machine code next to a module and compiles again when that file changes,
but not when a function or class changes that the file takes from another one. After an upgrade in
place it would run the old code, or fail on a class that no longer exists. The folder used here is
therefore named by a digest of all sources that kernels are made of.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import cache, cached_property, partial, update_wrapper
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, overload

from volflow.version import __version__

ErrorModel: TypeAlias = Literal["python", "numpy"]
Function = TypeVar("Function", bound=Callable[..., Any])

PACKAGE = Path(__file__).parent
SOURCES = ("core", "kernels.py", "metrics", "segment", "shape", "synth")
"""Files and folders of the package that kernels are made of."""

_lock = threading.Lock()


@overload
def kernel(function: Function, /) -> Function: ...


@overload
def kernel(*, error_model: ErrorModel) -> Callable[[Function], Function]: ...


def kernel(
    function: Callable[..., Any] | None = None, /, *, error_model: ErrorModel = "python"
) -> Any:
    """Compile a function with numba at its first call, without the interpreter's lock.

    Parameters
    ----------
    function : callable, optional
        None where the decorator is written with an option.
    error_model : {"python", "numpy"}
        Whether a division by zero raises an error, or returns inf or nan.

    Returns
    -------
    callable
        The compiled function, or a decorator if there is no function.
    """
    if function is None:
        return partial(kernel, error_model=error_model)
    return Kernel(function, error_model)


class Kernel:
    """A function that numba is imported for, and compiles, at its first call.

    Most processes of a run call few kernels or none, and importing numba takes as long as
    everything else that a short command does.
    """

    def __init__(self, function: Callable[..., Any], error_model: ErrorModel) -> None:
        update_wrapper(self, function)
        self._function, self._error_model = function, error_model

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the compiled function."""
        return self.compiled(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        """Attributes of numba's function: by `_numba_type_` other kernels find it to call it."""
        if name.startswith("__"):  # copying and pickling ask for these; they need no numba
            raise AttributeError(name)
        return getattr(self.compiled, name)

    @cached_property
    def compiled(self) -> Any:
        """The function as numba compiles it."""
        import numba

        settings: Any = numba.config
        folder = cache_folder()
        compile_with = partial(numba.njit, nogil=True, error_model=self._error_model)
        if folder is None:
            return compile_with()(self._function)
        with _lock:  # numba looks at its setting here alone; kernels of other packages keep theirs
            before, settings.CACHE_DIR = settings.CACHE_DIR, str(folder)
            try:
                return compile_with(cache=True)(self._function)
            finally:
                settings.CACHE_DIR = before


@cache
def cache_folder() -> Path | None:
    """The folder of compiled kernels, created; None if none is writable.

    The first that is writable of: NUMBA_CACHE_DIR, the user's cache folder (XDG_CACHE_HOME or
    ~/.cache), the package. In it, each version of the sources has a folder of its own.
    """
    name = f"{__version__}-{source_digest()}"
    return next((at / name for at in _parents() if _is_writable(at / name)), None)


def source_digest() -> str:
    """Digest of the sources that kernels are made of: 16 hexadecimal digits."""
    digest = sha256()
    for source in SOURCES:
        path = PACKAGE / source
        for file in [path] if path.suffix else sorted(path.rglob("*.py")):
            content = file.read_bytes()
            digest.update(f"{file.relative_to(PACKAGE)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def _parents() -> Iterator[Path]:
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        yield Path(chosen).absolute() / "volflow"
    for folder in (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache")):
        if os.path.isabs(folder):  # others are invalid; `~` stays where there is no home
            yield Path(folder) / "volflow" / "kernels"
            break
    yield PACKAGE / "__pycache__" / "kernels"


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True
