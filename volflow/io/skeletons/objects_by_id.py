"""Skeletons as a step stores them: in shards and, on request, as SWC files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from volflow.core.skeleton import Skeleton
from volflow.core.stage import ObjectsById
from volflow.io.skeletons import precomputed, swc
from volflow.io.uint64_shards import ShardLayout


class SkeletonObjects:
    """Neuroglancer's skeletons in shards; `swc/ID.swc` if files are declared."""

    def __init__(self, declared: ObjectsById) -> None:
        self.declared = declared

    def shard(self, objects: Sequence[Skeleton], layout: ShardLayout) -> bytes:
        return layout.shard_bytes({each.name: precomputed.encode(each) for each in objects})

    def files(self, objects: Sequence[Skeleton]) -> dict[str, bytes]:
        if not self.declared.files:
            return {}
        soma_nm, scaling = self.declared.soma_nm, swc.Scaling()
        return {
            _key(each.name): swc.format_swc(each, scaling, soma_nm).encode() for each in objects
        }

    def file_keys(self, ids: Sequence[int]) -> set[str]:
        return {_key(name) for name in ids} if self.declared.files else set()

    def info(self, sharding: Mapping[str, Any]) -> dict[str, Any]:
        return precomputed.info_of(dict(sharding))


def _key(name: int) -> str:
    return f"swc/{name}{swc.SUFFIX}"
