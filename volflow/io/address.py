"""Addresses: the meaning of a path in a pipeline file, and the key-value store behind it.

    precomputed://gs://bucket/em      format://location
    zarr:///data/em.zarr              format:///absolute path
    zarr://s3://bucket/em?profile=us  its store's options: `object_store.OPTIONS`
    hdf5://volumes.h5?dataset=raw     format://relative path ? query
    swc://traced?unit_nm=8            skeletons: a folder of files, and the unit of their numbers
    csv://partners.csv?unit_nm=8      a table, and the unit of its numbers
    /data/sections                    a plain path: its format is detected

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
from volflow.io.object_store import (
    OPTIONS,
    RETRIES,
    bucket_spec,
    describe_store_error,
    set_timeouts,
)

SKELETONS = ("swc", "precomputed-skeletons")
TABLES = ("csv", "parquet")
CHUNKED = ("precomputed", "zarr", "zarr3", "n5")
FILES = ("tiff", "hdf5", "mrc", "nifti")
FORMATS = (*CHUNKED, *FILES, *SKELETONS, *TABLES)
REMOTE = ("gs", "s3", "http", "https", "memory")
SYNC = "VOLFLOW_SYNC"
"""Environment variable: with 1 every file is on disk (fsync) before it counts as written.

Without it the kernel writes files to disk within half a minute. A dying process then loses
nothing; after a crash of the machine marked blocks can lack chunks, which is an error and never
zeros. A small object on a busy disk takes 0.2 ms without and 10 ms with it.
"""


@dataclass(frozen=True, slots=True)
class Address:
    """The place of stored data: a format ("" if not given), a location, and a query.

    `location` is an absolute path, or a URL that starts with one of `REMOTE`.
    """

    format_name: str
    location: str
    query: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse an address; relative paths become absolute, `~` is expanded.

        Raises
        ------
        StorageError
            If the scheme is unknown, or no place follows it.
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
                raise StorageError(f"address {text!r}: expected name=value after '?', got {tail!r}")
            query = tuple(parse_qsl(tail, keep_blank_values=True))
        if not rest:
            raise StorageError(f"address {text!r}: expected a path")
        if scheme in REMOTE:
            return cls(format_, rest.rstrip("/"), query)
        if scheme == "file":
            rest = rest[len("file://") :]
        elif scheme:
            known = ", ".join(f"{name}://" for name in (*FORMATS, "file", *REMOTE))
            raise StorageError(f"address {text!r}: '{scheme}://' is unknown (known: {known})")
        path = os.path.abspath(os.path.expanduser(rest))
        return cls(format_, path, query)

    @property
    def local(self) -> Path | None:
        """The path on this file system; None for a location elsewhere."""
        return None if _scheme(self.location) else Path(self.location)

    def unknown_options(self) -> str:
        """The problem of a query with options that its store does not have; "" if there is none."""
        scheme = _scheme(self.location)
        known = OPTIONS.get(scheme)
        unknown = [name for name, _ in self.query if known is not None and name not in known]
        if not unknown or known is None:
            return ""
        return f"no option '{unknown[0]}' of {scheme}:// (known: {', '.join(known)})"

    def __str__(self) -> str:
        query = "&".join(f"{name}={value}" for name, value in self.query)
        start = f"{self.format_name}://" if self.format_name else ""
        return f"{start}{self.location}" + (f"?{query}" if query else "")


def _scheme(text: str) -> str:
    match = re.match(r"([a-z][a-z0-9+-]*)://", text)
    return match.group(1) if match else ""


def kvstore_spec(location: str, query: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
    """The tensorstore specification of a folder, bucket path or URL.

    Parameters
    ----------
    location : str
        As in `Address`.
    query : pairs of str
        As in `Address`; only the options of the store are used.
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
        known = {name: value for name, value in query if name in OPTIONS[scheme]}
        spec: dict[str, Any] = bucket_spec(scheme, bucket, folder, known)
        return spec
    return {"driver": "http", "base_url": f"{scheme}://{bucket}", "path": f"/{folder}"}


# One root, so that memory:// stays the same store when limits change.
_ROOT = ts.Context({"memory_key_value_store": {}})
_ROOT["memory_key_value_store"]
_context: ts.Context | None = None


def set_limits(cache_bytes: int = 0, threads: int = 4) -> None:
    """Limit the memory and threads of this process for reading and writing, from now on.

    Parameters
    ----------
    cache_bytes : int
        Decoded chunks in the cache.
    threads : int
        Chunks coded at the same time, and half the number of files read at the same time.
    """
    global _context
    set_timeouts()
    _context = ts.Context(
        {
            "cache_pool": {"total_bytes_limit": cache_bytes},
            "data_copy_concurrency": {"limit": threads},
            "file_io_concurrency": {"limit": 2 * threads},
            "file_io_sync": os.environ.get(SYNC, "0") == "1",
            "s3_request_retries": RETRIES,
            "gcs_request_retries": RETRIES,
            "http_request_retries": RETRIES,
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
        raise StorageError(f"{location}: {describe_store_error(error, location)}") from error
