"""Recognise that a disk or a quota is full, whichever library reports it."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from volflow.errors import StorageError, StorageFull

FULL = ("No space left on device", "Disk quota exceeded")  # as tensorstore passes it on


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, means that a disk or a quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(error, StorageError) and any(text in str(error) for text in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def translate_disk_full(run: str, where: str = "") -> Iterator[None]:
    """Raise `StorageFull`, with what to do, for any error that means a full disk or quota.

    Parameters
    ----------
    run : str
        Address of the run.
    where : str
        Start of the message.

    Raises
    ------
    StorageFull
    """
    try:
        yield
    except StorageFull:
        raise
    except (OSError, StorageError) as error:
        if not is_full(error):
            raise
        raise StorageFull(
            f"{where}no space left: {error}\nfree some space, then: volflow retry {run}"
        ) from error
