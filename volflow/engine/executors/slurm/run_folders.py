"""Folders of a run that its driver and the nodes of a Slurm site see."""

from __future__ import annotations

import getpass
import hashlib
from dataclasses import dataclass
from pathlib import Path

from volflow.engine.executors.profile import Profile
from volflow.errors import PlanError
from volflow.io.address import Address
from volflow.io.run.leftovers import KEYS


@dataclass(frozen=True)
class RunFolders:
    """Folders of a run that driver and nodes see."""

    run: str
    shared: Path
    """Holds the keys."""
    logs: Path

    @classmethod
    def of(cls, profile: Profile, run: str) -> RunFolders:
        """Folders of a run, which need not exist yet.

        Raises
        ------
        PlanError
            If the run is in an object store, and the profile names no shared folder.
        """
        shared = Address.parse(run).local
        if shared is None:
            if profile.shared is None:
                raise PlanError(
                    f"{profile.where.file}: shared: missing; the run is in {run}, so expected a "
                    f"folder that driver and nodes see, for keys and logs"
                )
            shared = Path(profile.shared).expanduser().absolute() / f"volflow-{label(run)}"
        logs = Path(profile.logs).expanduser().absolute() if profile.logs else shared / "logs"
        return cls(run, shared, logs)

    @property
    def keys(self) -> Path:
        """Folder of the certificates of this run."""
        return self.shared / KEYS


def label(run: str) -> str:
    """Short hash of a run for the names of its jobs."""
    return hashlib.sha256(f"{getpass.getuser()} {run}".encode()).hexdigest()[:8]
