"""Volumes that other programs or runs wrote: opened, or taken as declared."""

from __future__ import annotations

from volflow.config.pipeline import Pipeline
from volflow.config.problems import Checked, Problem
from volflow.config.wiring import Wiring
from volflow.engine.plan.declared_volume import DeclaredVolume, declared_volume
from volflow.engine.plan.digest import foreign_content
from volflow.errors import StorageError
from volflow.io.address import CHUNKED, SKELETONS, Address
from volflow.io.formats.our_metadata import OURS
from volflow.io.run.owners import layer_owner, owner
from volflow.io.volume import Volume


def open_volume(
    pipeline: Pipeline, wiring: Wiring, name: str, offline: bool
) -> Checked[Volume | DeclaredVolume | None]:
    """Open a volume, or take it as declared if `offline`; None if that fails."""
    if offline:
        return (yield from declared_volume(pipeline, wiring, name))
    spec = pipeline.volumes[name]
    if not spec.path:
        if is_complete(pipeline, wiring):
            yield Problem(("volumes", name), f"no step writes '{name}', so it needs a path")
        return None
    try:
        if Address.parse(spec.path).format_name in SKELETONS:
            text = f"'{name}' is read as a volume, and these are skeletons: {spec.path}"
            yield Problem(("volumes", name, "path"), text)
            return None
        volume = Volume.open(spec)
        volume.verify()
        unfinished = unfinished_writer(volume)
        if unfinished:
            yield Problem(("volumes", name, "path"), f"'{name}' is not complete: {unfinished}")
            return None
    except (StorageError, ValueError, OSError) as error:
        yield Problem(("volumes", name, "path"), f"cannot be opened: {error}")
        return None
    return volume


def unfinished_writer(volume: Volume) -> str:
    """The run that has not written all of a volume, and what to do; empty if it is complete.

    Volumes of earlier versions count as complete, since nothing else is recorded.
    """
    if not volume.ours:
        return _lost_entry(volume)
    written_by = layer_owner(volume.address, volume.spec.level)
    if written_by is None or written_by.complete:
        return ""
    return (
        f"expected a volume with all blocks written, but run {written_by.run} has not finished it; "
        f"finish it with: volflow retry {written_by.run}"
    )


def _lost_entry(volume: Volume) -> str:
    """The problem of a volume that volflow wrote and whose metadata lost that entry."""
    if volume.format not in CHUNKED or layer_owner(volume.address, volume.spec.level) is None:
        return ""
    record = f"volflow.owner.{volume.spec.level}.json"
    return (
        f"expected the entry '{OURS}' in its metadata, since {record} shows that volflow wrote it; "
        f"restore the metadata, or delete that file if the volume is another one"
    )


def is_complete(pipeline: Pipeline, wiring: Wiring) -> bool:
    """Whether every stage was built and has its inputs; else missing volumes follow from that."""
    return len(wiring.steps) == len(pipeline.steps) and not any(
        required and name not in step.inputs
        for step in wiring.steps
        for name, required in step.stage.inputs().items()
    )


def volume_content(volume: Volume | DeclaredVolume) -> str:
    """Digest of a foreign volume; if another run wrote it, the digest of its writer counts."""
    chunked = volume.format in CHUNKED
    made_by = owner(volume.address, volume.spec.level) if chunked else None
    return foreign_content({**volume.identity(), "made_by": made_by})
