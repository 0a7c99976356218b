"""Stages that leave an object for each segment: its row in the table, and ids that do not occur."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from volflow.core.stage import Grouping, Record

MOST_PARTITIONS = 1024
MOST_NAMED = 5  # unknown ids in a message


class OfSegments(Grouping):
    """A grouping by `segment`, whose partitions leave a row for each in its one round."""

    row_columns: ClassVar[tuple[str, ...]]
    """Columns of the table; `segment` is one of them."""

    def key(self, round_name: str) -> tuple[str, ...]:
        return ("segment",)

    def table(self, partials: Mapping[str, Sequence[Record]]) -> Record:
        parts = partials["total"]
        columns = {
            name: np.concatenate([part[name] for part in parts]) for name in self.row_columns
        }
        order = np.argsort(columns["segment"])
        return {name: column[order] for name, column in columns.items()}

    def unmet(self, result: Mapping[str, Any]) -> list[str]:
        unknown = result["unknown_ids"]
        if not unknown:
            return []
        names = ", ".join(str(segment) for segment in unknown[:MOST_NAMED])
        rest = len(unknown) - MOST_NAMED
        more = f" and {rest} more" if rest > 0 else ""
        return [f"ids: expected segments of labels; {names}{more} have no voxel in the bounds"]


def shards(voxels: int, per_shard: int) -> int:
    """The number of partitions for a number of voxels: a power of two, as of any shards."""
    wanted = min(MOST_PARTITIONS, -(-voxels // per_shard))
    return 1 << (max(1, wanted) - 1).bit_length()
