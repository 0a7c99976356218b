"""Errors of libraries while they read a file, as errors of volflow that name it.

Readers of files raise as many kinds of exceptions as there are formats, and a damaged file may
have any value where a number was expected. So the boundary, and not each reader, turns them round.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from volflow.errors import StorageError, VolflowError

log = logging.getLogger(__name__)

LONGEST = 300  # characters of a library's message


@contextmanager
def reading(address: str, kind: str = "") -> Iterator[None]:
    """Raise every exception of the block as a StorageError that names what is read.

    Volflow's own errors pass, with the address added where they lack it.

    Parameters
    ----------
    address : str
        Of what is read.
    kind : str
        Such as `volume`; written before the address.

    Raises
    ------
    StorageError
    """
    what = f"{kind} {address}".lstrip()
    try:
        yield
    except StorageError as error:
        if type(error) is not StorageError or _name(address) in str(error):
            raise
        raise StorageError(f"{what}: {error}") from error
    except VolflowError:
        raise
    except MemoryError as error:
        raise StorageError(
            f"{what}: cannot be read: its sizes need more memory than there is; it is damaged, or "
            f"its parts are too large ({_text(error)})"
        ) from error
    except Exception as error:
        log.debug("%s: cannot be read", what, exc_info=True)
        raise StorageError(f"{what}: cannot be read: {_text(error)}") from error


def _name(address: str) -> str:
    """The last part of an address, which relative and absolute ones have in common."""
    return address.partition("?")[0].rstrip("/").rpartition("/")[2]


def _text(error: Exception) -> str:
    """The message of an exception on one line, after the name of its type unless that is plain."""
    message = " ".join(str(error).split())[:LONGEST]
    if isinstance(error, KeyError):
        return f"no entry {message}"
    plain = isinstance(error, OSError | ValueError | RuntimeError)
    return message if plain and message else f"{type(error).__name__}: {message}".rstrip(": ")
