"""The owner of each layer: the step and the run whose voxels a scale of a volume holds.

`volflow.owner.SCALE.json` next to the scale has the digest of the step, the address of its run,
and whether all of its blocks are written. Files of earlier versions have only the digest; their
layers count as complete. The address of a run that contains the layer is stored as `..`, so that
a run that is moved or copied keeps its layers.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache
from typing import NamedTuple

from volflow.errors import RunHeld, StorageError
from volflow.io.address import Address
from volflow.io.run.fence import PATIENCE, PAUSE
from volflow.io.run.lock import RunLock, describe_holder
from volflow.io.sealed import unsealed, write_sealed
from volflow.io.store import Store

FOUND = 64  # records that are remembered as those of a layer's owner

_found: dict[tuple[str, str, int, str], bytes] = {}


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
    store = Store(address)
    return _parsed(address, scale, store, store.value(_key(scale)))


def _parsed(address: str, scale: int, store: Store, body: bytes | None) -> LayerOwner | None:
    value = unsealed(store, _key(scale), body, LayerOwner._fields)
    if value is None:
        return None
    if isinstance(value.get("digest"), str):
        run, complete = value.get("run", ""), value.get("complete", True)
        if isinstance(run, str) and isinstance(complete, bool):
            return LayerOwner(value["digest"], _resolved(address, run), complete)
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
    stored, checked = None, (address, digest, scale, run)
    for attempt in range(PATIENCE + 1):
        if attempt:
            time.sleep(PAUSE)
        body = _store(address).value(_key(scale))
        if body is not None and body == _found.get(checked):
            return
        stored = _parsed(address, scale, _store(address), body)
        if body is not None and stored is not None and _belongs(stored, digest, run):
            if len(_found) >= FOUND:
                _found.clear()
            _found[checked] = body
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


@lru_cache(maxsize=FOUND)
def _store(address: str) -> Store:
    """The store of a layer, also after a stage has changed the working folder."""
    return Store(address)


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
