"""The cluster profile of a run, stored in it so that `volflow retry` continues on the same workers.

`profile.json` holds the profile's name or path and the options given with it, not its content: so
no certificates, and no environment variables of a pool.
"""

from __future__ import annotations

from typing import Any, Unpack

from volflow.engine.executors.profile import Profile, ProfileOptions, find_profile
from volflow.errors import PlanError
from volflow.io.sealed import read_sealed, write_sealed
from volflow.io.store import Store

NAME = "profile.json"
KEYS = ("cluster", *ProfileOptions.__annotations__)  # of earlier versions, without a checksum


def store_profile(run: str, profile: Profile) -> None:
    """Store the name and options of a profile in a run; remove those of an earlier start."""
    request = profile.request
    if request is None:
        Store(run).delete(NAME)
    else:
        write_sealed(Store(run), NAME, request)


def stored_profile(run: str, **options: Unpack[ProfileOptions]) -> Profile:
    """Read the profile of the last start of a run; `none` if it stored no profile.

    Parameters
    ----------
    run : str
        Address of the run.
    **options : ProfileOptions
        Replace the stored values.

    Raises
    ------
    PlanError
        If the profile no longer exists, or has problems.
    StorageError
        If `profile.json` is damaged.
    """
    request: dict[str, Any] = read_sealed(Store(run), NAME, KEYS) or {}
    cluster = str(request.pop("cluster", "none"))
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return find_profile(cluster, **(request | given))
    except PlanError as error:
        raise PlanError(
            *error.problems,
            f"{run}: its last start used the cluster profile '{cluster}'; choose another one with "
            f"--cluster",
        ) from error
