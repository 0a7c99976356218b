"""Toy stages whose results depend on a parameter, and not on where they leave their traces."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.engine import toys
from volflow.core.geometry import Block


class Index(toys.Index):
    """The toy `Index` plus a number; the digest of its step is the same wherever it runs."""

    plus: int = 0

    def identity(self) -> dict[str, Any]:
        return {"plus": self.plus}

    def run(self, block: Block) -> dict[str, Any]:
        voxels = super().run(block)["index"]
        return {"index": (voxels + self.plus).astype(np.uint32)}
