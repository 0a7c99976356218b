"""A folder or address of Neuroglancer's multi-resolution meshes, opened for reading."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from volflow.core.fragmented_mesh import FragmentedMesh
from volflow.errors import StorageError
from volflow.io.meshes import multiresolution
from volflow.io.meshes.surfaces import Surface, level_surface
from volflow.io.reading import reading
from volflow.io.store import Store
from volflow.io.uint64_shards import shard_index, unpacked


class _Place(NamedTuple):
    key: str
    start: int
    stop: int


@dataclass(frozen=True)
class MeshSet:
    """Meshes under one address, each read on request.

    Attributes
    ----------
    location : str
        Folder or URL.
    info : mapping
        The content of `info`.
    """

    location: str
    info: Mapping[str, Any]

    @classmethod
    def open(cls, location: str) -> MeshSet:
        """Open meshes.

        Raises
        ------
        StorageError
            If there are none in the multi-resolution format that this package writes.
        """
        store = Store(location)
        info = store.read_json("info") if store.read("info") is not None else None
        kind = info.get("@type") if isinstance(info, dict) else None
        if not isinstance(info, dict) or kind != multiresolution.TYPE:
            raise StorageError(
                f"{location}/info: expected '@type' {multiresolution.TYPE}; got {kind}"
            )
        bits = info.get("vertex_quantization_bits")
        if bits != multiresolution.BITS:
            raise StorageError(
                f"{location}/info: vertex_quantization_bits: expected {multiresolution.BITS}; "
                f"got {bits}"
            )
        return cls(location, info)

    @property
    def names(self) -> list[int]:
        """The ids, ascending."""
        return sorted(self._places)

    def read(self, name: int) -> FragmentedMesh:
        """The mesh of an id, its fragments as they are stored.

        Raises
        ------
        StorageError
            If it is missing or damaged.
        """
        place = self._places.get(name)
        if place is None:
            raise StorageError(f"meshes {self.location}: no mesh {name}")
        store = Store(self.location)
        with reading(f"{self.location}: mesh {name}", "meshes"):
            if "sharding" not in self.info:
                manifest = store.value(place.key) or b""
                fragments = store.value(str(name)) or b""
            else:
                body = store.read_range(place.key, place.start, place.stop)
                manifest = unpacked(body, self.info["sharding"].get("data_encoding", "raw"))
                size = multiresolution.fragment_bytes(name, manifest)
                fragments = store.read_range(place.key, place.start - size, place.start)
            return multiresolution.decode(name, manifest, fragments)

    def surface(self, name: int, level: int) -> Surface:
        """The welded surface of a mesh at a level of detail.

        Raises
        ------
        StorageError
            If it is missing or damaged.
        """
        mesh = self.read(name)
        with reading(f"{self.location}: mesh {name}", "meshes"):
            return level_surface(mesh, level)

    @functools.cached_property
    def _places(self) -> dict[int, _Place]:
        store = Store(self.location)
        keys = store.list()
        if "sharding" not in self.info:
            endings = [key.removesuffix(".index") for key in keys if key.endswith(".index")]
            return {
                int(stem): _Place(f"{stem}.index", 0, 0) for stem in endings if stem.isdecimal()
            }
        places = {}
        for key in (key for key in keys if key.endswith(".shard")):
            with reading(f"{self.location}/{key}", "meshes"):
                read = functools.partial(store.read_range, key)
                ranges = shard_index(read, self.info["sharding"])
            places.update({name: _Place(key, *ends) for name, ends in ranges.items()})
        return places
