"""The sections decoded last, because neighbouring boxes share them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

CACHE_BYTES = 64 << 20  # decoded sections held per volume and process; at least one


class RecentSections:
    """Decoded sections by number, at most `CACHE_BYTES` of them; decoding starts on a miss.

    Parameters
    ----------
    decode : callable
        Returns the section of a number, always of one size.
    """

    def __init__(self, decode: Callable[[int], np.ndarray]) -> None:
        self._decode, self._lock = decode, threading.Lock()
        self._sections: OrderedDict[int, np.ndarray] = OrderedDict()

    def __call__(self, number: int) -> np.ndarray:
        with self._lock:
            section = self._sections.get(number)
            if section is not None:
                self._sections.move_to_end(number)
                return section
        section = self._decode(number)
        with self._lock:
            self._sections[number] = section
            while len(self._sections) > 1 and len(self._sections) * section.nbytes > CACHE_BYTES:
                self._sections.popitem(last=False)
        return section
