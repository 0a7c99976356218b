"""The owner of each layer: the step and the run whose voxels a scale of a volume holds.

`volflow.owner.SCALE.json` next to the scale has the digest of the step, the address of its run,
and whether all of its blocks are written. Files of earlier versions have only the digest; their
layers count as complete. The address of a run that contains the layer is stored as `..`, so that
a run that is moved or copied keeps its layers.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from volflow.errors import RunHeld, StorageError
from volflow.io.address import Address
from volflow.io.run.fence import PATIENCE, PAUSE
from volflow.io.run.lock import RunLock, describe_holder
from volflow.io.sealed import read_sealed, write_sealed
from volflow.io.store import Store


class LayerOwner(NamedTuple):
    """The writer of a layer; `run` is empty if it is not recorded."""

    digest: str
    run: str = ""
    complete: bool = True


def layer_owner(address: str, scale: int = 0) -> LayerOwner | None:
    """The writer of a scale; None if it is not recorded.

    Raises
    ------
    StorageError
        If the record is damaged.
    """
    body = read_sealed(Store(address), _key(scale), LayerOwner._fields)
    if body is None:
        return None
    if isinstance(body.get("digest"), str):
        run, complete = body.get("run", ""), body.get("complete", True)
        if isinstance(run, str) and isinstance(complete, bool):
            return LayerOwner(body["digest"], _resolved(address, run), complete)
    raise StorageError(f"{address}: expected a digest in {_key(scale)}")


def owner(address: str, scale: int = 0) -> str | None:
    """The digest of the step that wrote the voxels of a scale; None if it is not recorded."""
    stored = layer_owner(address, scale)
    return None if stored is None else stored.digest


def set_owner(
    address: str, digest: str, scale: int = 0, *, run: str = "", complete: bool = True
) -> None:
    """Record the writer of the voxels of a scale, unless that is what is recorded."""
    stored = layer_owner(address, scale)
    if stored is not None and stored.complete == complete and _belongs(stored, digest, run):
        return
    new = LayerOwner(digest, _relative(address, run), complete)
    write_sealed(Store(address), _key(scale), new._asdict())


def require_owner(address: str, digest: str, scale: int, run: str) -> None:
    """Check that a layer still belongs to a run's step.

    Raises
    ------
    RunHeld
        If another run or step has taken it.
    """
    stored = None
    for attempt in range(PATIENCE + 1):
        if attempt:
            time.sleep(PAUSE)
        stored = layer_owner(address, scale)
        if stored is not None and _belongs(stored, digest, run):
            return
    raise RunHeld(
        f"volume {address}, scale {scale}: expected it to belong to run {run}, but "
        f"{_description(stored, run)}; nothing more is written to it"
    )


def require_free(address: str, scale: int, run: str) -> None:
    """Check that no other run whose driver is alive owns a layer.

    Raises
    ------
    RunHeld
        If one does.
    """
    stored = layer_owner(address, scale)
    if stored is None or not stored.run or same_place(stored.run, run):
        return
    holder = RunLock(stored.run).living()
    if holder is not None:
        raise RunHeld(
            f"volume {address}, scale {scale}: expected a volume that no other run writes now, but "
            f"run {stored.run} wrote it and is held by {describe_holder(holder)}; give this run "
            f"another path for the volume"
        )


def taken_by(address: str, digest: str, scale: int, run: str) -> str:
    """The reason why a layer does not hold the voxels of a step any more; empty if it does."""
    stored = layer_owner(address, scale)
    if stored is not None and stored.digest == digest:
        return ""
    return f"volume {address}, scale {scale}: {_description(stored, run)}"


def same_place(one: str, other: str) -> bool:
    """Whether two addresses are those of one run, in two spellings perhaps."""
    first, second = Address.parse(one), Address.parse(other)
    if first.local is None or second.local is None:
        return first.location == second.location
    return os.path.realpath(first.local) == os.path.realpath(second.local)


def _description(stored: LayerOwner | None, run: str) -> str:
    if stored is None:
        return "it was deleted, or its owner is not recorded"
    if stored.run in ("", run):
        return "other parameters or another step have written it since"
    return f"run {stored.run} has written it since"


def _belongs(stored: LayerOwner, digest: str, run: str) -> bool:
    return stored.digest == digest and _location(stored.run) == _location(run)


def _location(run: str) -> str:
    return Address.parse(run).location if run else ""


def _relative(address: str, run: str) -> str:
    """A run's address as stored with a layer: `..` for each folder in between if it is above."""
    layer, above = _location(address), _location(run) + "/"
    if not run or not layer.startswith(above):
        return run
    return "/".join(".." for _ in layer[len(above) :].split("/"))


def _resolved(address: str, run: str) -> str:
    """The address of a run from that stored with a layer."""
    parts = run.split("/")
    if set(parts) != {".."}:
        return run
    return "/".join(_location(address).split("/")[: -len(parts)])


def _key(scale: int) -> str:
    return f"volflow.owner.{scale}.json"
