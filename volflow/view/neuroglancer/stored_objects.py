"""Segments that have a skeleton or a mesh: Neuroglancer waits in vain for those of the others."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from volflow.errors import StorageError
from volflow.io.store import Store
from volflow.io.uint64_shards import ShardLayout, shard_index

UNSHARDED = ("", ".index", ":0")
"""Endings of the files of an id, of skeletons and of both formats of meshes."""


def having_objects(folder: str, ids: Sequence[int]) -> tuple[int, ...]:
    """Those of some ids that have an object in a folder of precomputed skeletons or meshes.

    All of them if the folder cannot be read; Neuroglancer then reports the reason.
    """
    store = Store(folder)
    try:
        info = store.read_json("info")
        if info is None:
            return tuple(ids)
        sharding = info.get("sharding")
        if sharding is None:
            keys = set(store.list())
            return tuple(n for n in ids if any(f"{n}{end}" in keys for end in UNSHARDED))
        layout = ShardLayout(int(sharding["shard_bits"]), int(sharding["minishard_bits"]))
        shards = layout.shard_of(np.array(ids, np.uint64)).tolist()
        stored: set[int] = set()
        for key in {layout.name(shard) for shard in shards} & set(store.list()):
            stored |= set(shard_index(functools.partial(store.read_range, key), sharding))
    except (StorageError, ValueError, KeyError, AttributeError):
        return tuple(ids)
    return tuple(n for n in ids if n in stored)
