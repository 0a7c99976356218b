"""A reduction whose leaves ask for the round before of the blocks around them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tests.engine.toys import Total
from volflow.core.geometry import Block, Triple, zyx
from volflow.core.stage import PreviousRound, Up

AROUND = [
    zyx([step if axis == other else 0 for other in range(3)])
    for axis, step in itertools.product(range(3), (-1, 1))
]


class Beside(Total):
    """The same sum; the leaves of the second round look at what they were given of others."""

    def neighbour_records(self, block: Block, round_name: str) -> list[Triple]:
        return AROUND if round_name == "second" else []

    def leaf(
        self, block: Block, round_name: str, previous: PreviousRound | None, *, index: Any
    ) -> Up:
        own = np.array(block.index, "int64")
        if previous is not None:
            self._look(block, previous)
        up = super().leaf(block, round_name, previous, index=index)
        return Up(up.passed, {**up.retained, "at": own})

    def _look(self, block: Block, previous: PreviousRound) -> None:
        sides = zip(block.bounds.shape, block.write.shape, strict=True)
        counts = [-(-side // mine) for side, mine in sides]
        wanted = {
            offset: at
            for offset in AROUND
            for at in [tuple(i + n for i, n in zip(block.index, offset, strict=True))]
            if all(0 <= i < n for i, n in zip(at, counts, strict=True))
        }
        actual = {
            offset: tuple(p.retained["at"].tolist())
            for offset, p in previous.neighbour_records.items()
        }
        if actual != wanted:
            raise ValueError(f"block {block.index} was given {actual}; expected {wanted}")
        for other in previous.neighbour_records.values():
            assert other.received is not None
            assert previous.received is not None
            if not np.array_equal(other.received["sum"], previous.received["sum"]):
                raise ValueError(f"block {block.index} was given what another round handed down")
