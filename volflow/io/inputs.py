"""Volumes that are read as inputs: opened, and checked that all of each is there."""

from __future__ import annotations

from volflow.config.pipeline import VolumeSpec
from volflow.errors import StorageError
from volflow.io.address import CHUNKED
from volflow.io.formats.our_metadata import OURS
from volflow.io.run.owners import layer_owner
from volflow.io.volume import Volume


def open_input(spec: VolumeSpec) -> Volume:
    """Open a volume whose voxels will be used, and check that they are all there.

    Volumes of a plan are opened by this, and all others that no plan has checked before. Viewers
    show what there is instead (`Volume.open` with `partial`, and `Volume.verify`).

    Raises
    ------
    StorageError
        If it does not exist or does not match its declaration, chunks or sections are missing
        (`Volume.verify`), or the run that writes it has not finished.
    """
    volume = Volume.open(spec)
    volume.verify()
    unfinished = unfinished_writer(volume)
    if unfinished:
        raise StorageError(f"volume {volume.address} is not complete: {unfinished}")
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
