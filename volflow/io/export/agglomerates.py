"""Segments as an agglomerate attachment of webKnossos, version 4: a Zarr 3 group of seven arrays.

Supervoxels have the ids 1, 2, ... in ascending order of their labels, as `convert --renumber` gives
them, and agglomerates 1, 2, ... in that of the segments. An agglomerate has a list of its
supervoxels, and the contacts between two of them as edges.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import tensorstore as ts

from volflow.errors import StorageError
from volflow.io.address import kvstore_spec
from volflow.io.reading import reading
from volflow.io.store import Store

PARTS = ("supervoxel", "segment", "z", "y", "x")
EDGES = ("supervoxel_1", "supervoxel_2", "affinity")
ROWS_OF_CHUNK = 1 << 14
CHUNKS_OF_SHARD = 1 << 6
ATTRIBUTES = {
    "voxelytics": {"artifact_schema_version": 4, "artifact_class": "AgglomerateViewArtifact"}
}


def agglomerate_arrays(
    parts: Mapping[str, np.ndarray], contacts: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The arrays of the attachment by name.

    Parameters
    ----------
    parts : mapping of columns
        `PARTS`, of the stage `agglomeration`; each supervoxel once; segment 0 is in no agglomerate.
    contacts : mapping of columns
        `EDGES`, of the stage `contacts`.

    Raises
    ------
    StorageError
        If a column is missing, or a contact is one of a supervoxel that is not in `parts`.
    """
    _require(parts, PARTS, "agglomeration")
    _require(contacts, EDGES, "contacts")
    order = np.argsort(parts["supervoxel"])
    labels, segments = (parts[name][order].astype(np.uint64) for name in PARTS[:2])
    places = np.stack([parts[axis][order] for axis in "xyz"], axis=1).astype(np.int32)
    names = np.unique(segments[segments > 0])
    agglomerate = np.where(segments > 0, np.searchsorted(names, segments) + 1, 0)
    listed = np.argsort(agglomerate, kind="stable")
    listed = listed[agglomerate[listed] > 0]
    sizes = np.bincount(agglomerate, minlength=len(names) + 1)
    sizes[0] = 0
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    local = np.zeros(len(labels), np.int64)
    local[listed] = np.arange(len(listed)) - offsets[agglomerate[listed]]
    ends = [_positions(labels, contacts[name]) for name in EDGES[:2]]
    owner = agglomerate[ends[0]]
    within = (owner == agglomerate[ends[1]]) & (owner > 0)
    pair = np.sort(np.stack([local[end[within]] for end in ends], axis=1), axis=1)
    owner, affinity = owner[within], contacts["affinity"][within]
    by_pair = np.lexsort((pair[:, 1], pair[:, 0], owner))
    edges = np.bincount(owner, minlength=len(names) + 1)
    return {
        "segment_to_agglomerate": np.concatenate([[0], agglomerate]).astype(np.uint64),
        "agglomerate_to_segments_offsets": offsets.astype(np.uint64),
        "agglomerate_to_segments": (listed + 1).astype(np.uint32),
        "agglomerate_to_edges_offsets": np.concatenate([[0], np.cumsum(edges)]).astype(np.uint64),
        "agglomerate_to_edges": pair[by_pair].astype(np.uint32),
        "agglomerate_to_affinities": affinity[by_pair].astype(np.float32),
        "agglomerate_to_positions": places[listed],
    }


def write_agglomerates(
    location: str, parts: Mapping[str, np.ndarray], contacts: Mapping[str, np.ndarray]
) -> None:
    """Write the attachment into a folder or under a URL; its `zarr.json` comes last.

    Raises
    ------
    StorageError
        As for `agglomerate_arrays`, or if it cannot be written.
    """
    arrays = agglomerate_arrays(parts, contacts)
    with reading(location, "agglomerates"):
        for name, array in arrays.items():
            kvstore = kvstore_spec(f"{location}/{name}")
            opened = ts.open(_spec(kvstore, array), create=True, delete_existing=True).result()
            opened.write(array).result()
    body = {"zarr_format": 3, "node_type": "group", "attributes": ATTRIBUTES}
    Store(location).write("zarr.json", json.dumps(body, indent=1).encode())


def _spec(kvstore: object, array: np.ndarray) -> dict[str, object]:
    """The description of a sharded array for tensorstore."""
    rest = list(array.shape[1:])
    inner = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "zstd"}]
    sharding = {
        "chunk_shape": [ROWS_OF_CHUNK, *rest],
        "codecs": inner,
        "index_codecs": [inner[0], {"name": "crc32c"}],
    }
    shard = [ROWS_OF_CHUNK * CHUNKS_OF_SHARD, *rest]
    return {
        "driver": "zarr3",
        "kvstore": kvstore,
        "metadata": {
            "shape": list(array.shape),
            "data_type": array.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard}},
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        },
    }


def _positions(labels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The positions of supervoxels in ascending labels."""
    at = np.searchsorted(labels, wanted.astype(np.uint64))
    at = np.minimum(at, len(labels) - 1) if len(labels) else at
    unknown = labels[at] != wanted if len(labels) else np.ones(len(wanted), bool)
    if unknown.any():
        raise StorageError(
            f"contacts: supervoxel {int(wanted[unknown][0])} is not in the table agglomeration"
        )
    return at


def _require(columns: Mapping[str, np.ndarray], names: tuple[str, ...], table: str) -> None:
    missing = [name for name in names if name not in columns]
    if missing:
        raise StorageError(
            f"{table}: expected the columns {', '.join(names)}; missing: {', '.join(missing)}"
        )
