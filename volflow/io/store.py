"""Small objects under an address: read, written, written on a condition, listed, deleted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import tensorstore as ts

from volflow.errors import StorageError
from volflow.io import object_store as remote
from volflow.io.address import Address, open_kvstore

TIMEOUT = 120.0  # seconds; a store that does not answer is an error, not a hanging run
_ABSENT = b"\x02"  # tensorstore's generation of a key that does not exist


class Found(NamedTuple):
    """An object and the generation it has; `value` is None where there is none."""

    value: bytes | None
    generation: bytes


class Store:
    """Objects by key under one address, on whatever store that is.

    Parameters
    ----------
    address : str
        A plain path, or `file://`, `s3://`, `gs://`, `http://` (reading only), `memory://`; the
        format of a volume (`precomputed://...`) is left aside.
    """

    def __init__(self, address: str) -> None:
        place = Address.parse(address)
        self.location = place.location
        self.remote = place.location.startswith(("s3://", "gs://"))
        self._objects = open_kvstore(place.location, place.query)

    def __repr__(self) -> str:
        return f"Store({self.location!r})"

    def read(self, key: str) -> bytes | None:
        """The bytes of an object, None if there is none.

        Raises
        ------
        StorageError
            Also if it came cut short, which HTTP alone does not always tell: text that ends early
            may still be text.
        """
        value, generation = self.find(key)
        if value is not None:
            self._require_whole(key, value, generation)
        return value

    def find(self, key: str) -> Found:
        """An object with its generation, for a conditional write; nobody asks if it is whole."""
        found = self._wait(self._objects.read(key), key)
        value = bytes(found.value) if found.state == "value" else None
        return Found(value, bytes(found.stamp.generation))

    def read_many(self, keys: Iterable[str], whole: bool = False) -> dict[str, bytes]:
        """The objects that exist of these, by key; read at the same time.

        They are taken as they come, for what tells itself whether it is whole; with `whole` as
        `read` takes them.
        """
        reading = [(key, self._objects.read(key)) for key in keys]
        found = [(key, self._wait(future, key)) for key, future in reading]
        there = [(key, each) for key, each in found if each.state == "value"]
        if whole:
            for key, each in there:
                self._require_whole(key, bytes(each.value), bytes(each.stamp.generation))
        return {key: bytes(each.value) for key, each in there}

    def present(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that exist; asked at the same time, one byte of each.

        Raises
        ------
        StorageError
            If one of the objects is empty.
        """
        asking = [(key, self._objects.read(key, byte_range=slice(0, 1))) for key in keys]
        return {key for key, future in asking if self._wait(future, key).state == "value"}

    def write(self, key: str, value: bytes) -> None:
        """Write an object as a whole: a reader sees the old bytes or the new ones."""
        self._wait(self._objects.write(key, value), key)

    def write_if(self, key: str, value: bytes | None, generation: bytes) -> bytes | None:
        """Write (or with None delete) an object if it still has this generation.

        Returns
        -------
        bytes or None
            The new generation; None if somebody else was faster, and nothing was written.
        """
        stamp = self._wait(self._objects.write(key, value, if_equal=generation), key)
        return bytes(stamp.generation) or None

    def write_if_absent(self, key: str, value: bytes) -> bytes | None:
        """Write an object if there is none; the new generation, None if there was one."""
        return self.write_if(key, value, _ABSENT)

    def read_json(self, key: str) -> Any:
        """The JSON object at a key, None if there is none.

        Raises
        ------
        StorageError
            If it is not JSON.
        """
        body = self.find(key).value  # JSON that is cut short is none
        if body is None:
            return None
        try:
            return json.loads(body)
        except ValueError as error:
            raise StorageError(f"{self.location}/{key} is not JSON: {error}") from error

    def write_json(self, key: str, value: Any) -> None:
        """Write an object as indented JSON."""
        self.write(key, json.dumps(value, indent=1).encode())

    def list(self, prefix: str = "") -> list[str]:
        """The keys that begin with a prefix, without it, sorted."""
        below = self._objects / prefix if prefix.endswith("/") else self._objects
        rest = "" if prefix.endswith("/") else prefix
        names = self._wait(below.list(_range(rest)), prefix)
        return sorted(name.decode()[len(rest) :] for name in names)

    def delete(self, key: str) -> None:
        """Delete an object, if there is one."""
        self._wait(self._objects.write(key, None), key)

    def delete_prefix(self, prefix: str, keep: str = "") -> None:
        """Delete all objects whose keys begin with a prefix, but for those that go on with `keep`.

        Folders of a disk that are kept are not looked into, however much they hold.
        """
        whole, kept = _range(prefix), _range(prefix + keep)
        ranges = [whole]
        if keep:
            ranges = [
                ts.KvStore.KeyRange(whole.inclusive_min, kept.inclusive_min),
                ts.KvStore.KeyRange(kept.exclusive_max, whole.exclusive_max),
            ]
        for each in ranges:
            self._wait(self._objects.delete_range(each), prefix)

    def require_bucket(self) -> None:
        """Raise if there is no such bucket, or we may not look into it; reads alone do not tell.

        Raises
        ------
        StorageError
        """
        if self.location.startswith("gs://") and remote.lacks_bucket(self.location):
            bucket = self.location.split("/")[2]
            raise StorageError(f"{self.location}: there is no bucket '{bucket}'")
        if self.remote:
            few = ts.KvStore.KeyRange("volflow.none", "volflow.none/")  # no name of ours
            self._wait(self._objects.list(few), "")

    def _require_whole(self, key: str, value: bytes, generation: bytes) -> None:
        if self.remote and not self._is_whole(key, value, generation):
            raise StorageError(f"{self.location}/{key} came cut short, {len(value)} bytes of it")

    def _is_whole(self, key: str, value: bytes, generation: bytes) -> bool:
        """Whether an object goes no further than these bytes of it.

        S3 names most objects' generations by their MD5, which settles it; else one byte more is
        asked for.
        """
        if hashlib.md5(value, usedforsecurity=False).hexdigest().encode() in generation:
            return True
        following = slice(len(value), len(value) + 1)
        try:
            found = self._objects.read(key, byte_range=following).result(timeout=TIMEOUT)
        except (ValueError, OSError, RuntimeError) as error:
            if "OUT_OF_RANGE" in str(error):
                return True
            message = f"{self.location}/{key}: {remote.told(error, self.location)}"
            raise StorageError(message) from error
        return found.state != "value"

    def _wait(self, future: Any, key: str) -> Any:
        try:
            return future.result(timeout=TIMEOUT)
        except TimeoutError as error:
            message = f"{self.location}/{key}: no answer within {TIMEOUT:.0f} s"
            raise StorageError(message) from error
        except (ValueError, OSError, RuntimeError) as error:
            message = f"{self.location}/{key}: {remote.told(error, self.location)}"
            raise StorageError(message) from error


def _range(prefix: str) -> ts.KvStore.KeyRange:
    """All keys with a prefix; an empty upper end means no end."""
    if not prefix:
        return ts.KvStore.KeyRange()
    last = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return ts.KvStore.KeyRange(prefix, last)
