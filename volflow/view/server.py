"""The layers of a run over HTTP, for this machine alone, and nothing else of it.

    http://127.0.0.1:PORT/TOKEN/LAYER/KEY

TOKEN is drawn anew for each server, so that neither another user of this machine nor a web page
that is open in its browser finds the layers; Neuroglancer is given it in the layer's address.
A LAYER is one that was named when the server was made; a KEY is a file below its folder, or
whatever else that layer's source finds under it.
"""

from __future__ import annotations

import hmac
import io
import logging
import os
import re
import secrets
import stat
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote_to_bytes

from volflow.errors import PlanError, StorageError

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
PIECE = 1 << 20  # bytes held of a file that is sent, however large a shard is
IDLE = 60.0  # seconds after which a connection that says nothing is closed
POLL = 0.05  # seconds until the end is noticed
METHODS = "GET, HEAD, OPTIONS"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Found(Protocol):
    """What lies under the keys of a layer."""

    def find(self, key: Sequence[str]) -> BinaryIO | None:
        """The bytes under a key, to be read from any place in them; None if there are none."""


class Folder:
    """The files below a folder, followed through no link.

    Each part of a key is opened below the one before, so that nothing that is changed meanwhile
    leads out either.

    Parameters
    ----------
    path : path
        Links on the way to the folder itself are followed, once, now.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).resolve()

    def find(self, key: Sequence[str]) -> BinaryIO | None:
        try:
            return self._open(key)
        except OSError:  # not there, a link, not to be read: all the same to who asks
            return None

    def _open(self, key: Sequence[str]) -> BinaryIO | None:
        here = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            for part in key[:-1]:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
                os.close(here)
                here = below
            # Without O_NONBLOCK the opening of a pipe would wait for its writer.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            file = os.open(key[-1], flags, dir_fd=here)
        finally:
            os.close(here)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            return None
        return os.fdopen(file, "rb")


class Fixed:
    """A few objects that are made beforehand, by key."""

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self.objects = dict(objects)

    def find(self, key: Sequence[str]) -> BinaryIO | None:
        body = self.objects.get("/".join(key))
        return None if body is None else io.BytesIO(body)


class LayerServer(ThreadingHTTPServer):
    """Answers in threads of its own, from `with LayerServer(layers):` until its end.

    Parameters
    ----------
    layers : mapping of str to Found
        By name.
    port : int
        0: one that is free.

    Attributes
    ----------
    url : str
        What the layers' names follow: `{url}/{name}`.
    answered : Counter of (status, LAYER/KEY)
        What was asked for, without the token; at most `REMEMBERED` different ones.

    Raises
    ------
    PlanError
        If the port is taken.
    """

    daemon_threads = True
    REMEMBERED = 100_000

    def __init__(self, layers: Mapping[str, Found], port: int = 0) -> None:
        self.layers = dict(layers)
        self.token = secrets.token_urlsafe(16)
        self.answered: Counter[tuple[int, str]] = Counter()
        self._counting = threading.Lock()
        try:
            super().__init__((HOST, port), _Answer)
        except OSError as error:
            raise PlanError(f"port {port} of {HOST} cannot be had: {error.strerror}") from error
        self.url = f"http://{HOST}:{self.server_address[1]}/{self.token}"

    def __enter__(self) -> LayerServer:
        loop = threading.Thread(target=self.serve_forever, args=(POLL,), daemon=True)
        loop.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.shutdown()
        self.server_close()

    def find(self, target: str) -> tuple[BinaryIO | None, str]:
        """What a request's target names, and that name for the record; no bytes if nothing."""
        parts = parts_of(target)
        if len(parts) < 3 or not hmac.compare_digest(parts[0].encode(), self.token.encode()):
            return None, "?"
        layer = self.layers.get(parts[1])
        name = "/".join(parts[1:])
        return (None if layer is None else layer.find(parts[2:])), name

    def count(self, status: int, name: str) -> None:
        """Remember an answer."""
        logger.debug("%d %s", status, name)
        with self._counting:
            if (status, name) in self.answered or len(self.answered) < self.REMEMBERED:
                self.answered[status, name] += 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves while it is answered is no news."""
        logger.debug("a connection ended early", exc_info=True)


def parts_of(target: str) -> tuple[str, ...]:
    """The parts of a request's path, decoded once; none if one of them is not a plain name."""
    path = target.partition("?")[0].partition("#")[0]
    if not path.startswith("/"):
        return ()
    try:
        parts = [unquote_to_bytes(part).decode() for part in path[1:].split("/")]
    except UnicodeDecodeError:
        return ()
    if any(part in ("", ".", "..") or re.search(r"[/\\\x00-\x1f]", part) for part in parts):
        return ()
    return tuple(parts)


