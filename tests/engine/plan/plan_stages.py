"""Stages that declare like real ones and are never run: what planning looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, BlockGrid, Triple
from volflow.core.stage import (
    Columns,
    Layer,
    Phase,
    PreviousRound,
    Record,
    Reduction,
    Stage,
    Up,
)


class Pieces(Stage):
    """As `fragments`: bytes depend on the blocks."""

    wants: ClassVar[dict[str, Layer]] = {"affinity": Layer("uint8", 3, "affinity")}
    low: Annotated[int, Field(ge=0, le=255)] = 1

    @property
    def halo(self) -> Triple:
        return (2, 2, 2)

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"pieces": Layer("uint64", 0, "segmentation", blockwise=True)}

    def memory(self, shape: Triple) -> int:
        return 10 * int(np.prod(shape))

    def run(self, block: Block, *, affinity: np.ndarray) -> dict[str, Any]:
        return {}


class Table(Reduction):
    """As `agglomerate`: up a tree, down again, and a table per block."""

    wants: ClassVar[dict[str, Layer]] = {"pieces": Layer("uint64", 0, "segmentation")}
    threshold: Annotated[float, Field(ge=0, le=1)]

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"table": Columns((("piece", "uint64"), ("segment", "uint64")))}

    @property
    def descends(self) -> bool:
        return True

    def node_memory(self, shape: Triple) -> int:
        return 3 * int(np.prod(shape))

    def check(self, grid: BlockGrid) -> list[str]:
        return ["threshold 0.99 joins nothing"] if self.threshold == 0.99 else []

    def phases(self, grid: BlockGrid) -> tuple[Phase, ...]:
        assert self.threshold != 0.99, "what check() refuses need not make sense here"
        return super().phases(grid)

    def leaf(  # type: ignore[override]
        self,
        block: Block,
        round_name: str,
        previous: PreviousRound | None,
        *,
        pieces: Any,
        affinity: Any,
    ) -> Up:
        return Up({}, {})


class Segments(Stage):
    """As `relabel`."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"segmentation": Layer("uint64", 0, "segmentation")}

    def run(self, block: Block, *, pieces: np.ndarray, table: Record) -> dict[str, Any]:
        return {}


class Sizes(Stage):
    """Reads the segmentation, and another volume if there is one."""

    wants: ClassVar[dict[str, Layer]] = {
        "segmentation": Layer(kind="segmentation", channels=0),
        "em": Layer(kind="image"),
    }

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"sizes": Layer("uint32", 0, "image")}

    def run(
        self, block: Block, *, segmentation: np.ndarray, em: np.ndarray | None = None
    ) -> dict[str, Any]:
        return {}


class Chicken(Stage):
    """Waits for the egg."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"chicken": Layer("uint8", 0, "image")}

    def run(self, block: Block, *, egg: np.ndarray) -> dict[str, Any]:
        return {}


class Egg(Stage):
    """Waits for the chicken."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"egg": Layer("uint8", 0, "image")}

    def run(self, block: Block, *, chicken: np.ndarray) -> dict[str, Any]:
        return {}


class Signed(Stage):
    """Labels that no viewer shows."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"signed": Layer("int64", 0, "segmentation")}

    def run(self, block: Block, *, affinity: np.ndarray) -> dict[str, Any]:
        return {}


class Later(Stage):
    """A parameter whose default may be given."""

    level: float = 0.5
    names: Sequence[str] = ()

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"later": Layer("uint8", 0, "image")}

    def run(self, block: Block, *, affinity: np.ndarray) -> dict[str, Any]:
        return {}
