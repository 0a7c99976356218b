"""The `score` stage: how far a segmentation is from the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from volflow.core.geometry import Block, Triple
from volflow.core.stage import Layer, Previous, Record, Reduction, Up
from volflow.metrics.voxel import Contingency, add, contingency, scores


class Score(Reduction):
    """Variation of information (bits) and adapted Rand error of `segmentation` against `truth`.

    Voxels of truth label 0 and voxels outside the mask are ignored; segment 0 is a segment like
    any other. The result is the same whatever the blocks: tables of exact counts are added up,
    and divided once.
    """

    wants: ClassVar[dict[str, Layer]] = {
        "segmentation": Layer(kind="segmentation", channels=0),
        "truth": Layer(kind="segmentation", channels=0),
    }

    def memory(self, shape: Triple) -> int:
        return 48 * int(np.prod(shape))

    def leaf(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        round: str,
        previous: Previous | None,
        *,
        segmentation: np.ndarray,
        truth: np.ndarray,
        mask: np.ndarray | None = None,
    ) -> Up:
        return Up(_record(contingency(truth, segmentation, mask)), {})

    def join(self, block: Block, round: str, children: Sequence[Record]) -> Up:
        return Up(_record(add(_tables(children))), {})

    def result(self, roots: Sequence[Record]) -> dict[str, Any]:
        return dict(scores(add(_tables(roots))))


def _record(table: Contingency) -> Record:
    """The columns of a table."""
    return {"truth": table.truth, "segment": table.segment, "count": table.count}


def _tables(records: Sequence[Record]) -> list[Contingency]:
    """The tables of records; a block that was skipped under the mask left an empty one."""
    return [Contingency(**record) for record in records if record]
