"""Meshes as a step stores them: of several resolutions, in shards or not, or of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from volflow.core.fragmented_mesh import FragmentedMesh
from volflow.core.stage import ObjectsById
from volflow.io.meshes import legacy, multiresolution
from volflow.io.meshes.surfaces import level_surface
from volflow.io.uint64_shards import ShardLayout


class MeshObjects:
    """Neuroglancer's multi-resolution meshes, in shards or in two files each."""

    def __init__(self, declared: ObjectsById) -> None:
        self.sharded = declared.sharded

    def shard(self, objects: Sequence[FragmentedMesh], layout: ShardLayout) -> bytes:
        manifests, fragments = {}, {}
        for each in objects:
            manifests[each.name], fragments[each.name] = multiresolution.encode(each)
        return layout.shard_bytes(manifests, fragments)

    def files(self, objects: Sequence[FragmentedMesh]) -> dict[str, bytes]:
        if self.sharded:
            return {}
        files = {}
        for each in objects:
            manifest, fragments = multiresolution.encode(each)
            files[f"precomputed/{each.name}"] = fragments
            files[f"precomputed/{each.name}.index"] = manifest
        return files

    def file_keys(self, ids: Sequence[int]) -> set[str]:
        if self.sharded:
            return set()
        return {f"precomputed/{name}{ending}" for name in ids for ending in ("", ".index")}

    def info(self, sharding: Mapping[str, Any]) -> dict[str, Any]:
        return multiresolution.info_of(dict(sharding) if self.sharded else None)


class LegacyMeshObjects:
    """Neuroglancer's meshes of one resolution, the finest: a manifest and a fragment each."""

    def __init__(self, declared: ObjectsById) -> None:
        pass

    def shard(self, objects: Sequence[FragmentedMesh], layout: ShardLayout) -> bytes:
        raise NotImplementedError("meshes of one resolution are not sharded")

    def files(self, objects: Sequence[FragmentedMesh]) -> dict[str, bytes]:
        files = {}
        for each in objects:
            manifest, fragment = _keys(each.name)
            files[fragment] = legacy.encode(level_surface(each, 0))
            files[manifest] = legacy.manifest(each.name)
        return files

    def file_keys(self, ids: Sequence[int]) -> set[str]:
        return {key for name in ids for key in _keys(name)}

    def info(self, sharding: Mapping[str, Any]) -> dict[str, Any]:
        return legacy.info_of()


def _keys(name: int) -> tuple[str, str]:
    return f"precomputed/{name}:0", f"precomputed/{name}:0:0"
