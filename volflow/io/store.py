"""Small objects under an address: read, write, conditional write, list, delete."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import tensorstore as ts

from volflow.errors import StorageError
from volflow.io.address import Address, open_kvstore
from volflow.io.object_store import describe_store_error, lacks_bucket

TIMEOUT = 120.0  # seconds; a store without a response is an error, not a hanging run
_AT_ONCE = 1000  # requests to delete an object
_PART = 1 << 16  # bytes of a file that are read at once
_ABSENT = b"\x02"  # tensorstore's generation of a key that does not exist


class StoredObject(NamedTuple):
    """An object and its generation; `value` is None if it does not exist."""

    value: bytes | None
    generation: bytes


class Store:
    """Objects by key under one address, on any kind of store.

    Parameters
    ----------
    address : str
        A plain path, or `file://`, `s3://`, `gs://`, `http://` (reading only), `memory://`; the
        format of a volume (`precomputed://...`) is ignored.
    """

    def __init__(self, address: str) -> None:
        place = Address.parse(address)
        self.location = place.location
        self.remote = place.location.startswith(("s3://", "gs://"))
        self._objects = open_kvstore(place.location, place.query)
        self._folder = place.location if place.location.startswith("/") else None

    def __repr__(self) -> str:
        return f"Store({self.location!r})"

    def read(self, key: str) -> bytes | None:
        """The bytes of an object; None if it does not exist.

        Raises
        ------
        StorageError
            Also if the response was cut short, which HTTP does not always report: the beginning
            of a text is a text.
        """
        value, generation = self.find(key)
        if value is not None:
            self._require_whole(key, value, generation)
        return value

    def find(self, key: str) -> StoredObject:
        """An object with its generation, for a conditional write; not checked to be complete."""
        result = self._wait(self._objects.read(key), key)
        value = bytes(result.value) if result.state == "value" else None
        return StoredObject(value, bytes(result.stamp.generation))

    def value(self, key: str) -> bytes | None:
        """The bytes of an object, not checked to be complete; None if it does not exist.

        On disk this takes a tenth of the time of `find`.
        """
        if self._folder is None:
            return self.find(key).value
        try:
            return _content(f"{self._folder}/{key}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageError(f"{self.location}/{key}: {error.strerror}") from error

    def read_many(self, keys: Iterable[str], whole: bool = False) -> dict[str, bytes]:
        """The existing objects among the keys, by key; read at the same time.

        With `whole` they are checked to be complete, as in `read`; objects with a checksum of
        their own do not need that.
        """
        reading = [(key, self._objects.read(key)) for key in keys]
        results = [(key, self._wait(future, key)) for key, future in reading]
        existing = [(key, each) for key, each in results if each.state == "value"]
        if whole:
            for key, each in existing:
                self._require_whole(key, bytes(each.value), bytes(each.stamp.generation))
        return {key: bytes(each.value) for key, each in existing}

    def present(self, keys: Iterable[str]) -> set[str]:
        """The existing ones among the keys; one byte of each is read, at the same time.

        Raises
        ------
        StorageError
            If one of the objects is empty.
        """
        asking = [(key, self._objects.read(key, byte_range=slice(0, 1))) for key in keys]
        return {key for key, future in asking if self._wait(future, key).state == "value"}

    def read_starts(self, keys: Iterable[str], size: int) -> dict[str, bytes]:
        """The first bytes of the existing objects among the keys, by key; read at the same time.

        Raises
        ------
        StorageError
            If one of the objects is shorter.
        """
        asking = [(key, self._objects.read(key, byte_range=slice(0, size))) for key in keys]
        starts = {}
        for key, future in asking:
            result = self._wait(future, key)
            if result.state == "value":
                starts[key] = bytes(result.value)
                if len(starts[key]) < size:
                    message = f"{self.location}/{key} was cut short after {len(starts[key])} bytes"
                    raise StorageError(message)
        return starts

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Some bytes of an existing object; empty if it ends before the last of them.

        Raises
        ------
        StorageError
        """
        try:
            result = self._objects.read(key, byte_range=slice(start, stop)).result(timeout=TIMEOUT)
        except (ValueError, OSError, RuntimeError) as error:
            if "OUT_OF_RANGE" in str(error):
                return b""
            raise self._error(key, error) from error
        return bytes(result.value) if result.state == "value" else b""

    def write(self, key: str, value: bytes) -> None:
        """Write an object as a whole: a reader sees the old bytes or the new ones."""
        self._wait(self._objects.write(key, value), key)

    def write_if(self, key: str, value: bytes | None, generation: bytes) -> bytes | None:
        """Write (or with None delete) an object if it still has this generation.

        Returns
        -------
        bytes or None
            The new generation; None if the generation was another, and nothing was written.
        """
        stamp = self._wait(self._objects.write(key, value, if_equal=generation), key)
        return bytes(stamp.generation) or None

    def write_if_absent(self, key: str, value: bytes) -> bytes | None:
        """Write an object if it does not exist; its generation, or None if it existed."""
        return self.write_if(key, value, _ABSENT)

    def read_json(self, key: str) -> Any:
        """The JSON value at a key; None if the object does not exist.

        Raises
        ------
        StorageError
            If it is not JSON.
        """
        return self.json(key, self.value(key))  # JSON that was cut short is not JSON

    def json(self, key: str, body: bytes | None) -> Any:
        """The JSON value in the bytes of an object; None without them.

        Raises
        ------
        StorageError
            If it is not JSON.
        """
        if body is None:
            return None
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise StorageError(f"{self.location}/{key} is not JSON: {error}") from error

    def write_json(self, key: str, value: Any) -> None:
        """Write an object as indented JSON."""
        self.write(key, json.dumps(value, indent=1).encode())

    def list(self, prefix: str = "") -> list[str]:
        """The keys that begin with a prefix, with the prefix removed, sorted."""
        below = self._objects / prefix if prefix.endswith("/") else self._objects
        rest = "" if prefix.endswith("/") else prefix
        names = self._wait(below.list(_range(rest)), prefix)
        return sorted(name.decode()[len(rest) :] for name in names)

    def delete(self, key: str) -> None:
        """Delete an object, if it exists."""
        self._wait(self._objects.write(key, None), key)

    def delete_prefix(
        self, prefix: str, keep: str = "", only: Callable[[str], bool] | None = None
    ) -> None:
        """Delete the objects whose keys begin with a prefix, except those under prefix + `keep`.

        Folders that stay are not listed, whatever their size.

        Parameters
        ----------
        prefix, keep : str
        only : function, optional
            Whether to delete an object, given its key without the prefix.
        """
        whole, excluded = _range(prefix), _range(prefix + keep)
        ranges = [whole]
        if keep:
            ranges = [
                ts.KvStore.KeyRange(whole.inclusive_min, excluded.inclusive_min),
                ts.KvStore.KeyRange(excluded.exclusive_max, whole.exclusive_max),
            ]
        for each in ranges:
            names = [] if only is None else self._wait(self._objects.list(each), prefix)
            keys = [name.decode(errors="surrogateescape") for name in names]
            chosen = [key for key in keys if only is None or only(key[len(prefix) :])]
            if len(chosen) == len(keys):
                self._wait(self._objects.delete_range(each), prefix)
                continue
            for start in range(0, len(chosen), _AT_ONCE):
                some = chosen[start : start + _AT_ONCE]
                deleting = [(key, self._objects.write(key, None)) for key in some]
                for key, future in deleting:
                    self._wait(future, key)
            self._remove_empty_folders(chosen, prefix)

    def _remove_empty_folders(self, deleted: Iterable[str], prefix: str) -> None:
        """Remove the folders on disk that deleted keys have left empty: they would block files."""
        root = Address.parse(self.location).local
        if root is None:
            return
        folders = {parent for key in deleted for parent in PurePosixPath(key).parents}
        below = [folder for folder in folders if f"{folder}/".startswith(prefix)]
        for folder in sorted(below, key=lambda each: len(each.parts), reverse=True):
            with contextlib.suppress(OSError):  # it is not empty
                os.rmdir(root / folder)

    def require_bucket(self) -> None:
        """Raise if the bucket does not exist or access is denied, which reads do not report.

        Raises
        ------
        StorageError
        """
        if self.location.startswith("gs://") and lacks_bucket(self.location):
            bucket = self.location.split("/")[2]
            raise StorageError(f"{self.location}: no bucket '{bucket}'")
        if self.remote:
            empty = ts.KvStore.KeyRange("volflow.none", "volflow.none/")  # no key of ours
            self._wait(self._objects.list(empty), "")

    def _require_whole(self, key: str, value: bytes, generation: bytes) -> None:
        if self.remote and not self._is_whole(key, value, generation):
            raise StorageError(f"{self.location}/{key} was cut short after {len(value)} bytes")

    def _is_whole(self, key: str, value: bytes, generation: bytes) -> bool:
        """Whether these bytes are all of an object.

        The generation on S3 mostly holds the MD5, which decides; otherwise the next byte is
        requested.
        """
        if hashlib.md5(value, usedforsecurity=False).hexdigest().encode() in generation:
            return True
        following = slice(len(value), len(value) + 1)
        try:
            result = self._objects.read(key, byte_range=following).result(timeout=TIMEOUT)
        except (ValueError, OSError, RuntimeError) as error:
            if "OUT_OF_RANGE" in str(error):
                return True
            raise self._error(key, error) from error
        return bool(result.state != "value")

    def _wait(self, future: Any, key: str) -> Any:
        try:
            return future.result(timeout=TIMEOUT)
        except TimeoutError as error:
            message = f"{self.location}/{key}: no response within {TIMEOUT:.0f} s"
            raise StorageError(message + self._blocked(key)) from error
        except (ValueError, OSError, RuntimeError) as error:
            raise self._error(key, error) from error

    def _blocked(self, key: str) -> str:
        """The probable reason why a file is not written: the lock of its writer is held."""
        if self._folder is None or not _is_locked(f"{self._folder}/{key}.__lock"):
            return ""
        return (
            ": the file is locked; either another process was stopped while it wrote it (Ctrl-Z, a "
            "laptop that sleeps) and has to go on or to end, or the disk does not respond"
        )

    def _error(self, key: str, error: Exception) -> StorageError:
        return StorageError(f"{self.location}/{key}: {describe_store_error(error, self.location)}")


def _is_locked(path: str) -> bool:
    """Whether the lock of a file is held; tensorstore writes into a locked file."""
    try:
        with open(path, "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _content(path: str) -> bytes:
    """The bytes of a file; in a third of the time of a file object."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return b"".join(iter(partial(os.read, descriptor, _PART), b""))
    finally:
        os.close(descriptor)


def _range(prefix: str) -> ts.KvStore.KeyRange:
    """The range of all keys with a prefix; an empty upper end means no end."""
    if not prefix:
        return ts.KvStore.KeyRange()
    last = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return ts.KvStore.KeyRange(prefix, last)
