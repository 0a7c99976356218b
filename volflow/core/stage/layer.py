"""Inputs and outputs as a stage declares them: volumes, tables and objects by id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from volflow.core.geometry import Triple

Record: TypeAlias = dict[str, np.ndarray]
"""Named columns of one block."""

HaloRegion: TypeAlias = Literal["box", "faces", "before", "after", "nothing"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A volume that a stage reads or writes.

    Attributes
    ----------
    dtype : str
        Name of a numpy dtype; empty: any (inputs only).
    channels : int or None
        Length of the leading channel axis; 0: no channel axis; None: any (inputs only).
    kind : str
        Meaning of the voxels. A block receives an input of kind `skeletons` as a record of the
        nodes in its read box (`Nodes.near` in `io/skeletons/placed_nodes.py`), and one of kind
        `table` as a record of rows, wherever they are: each row of the table is in one block.
    blockwise : bool
        Whether the bytes depend on how the volume was cut into blocks; all readers of such a
        layer use the same blocks.
    halo_region : str
        Part of the halo that is read of an input: the whole read `box` (27 chunks); the `faces` of
        the block, its edges and corners staying 0 (7 chunks); only the faces `before` or `after`
        the block along each axis (4 chunks); or `nothing`: the array covers the write box
        (1 chunk).
    not_empty : bool
        Whether some voxel of an input has to be other than 0. Volumes of other programs are checked
        before a run, those of the run by the first part of a chain.
    """

    dtype: str = ""
    channels: int | None = None
    kind: Literal["", "image", "affinity", "segmentation", "skeletons", "table"] = ""
    blockwise: bool = False
    halo_region: HaloRegion = "box"
    not_empty: bool = False


@dataclass(frozen=True, slots=True)
class ForeignLayer(Layer):
    """A volume of another program or run, as a stage reads it.

    Attributes
    ----------
    volume : str
        Its name in the pipeline.
    downsample : (int, int, int)
        Stored voxels per voxel that is read, z y x.
    """

    volume: str = ""
    downsample: Triple = (1, 1, 1)


@dataclass(frozen=True, slots=True)
class Columns:
    """A table with one record per block."""

    dtypes: tuple[tuple[str, str], ...]
    """Name and dtype of each column."""


@dataclass(frozen=True, slots=True)
class Table(Columns):
    """A table of the whole volume, which a grouping leaves as `results/STEP.csv`.

    Its rows are those of `Grouping.table` of each partition of the last round.
    """


@dataclass(frozen=True, slots=True)
class ObjectsById:
    """Objects by id that a grouping leaves under `results/STEP` of the run.

    Attributes
    ----------
    kind : str
        In `results/STEP/precomputed`: `skeletons`, Neuroglancer's skeletons; `meshes`, its
        multi-resolution meshes; `legacy_meshes`, its meshes of one resolution, a file each.
    sharded : bool
        Of meshes: whether they are in shards.
    files : bool
        Of skeletons: whether each is also written as a file: `results/STEP/swc/ID.swc`.
    soma_nm : float
        In these files, roots with at least this radius in nm are of the type of a cell body.
    """

    kind: Literal["skeletons", "meshes", "legacy_meshes"]
    sharded: bool = True
    files: bool = False
    soma_nm: float = 0.0
