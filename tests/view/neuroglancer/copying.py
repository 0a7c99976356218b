"""A stage that copies its image."""

from __future__ import annotations

from typing import Any

import numpy as np

from volflow.core.geometry import Block
from volflow.core.stage import Layer, Stage


class Copy(Stage):
    """The image again."""

    @property
    def outputs(self) -> dict[str, Any]:
        return {"copy": Layer("uint8", 0, "image")}

    def run(self, block: Block, *, em: np.ndarray) -> dict[str, np.ndarray]:  # type: ignore[override]  # by name
        return {"copy": em}
