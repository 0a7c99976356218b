"""Memory that is kept between the layers of a network, instead of asked for again at each.

A layer's output has tens of megabytes. glibc takes so much directly from the kernel, gives it back
when it is freed, and the kernel fills it with zeros again for the next layer.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # of mallopt, as in malloc.h
MAPPED = 65536  # glibc's default: the greatest number of allocations taken directly
LARGE = 32 << 20  # bytes: where glibc itself moves the threshold to as such arrays are freed
SETTINGS = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


@contextlib.contextmanager
def reused_memory() -> Iterator[None]:
    """Have freed memory reused by the same process, and give it back at the end.

    Nothing happens where the C library is another one, or the user has set its thresholds.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or _is_set():
        yield
        return
    library.mallopt(MMAP_MAX, 0)
    library.mallopt(TRIM_THRESHOLD, -1)  # never
    try:
        yield
    finally:
        library.mallopt(MMAP_MAX, MAPPED)
        library.mallopt(MMAP_THRESHOLD, LARGE)
        library.mallopt(TRIM_THRESHOLD, 2 * LARGE)
        library.malloc_trim(0)


def _is_set() -> bool:
    """Whether the environment has settings for malloc."""
    tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    return tuned or any(name in os.environ for name in SETTINGS)
