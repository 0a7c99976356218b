"""Addresses: what a path in a pipeline file means, and the key-value store behind it.

    precomputed://gs://bucket/em      format://location
    zarr:///data/em.zarr              format:///absolute path
    zarr://s3://bucket/em?profile=us  its store's options: `remote.OPTIONS`
    hdf5://volumes.h5?dataset=raw     format://relative path ? query
    swc://traced?unit_nm=8            skeletons: a folder of files, and the unit of their numbers
    csv://partners.csv?unit_nm=8      a table, and the same
    /data/sections                    a plain path: the format is found by looking

This is the only place where a location becomes a tensorstore key-value store.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import tensorstore as ts

from volflow.errors import StorageError
from volflow.io import object_store as remote

SKELETONS = ("swc", "precomputed-skeletons")
TABLES = ("csv",)
CHUNKED = ("precomputed", "zarr", "zarr3", "n5")
FILES = ("tiff", "hdf5", "mrc", "nifti")
FORMATS = (*CHUNKED, *FILES, *SKELETONS, *TABLES)
REMOTE = ("gs", "s3", "http", "https", "memory")
SYNC = "VOLFLOW_SYNC"
"""Environment variable: 1 has every file on disk before it counts as written (fsync).

Without it the kernel writes files out within half a minute. That loses nothing when a process
dies; when the machine does, marked blocks can lack chunks, which is an error and never zeros. On
a busy disk it is 0.2 ms against 10 ms for a small object.
"""


@dataclass(frozen=True, slots=True)
class Address:
    """Where something is stored: a format ("" if not told), a location, and a query.

    `location` is an absolute path, or a URL that starts with one of `REMOTE`.
    """

    format: str
    location: str
    query: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Address:
        """Take an address apart; relative paths become absolute, `~` is expanded.

        Raises
        ------
        StorageError
            If the scheme is unknown or nothing follows it.
        """
        format_, rest = "", text
        scheme = _scheme(rest)
        if scheme in FORMATS:
            format_, rest = scheme, rest[len(scheme) + 3 :]
            scheme = _scheme(rest)
        query: tuple[tuple[str, str], ...] = ()
        if "?" in rest and scheme not in ("http", "https") and not Path(rest).exists():
            rest, _, tail = rest.partition("?")
            if "=" not in tail:
                raise StorageError(f"address {text!r}: {tail!r} after '?' is not name=value")
            query = tuple(parse_qsl(tail, keep_blank_values=True))
        if not rest:
            raise StorageError(f"address {text!r} names no place")
        if scheme in REMOTE:
            return cls(format_, rest.rstrip("/"), query)
        if scheme == "file":
            rest = rest[len("file://") :]
        elif scheme:
            known = ", ".join(f"{name}://" for name in (*FORMATS, "file", *REMOTE))
            raise StorageError(f"address {text!r}: '{scheme}://' is not known (known: {known})")
        path = os.path.abspath(os.path.expanduser(rest))
        return cls(format_, path, query)

    @property
    def local(self) -> Path | None:
        """The path on this file system; None for a location elsewhere."""
        return None if _scheme(self.location) else Path(self.location)

    def unknown_options(self) -> str:
        """Why the query is none of its store's; empty if it is, or the store has none."""
        scheme = _scheme(self.location)
        known = remote.OPTIONS.get(scheme)
        strange = [name for name, _ in self.query if known is not None and name not in known]
        if not strange or known is None:
            return ""
        return f"no option '{strange[0]}' of {scheme}:// (known: {', '.join(known)})"

    def __str__(self) -> str:
        query = "&".join(f"{name}={value}" for name, value in self.query)
        start = f"{self.format}://" if self.format else ""
        return f"{start}{self.location}" + (f"?{query}" if query else "")


def _scheme(text: str) -> str:
    found = re.match(r"([a-z][a-z0-9+-]*)://", text)
    return found.group(1) if found else ""


def kvstore_spec(location: str, query: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
    """Specify the tensorstore key-value store of a folder, bucket path or URL.

    Parameters
    ----------
    location : str
        As `Address` has it.
    query : pairs of str
        Of an address; the options of its store are taken out of it.
    """
    scheme = _scheme(location)
    if not scheme:
        return {"driver": "file", "path": location.rstrip("/") + "/"}
    bucket, _, path = location[len(scheme) + 3 :].partition("/")
    path = path.strip("/")
    folder = path + "/" if path else ""
    if scheme == "memory":
        return {"driver": "memory", "path": f"{bucket}/{folder}"}
    if scheme in ("s3", "gs"):
        known = {name: value for name, value in query if name in remote.OPTIONS[scheme]}
        spec: dict[str, Any] = remote.bucket_spec(scheme, bucket, folder, known)
        return spec
    return {"driver": "http", "base_url": f"{scheme}://{bucket}", "path": f"/{folder}"}


# One root, so that memory:// is the same store whatever limits are set.
_ROOT = ts.Context({"memory_key_value_store": {}})
_ROOT["memory_key_value_store"]
_context: ts.Context | None = None


def set_limits(cache_bytes: int = 0, threads: int = 4) -> None:
    """Bound what reading and writing may use in this process; for whatever is opened from now on.

    Parameters
    ----------
    cache_bytes : int
        Decoded chunks kept in memory.
    threads : int
        Chunks coded at the same time; twice as many files are read at the same time.
    """
    global _context
    remote.be_patient()
    _context = ts.Context(
        {
            "cache_pool": {"total_bytes_limit": cache_bytes},
            "data_copy_concurrency": {"limit": threads},
            "file_io_concurrency": {"limit": 2 * threads},
            "file_io_sync": os.environ.get(SYNC, "0") == "1",
            "s3_request_retries": remote.RETRIES,
            "gcs_request_retries": remote.RETRIES,
            "http_request_retries": remote.RETRIES,
        },
        _ROOT,
    )
    open_kvstore.cache_clear()


def context() -> ts.Context:
    """The tensorstore context of this process."""
    if _context is None:
        set_limits()
    assert _context is not None
    return _context


@lru_cache(maxsize=256)
def open_kvstore(location: str, query: tuple[tuple[str, str], ...] = ()) -> ts.KvStore:
    """Open the key-value store of a folder, bucket path or URL."""
    try:
        return ts.KvStore.open(kvstore_spec(location, query), context=context()).result()
    except (ValueError, OSError) as error:
        raise StorageError(f"{location}: {remote.told(error, location)}") from error