def content_type(name: str) -> str:
    """What a browser is told that it gets.

    A page is one only where we made it, in a layer of our own whose name begins with `_`: no file
    that lies below a layer's folder is ever shown as one.
    """
    if name.startswith("_") and name.endswith(".html"):
        return "text/html; charset=utf-8"
    return "application/json" if name.endswith("json") else "application/octet-stream"


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """The half-open range that a `Range` header asks for.

    Returns
    -------
    (start, stop), or None
        None where the header is to be passed over (RFC 9110, 14.2): another unit, several
        ranges, or no range at all. `start >= stop` where nothing of it is there.
    """
    found = _RANGE.fullmatch(header.strip())
    if not found or found.group(0) == "bytes=-" or not header.isascii():
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size


class _Answer(BaseHTTPRequestHandler):
    """One connection."""

    server: LayerServer
    protocol_version = "HTTP/1.1"
    timeout = IDLE

    def version_string(self) -> str:
        return "volflow"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_OPTIONS(self) -> None:
        """What a browser asks before it reads a range from another origin."""
        self._begin(HTTPStatus.NO_CONTENT, "?")
        self.send_header("Access-Control-Allow-Methods", METHODS)
        self.send_header("Access-Control-Allow-Headers", "Range")
        self.send_header("Access-Control-Allow-Private-Network", "true")
        self.send_header("Access-Control-Max-Age", "600")
        self.end_headers()

    def do_POST(self) -> None:
        """Nothing is ever written."""
        self.close_connection = True  # what else was sent is not read
        self._begin(HTTPStatus.METHOD_NOT_ALLOWED, "?")
        self.send_header("Allow", METHODS)
        self._no_body()

    do_PUT = do_PATCH = do_DELETE = do_POST

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """A request that makes no sense: its status, and nothing of what it said."""
        self.close_connection = True
        self.request_version = "HTTP/1.1"  # else what is taken for HTTP/0.9 gets no status
        self._begin(code, "?")
        self._no_body()

    def log_message(self, format: str, *args: Any) -> None:
        """Answers are counted, not printed."""

    def _answer(self, with_body: bool) -> None:
        if self.headers.get("Content-Length") or self.headers.get("Transfer-Encoding"):
            self.close_connection = True  # a body that is not read must not pass for a request
        try:
            body, name = self.server.find(self.path)
        except StorageError as error:
            logger.warning("%s", error)
            self._begin(HTTPStatus.BAD_GATEWAY, "?")
            self._no_body()
            return
        if body is None:
            self._begin(HTTPStatus.NOT_FOUND, name)
            self._no_body()
            return
        with body:
            self._send(body, name, with_body)

    def _send(self, body: BinaryIO, name: str, with_body: bool) -> None:
        size = body.seek(0, io.SEEK_END)
        asked = self.headers.get("Range", "")
        wanted = byte_range(asked, size) if "If-Range" not in self.headers else None
        start, stop = wanted or (0, size)
        if wanted and start >= stop:
            self._begin(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, name)
            self.send_header("Content-Range", f"bytes */{size}")
            self._no_body()
            return
        self._begin(HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK, name)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.send_header("Content-Type", content_type(name))
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if with_body:
            self._copy(body, start, stop)

    def _copy(self, body: BinaryIO, start: int, stop: int) -> None:
        body.seek(start)
        while start < stop:
            piece = body.read(min(PIECE, stop - start))
            if not piece:  # the file was cut meanwhile: less came than was promised
                self.close_connection = True
                return
            self.wfile.write(piece)
            start += len(piece)

    def _begin(self, status: int, name: str) -> None:
        self.server.count(int(status), name)
        self.send_response(status)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header(
            "Access-Control-Expose-Headers", "Content-Range, Content-Length, Accept-Ranges"
        )
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if self.close_connection:
            self.send_header("Connection", "close")

    def _no_body(self) -> None:
        self.send_header("Content-Length", "0")
        self.end_headers()
