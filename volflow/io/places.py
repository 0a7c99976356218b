"""Places: whether two addresses mean one place, or one is within the other.

Addresses are compared by what they lead to, not by how they are written: symbolic links, `..`,
mounts, `file://`, formats, case of hosts, and the web addresses of buckets do not matter.

Not recognised: a folder that a web server of one's own serves, or one file under two hard links
in a folder.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from volflow.errors import StorageError
from volflow.io.address import Address

Key: TypeAlias = tuple[object, ...]
LINKS = 16  # followed one after another
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_AMAZON = re.compile(r"(?:(?P<bucket>.+)\.)?s3(?:[.-][a-z0-9-]+)*\.amazonaws\.com")
_GOOGLE = re.compile(r"(?:(?P<bucket>.+)\.)?storage\.(?:googleapis|cloud\.google)\.com")


@dataclass(frozen=True)
class Place:
    """The canonical form of an address: the keys of the folders that lead to it, its own last."""

    chain: tuple[Key, ...]

    @classmethod
    def of(cls, text: str, *below: str) -> Place:
        """The place of an address, or of a file or folder below it."""
        try:
            address = Address.parse(text)
        except StorageError:
            return cls((("unknown", text, *below),))
        if address.local is not None:
            return cls(_on_disk(address.local.joinpath(*below)))
        parts = _remote(address.location, dict(address.query))
        whole = (*parts, *below)
        return cls(tuple(whole[:length] for length in range(1, len(whole) + 1)))

    def contains(self, other: Place) -> bool:
        """Whether the other place is this one or within it."""
        return self.chain[-1] in other.chain

    def meets(self, other: Place) -> bool:
        """Whether one of the two places is the other or within it."""
        return self.contains(other) or other.contains(self)


def _on_disk(path: Path) -> tuple[Key, ...]:
    """Keys of all folders on the way to a path, also of those that symbolic links lead through."""
    keys = [_key(folder) for each in _ways(path, LINKS) for folder in (*each.parents, each)]
    return (*keys, _key(path))


def _ways(path: Path, links: int) -> Iterator[Path]:
    """The path as written, and as it reads once its first link is followed, and so on."""
    yield path
    for folder in (*reversed(path.parents), path):
        if links and folder.is_symlink():
            try:
                target = os.path.join(os.path.realpath(folder.parent), os.readlink(folder))
            except OSError:
                return
            followed = os.path.normpath(os.path.join(target, path.relative_to(folder)))
            yield from _ways(Path(followed), links - 1)
            break
    yield Path(os.path.realpath(path))


def _key(path: Path) -> Key:
    """Device and inode of the last folder that exists, and the names below it."""
    real = Path(os.path.realpath(path))
    for folder in (real, *real.parents):
        try:
            status = os.stat(folder)
        except (OSError, ValueError):
            continue
        return (status.st_dev, status.st_ino, *real.relative_to(folder).parts)
    return (str(real),)


def _remote(location: str, options: dict[str, str]) -> Key:
    """Store, bucket and folders of a location that is not on disk."""
    scheme, _, rest = location.partition("://")
    if scheme in ("http", "https"):
        return _web(location)
    bucket, _, path = rest.partition("/")
    if scheme == "s3":
        get = os.environ.get
        endpoint = options.get("endpoint") or get("AWS_ENDPOINT_URL_S3") or get("AWS_ENDPOINT_URL")
        store = _web(endpoint) if endpoint else ("s3",)
        return (*store, bucket.lower(), *_folders(path))
    return (scheme, bucket.lower() if scheme == "gs" else bucket, *_folders(path))


def _web(url: str) -> Key:
    """Host and folders of a URL; of a bucket's web address, those of the bucket."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    host = (parts.hostname or "").lower().rstrip(".")
    folders = _folders(unquote(parts.path))
    for scheme, pattern in (("s3", _AMAZON), ("gs", _GOOGLE)):
        match = pattern.fullmatch(host)
        if match:
            return (scheme, match["bucket"], *folders) if match["bucket"] else (scheme, *folders)
    try:
        port = parts.port
    except ValueError:
        port = None
    port = None if port in (80, 443) else port
    return ("http", "localhost" if host in _LOOPBACK else host, port, *folders)


def _folders(path: str) -> Key:
    normal = posixpath.normpath(f"/{path}").strip("/")
    return tuple(normal.split("/")) if normal else ()
