"""Annotations: points or lines in a volume, with numbers and the segments that they belong to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from volflow.core.geometry import Resolution

PROPERTY_NAME = re.compile(r"[a-z][a-zA-Z0-9_]*", re.ASCII)
PROPERTY_TYPES = ("float32", "int32", "uint16", "int16", "uint8", "int8")
"""Types of properties. There is no uint32: Neuroglancer's Python reader up to 2.41.2 misplaces
what follows one."""
ENDS = {"point": 1, "line": 2}


@dataclass(frozen=True, eq=False)
class AnnotationSet:
    """Points, or lines from a first end to a second one.

    Attributes
    ----------
    kind : str
        `point` or `line`.
    ids : uint64 array, (N,)
        Each occurs once.
    position : float64 array, (N, ends, 3)
        z, y, x in voxels, of one end (point) or two (line); voxel v reaches from v to v + 1.
    resolution : 3 float
        Nanometres per voxel, z y x.
    properties : mapping of str to array, (N,)
        Numbers of the types of `PROPERTY_TYPES`, by name.
    relationships : mapping of str to uint64 array, (N,)
        The segment that each annotation belongs to, by the name of the relation; 0: none.

    Raises
    ------
    ValueError
        If an id occurs twice, a position is not finite, a property has another type, or lengths
        differ.
    """

    kind: Literal["point", "line"]
    ids: np.ndarray
    position: np.ndarray
    resolution: Resolution
    properties: Mapping[str, np.ndarray] = field(default_factory=dict)
    relationships: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count, ends = len(self.ids), ENDS[self.kind]
        if self.ids.dtype != np.uint64:
            raise ValueError(f"expected ids of uint64; got {self.ids.dtype}")
        if self.position.shape != (count, ends, 3):
            raise ValueError(
                f"expected positions of shape {(count, ends, 3)} for {count} annotations of kind "
                f"{self.kind}; got {self.position.shape}"
            )
        if not np.isfinite(self.position).all():
            raise ValueError("expected positions that are finite numbers")
        for name, column in (*self.properties.items(), *self.relationships.items()):
            if column.shape != (count,):
                raise ValueError(f"{name}: expected {count} values; got shape {column.shape}")
            if not PROPERTY_NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r}: expected a name of letters, digits and _, the first one small"
                )
        for name, column in self.properties.items():
            if column.dtype.name not in PROPERTY_TYPES:
                known = ", ".join(PROPERTY_TYPES)
                raise ValueError(f"{name}: expected one of {known}; got {column.dtype}")
        for name, column in self.relationships.items():
            if column.dtype != np.uint64:
                raise ValueError(f"{name}: expected segments of uint64; got {column.dtype}")
        ordered = np.sort(self.ids)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            raise ValueError(f"id {int(twice[0])} occurs twice; expected each annotation once")

    def __len__(self) -> int:
        return len(self.ids)
