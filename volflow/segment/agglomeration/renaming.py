"""New names of segments on their way down from the boxes where they were decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Renaming:
    """New names of ids; ids without an entry keep their name.

    Each id may have K names at once: one for each of several thresholds.
    """

    before: np.ndarray  # uint64, (N,), ascending
    after: np.ndarray  # uint64, (N, K)

    @classmethod
    def between(cls, before: np.ndarray, after: np.ndarray) -> Renaming:
        """The renaming of ids (N,) to names (N, K), without ids that keep all their names."""
        changed = (after != before[:, None]).any(axis=1)
        return cls(before[changed], after[changed])

    def record(self) -> dict[str, np.ndarray]:
        """The columns by name; the K names of an id are consecutive."""
        return {"before": self.before, "after": self.after.ravel()}

    @classmethod
    def from_record(cls, record: dict[str, np.ndarray] | None, names: int = 1) -> Renaming:
        """The renaming of a record with `names` names per id; None renames nothing."""
        if record is None:
            return cls(np.zeros(0, np.uint64), np.zeros((0, names), np.uint64))
        return cls(record["before"], record["after"].reshape(-1, names))

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """The new names of ids, uint64; for an array (M, K), column k gets the k-th names."""
        if len(self.before) == 0 or len(ids) == 0:
            return ids.astype(np.uint64)
        at = np.minimum(np.searchsorted(self.before, ids), len(self.before) - 1)
        column = np.arange(ids.shape[1]) if ids.ndim > 1 else 0
        return np.where(self.before[at] == ids, self.after[at, column], ids).astype(np.uint64)


def names_record(
    before: Sequence[np.ndarray], after: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """The record that a node keeps for the way down: old and new names, child by child."""
    return {
        "before": np.concatenate(before),
        "after": np.concatenate(after),
        "counts": np.array([len(names) for names in before], np.int64),
    }


def split_names(
    stored: dict[str, np.ndarray], received: dict[str, np.ndarray] | None, names: int = 1
) -> list[dict[str, np.ndarray]]:
    """The records of renamings that a node passes down, one per child.

    Parameters
    ----------
    stored : record of `names_record`
    received : record of a Renaming from the node above, or None
    names : int
        Number of names per id.
    """
    after = Renaming.from_record(received, names)(stored["after"].reshape(-1, names))
    ends = np.cumsum(stored["counts"])[:-1]
    parts = zip(np.split(stored["before"], ends), np.split(after, ends), strict=True)
    return [Renaming.between(old, new).record() for old, new in parts]
