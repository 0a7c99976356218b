"""Every error that volflow raises on purpose.

VolflowError
├── PlanError (also ValueError)   the pipeline cannot run as written; nothing was started
│   └── StageError                a stage raised when its blocks were done, as in `result`
├── BlockError                    one block failed; carries the block and the reason
├── ClusterError                  the cluster gives no workers, or not the right ones
└── StorageError                  a store failed, a chunk is missing, a file is damaged
    ├── StorageFull               no space is left where the run is written
    └── RunHeld                   another driver holds the run
"""

from __future__ import annotations


class VolflowError(Exception):
    """Root of all errors that volflow raises on purpose."""


class PlanError(VolflowError, ValueError):
    """The pipeline cannot run as written; `problems` has one sentence for each problem."""

    def __init__(self, *problems: str) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(problems))

    def __reduce__(self) -> tuple[type, tuple[str, ...]]:
        return type(self), tuple(self.problems)


class StageError(PlanError):
    """A stage raised, or answered wrongly, when its blocks were done; they stay done."""


class BlockError(VolflowError):
    """One block of a step failed."""


class ClusterError(VolflowError):
    """The cluster gives no workers, or workers that cannot do the work."""


class StorageError(VolflowError):
    """A store failed, a chunk is missing or a file is damaged."""


class StorageFull(StorageError):
    """No space is left where the run is written, or a quota is used up."""


class RunHeld(StorageError):
    """Another driver holds the run."""
