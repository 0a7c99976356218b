"""Stages that end a run in each of the ways that have an exit code."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tests.engine.toys import Index, Total
from volflow.core.geometry import Block
from volflow.core.stage import Record


class Unmet(Total):
    """A sum that is never enough."""

    def unmet(self, result: Mapping[str, Any]) -> list[str]:
        return [f"sum: expected more than {result['sum']}"]


class BrokenResult(Total):
    """A sum that cannot be computed at the end."""

    def result(self, roots: Sequence[Record]) -> dict[str, Any]:
        raise ValueError("no sum")


class BrokenUnmet(Total):
    """A sum whose requirement cannot be compared."""

    def unmet(self, result: Mapping[str, Any]) -> list[str]:
        raise ValueError("no comparison")


class Ending(Index):
    """Ends in block 1, in one of several ways, while there is a file `sick`."""

    how: str = "raise"
    sick: str = ""

    def run(self, block: Block) -> dict[str, Any]:
        if block.index == (0, 0, 1) and os.path.exists(self.sick):
            if self.how == "interrupt":
                signal.raise_signal(signal.SIGINT)
            elif self.how == "exit":
                sys.exit(0)
            elif self.how == "hang":
                time.sleep(3600)
            elif self.how == "lie":
                return {"other": 1}
            raise ArithmeticError("block 1 is sick")
        return super().run(block)
