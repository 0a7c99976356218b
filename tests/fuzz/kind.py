"""A kind of file: how valid ones are made and read, and which damage of them cannot be known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.damage import SHORTENING, Damage
from volflow.config.pipeline import VolumeSpec
from volflow.errors import StorageError
from volflow.io.volume import Volume

VOXELS = "its voxels have no checksum"
METADATA = "its metadata have no checksum"
TEXT = "a text has neither checksum nor end"
TOLD = "a warning reports it"
SHARD_INDEX = "the index of a shard has no checksum, and zeros in it mean no chunks"

Content = Mapping[str, Any]
"""What was read: arrays, texts and numbers by name; `warnings` are sentences of plan."""


class Traceback(Exception):
    """A command ended with a traceback, or as a bug of volflow's own; the text is its output."""


class Refusals(StorageError):
    """The refusals of several commands, a message each."""

    def __init__(self, *messages: str) -> None:
        self.messages = messages
        super().__init__("\n".join(messages))


def is_shard_index(damage: Damage, entries: int) -> bool:
    """Whether a whole entry of the index at the start of a shard became zero."""
    index = damage.after[: 16 * entries]
    parts = [index[at : at + 16] for at in range(0, len(index), 16)]
    return damage.name.endswith(".shard") and damage.how == "zeroed" and bytes(16) in parts


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    name : str
    make : function
        Writes valid files below a folder, always the same.
    read : function
        Reads them as users do; raises errors of volflow for those that are refused. Its second
        argument is the content of the intact files; None for these.
    unknowable : function
        The reason for which a damage that was read cannot be known; "" if it has to be. Its second
        argument are the warnings that the intact files do not have. Cutting short is never silent:
        it is not asked then, but `cut` is.
    cut : function
        The same for files that are cut short or empty.
    only : tuple of str
        Patterns of the files that are damaged; empty: all.
    by_folder : bool
        Whether a message may name the folder of a volume instead of one of its files.
    weight : int
        How often the kind is drawn.
    """

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path, Content | None], Content]
    unknowable: Callable[[Damage, tuple[str, ...]], str] = lambda damage, warnings: ""
    cut: Callable[[Damage, tuple[str, ...]], str] = lambda damage, warnings: ""
    only: tuple[str, ...] = ()
    by_folder: bool = False
    weight: int = 4

    def reason(self, damage: Damage, warnings: tuple[str, ...]) -> str:
        """The reason for which a damage that changed what is read could not be known, or ""."""
        asked = self.cut if damage.how in SHORTENING else self.unknowable
        return asked(damage, warnings)


def differences(expected: Content, actual: Content) -> list[str]:
    """Names of what differs; warnings aside."""
    names = sorted({*expected, *actual} - {"warnings"})
    return [name for name in names if not _equal(expected.get(name), actual.get(name))]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        if type(one) is not type(other) or one.dtype != other.dtype:
            return False
        return one.shape == other.shape and one.tobytes() == other.tobytes()
    return bool(one == other)


def read_volume(path: str, intact: Content | None = None, **declared: Any) -> dict[str, Any]:
    """A volume read as `plan` and a block read it: opened, verified, all voxels.

    With the content of the intact volume only its box is read, as a damaged size may be any.
    """
    volume = Volume.open(VolumeSpec(path=path, **declared))
    volume.verify()
    box = volume.bounds
    if intact is not None:
        box = intact["bounds"].clip(box)
    voxels = volume.read(box)
    return {
        "bounds": volume.bounds,
        "resolution": volume.resolution,
        "channels": volume.channels,
        "voxels": voxels,
        "warnings": volume.warnings,
    }
