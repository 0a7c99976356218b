"""The `renumber` stage: consecutive ids for the labels of a volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from volflow.core.geometry import Block, Triple
from volflow.core.stage import Columns, Layer, PreviousRound, Record, Reduction, Up
from volflow.segment.distinct import distinct_labels

VOXELS_PER_LABEL = 64  # of a node's memory estimate: segmentations have far more


class Renumber(Reduction):
    """Ids 1, 2, ... for the labels of `labels`, in ascending order of the labels; 0 stays 0.

    Nodes join the labels of their blocks; the root numbers them and sends the ids down again, so
    the ids do not depend on the blocks. The root holds every label of the volume: 8 bytes each.

    Inputs
    ------
    labels : unsigned integers, (Z, Y, X)
        The segmentation; 0 is background.

    Outputs
    -------
    ids : table
        Per block, each `label` in it, ascending, and its `id`; the stage `convert` writes a volume
        of the ids. The result holds the number of labels and the largest one.
    """

    wants: ClassVar[dict[str, Layer]] = {"labels": Layer(kind="segmentation", channels=0)}

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"ids": Columns((("label", "uint64"), ("id", "uint64")))}

    @property
    def descends(self) -> bool:
        return True

    def memory(self, shape: Triple) -> int:
        return 32 * int(np.prod(shape))

    def node_memory(self, shape: Triple) -> int:
        return (64 << 20) + 48 * int(np.prod(shape)) // VOXELS_PER_LABEL

    def leaf(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        round_name: str,
        previous: PreviousRound | None,
        *,
        labels: np.ndarray,
    ) -> Up:
        record = {"label": distinct_labels(labels)}
        return Up(record, record)

    def join(self, block: Block, round_name: str, children: Sequence[Record]) -> Up:
        labels = [child["label"] for child in children]
        together = np.concatenate(labels)
        counts = np.array([len(each) for each in labels], np.int64)
        return Up({"label": np.unique(together)}, {"label": together, "labels_of_child": counts})

    def split(
        self, block: Block, round_name: str, retained: Record, received: Record | None
    ) -> Sequence[Record]:
        together = retained["label"]
        union, rows = np.unique(together, return_inverse=True)
        ids = _ids(union, received)[rows]
        ends = np.cumsum(retained["labels_of_child"])[:-1]
        return [{"id": part} for part in np.split(ids, ends)]

    def finish(self, block: Block, previous: PreviousRound) -> dict[str, np.ndarray | Record]:
        labels = previous.retained["label"]
        return {"ids": {"label": labels, "id": _ids(labels, previous.received)}}

    def result(self, roots: Sequence[Record]) -> dict[str, Any]:
        labels = np.concatenate([root["label"] for root in roots])
        return {"labels": len(labels), "largest": int(labels.max(initial=0))}


def _ids(labels: np.ndarray, received: Record | None) -> np.ndarray:
    """The ids of a node's labels: those received, or 1, 2, ... at the root."""
    return np.arange(1, len(labels) + 1, dtype=np.uint64) if received is None else received["id"]
