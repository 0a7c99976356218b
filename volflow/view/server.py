"""An HTTP server for layers, on 127.0.0.1 only, that serves nothing else.

    http://127.0.0.1:PORT/TOKEN/LAYER/KEY

TOKEN is a random string of each server. Neither another user of this machine nor a web page that
is open in its browser can guess it; Neuroglancer receives it in the address of a layer. LAYER is a
name passed to the server's constructor, and KEY an object of that layer's source: a file below its
folder, or what the source computes.
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
PIECE = 1 << 20  # bytes of a file in memory while it is sent, however large a shard is
IDLE = 60.0  # seconds after which a silent connection is closed
POLL = 0.05  # seconds until a shutdown is noticed
METHODS = "GET, HEAD, OPTIONS"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class LayerSource(Protocol):
    """The objects of a layer, by key."""

    def find(self, key: Sequence[str]) -> BinaryIO | None:
        """The bytes under a key as a seekable file; None if there are none."""


class FolderSource:
    """The files below a folder; symbolic links are not followed.

    Each part of a key is opened relative to the one before it, so that a file that is replaced
    meanwhile does not lead out of the folder either.

    Parameters
    ----------
    path : path
        Links in the path of the folder itself are resolved once, here.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).resolve()

    def find(self, key: Sequence[str]) -> BinaryIO | None:
        try:
            return self._open(key)
        except OSError:  # missing, a link, or not readable: the same answer to the client
            return None

    def _open(self, key: Sequence[str]) -> BinaryIO | None:
        here = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            for part in key[:-1]:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
                os.close(here)
                here = below
            # Without O_NONBLOCK, opening a pipe would wait for its writer.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            file = os.open(key[-1], flags, dir_fd=here)
        finally:
            os.close(here)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            return None
        return os.fdopen(file, "rb")


class MemorySource:
    """A few objects held in memory, by key."""

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self.objects = dict(objects)

    def find(self, key: Sequence[str]) -> BinaryIO | None:
        body = self.objects.get("/".join(key))
        return None if body is None else io.BytesIO(body)


class LayerServer(ThreadingHTTPServer):
    """A server that answers in its own threads within `with LayerServer(layers):`.

    Parameters
    ----------
    layers : mapping of str to LayerSource
        By name.
    port : int
        0 for any free port.

    Attributes
    ----------
    url : str
        Address of the server; a layer is at `{url}/{name}`.
    answered : Counter of (status, LAYER/KEY)
        Requests, without the token; at most `REMEMBERED` different ones.

    Raises
    ------
    PlanError
        If the port is in use.
    """

    daemon_threads = True
    REMEMBERED = 100_000

    def __init__(self, layers: Mapping[str, LayerSource], port: int = 0) -> None:
        self.layers = dict(layers)
        self.token = secrets.token_urlsafe(16)
        self.answered: Counter[tuple[int, str]] = Counter()
        self._counting = threading.Lock()
        try:
            super().__init__((HOST, port), _Answer)
        except OSError as error:
            raise PlanError(
                f"port {port} of {HOST}: {error.strerror}; choose another --port"
            ) from error
        self.url = f"http://{HOST}:{self.server_address[1]}/{self.token}"

    def __enter__(self) -> LayerServer:
        loop = threading.Thread(target=self.serve_forever, args=(POLL,), daemon=True)
        loop.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.shutdown()
        self.server_close()

    def find(self, target: str) -> tuple[BinaryIO | None, str]:
        """The object that a request names, if any, and that name for the record."""
        parts = parts_of(target)
        if len(parts) < 3 or not hmac.compare_digest(parts[0].encode(), self.token.encode()):
            return None, "?"
        layer = self.layers.get(parts[1])
        name = "/".join(parts[1:])
        return (None if layer is None else layer.find(parts[2:])), name

    def count(self, status: int, name: str) -> None:
        """Record an answer."""
        logger.debug("%d %s", status, name)
        with self._counting:
            if (status, name) in self.answered or len(self.answered) < self.REMEMBERED:
                self.answered[status, name] += 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore browsers that close a connection early."""
        logger.debug("a connection ended early", exc_info=True)


def parts_of(target: str) -> tuple[str, ...]:
    """The parts of a request's path, decoded once; empty if one of them is not a plain name."""
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
    """The MIME type of an object.

    HTML is declared only for our own pages, in layers whose name begins with `_`; no file below a
    layer's folder is ever served as HTML.
    """
    if name.startswith("_") and name.endswith(".html"):
        return "text/html; charset=utf-8"
    return "application/json" if name.endswith("json") else "application/octet-stream"


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """The half-open range that a `Range` header asks for.

    Returns
    -------
    (start, stop), or None
        None where the header is to be ignored (RFC 9110, section 14.2): another unit, several
        ranges, or no range at all. `start >= stop` where the object has no byte of the range.
    """
    match = _RANGE.fullmatch(header.strip())
    if not match or match.group(0) == "bytes=-" or not header.isascii():
        return None
    first, last = match.groups()
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
        """Answer the preflight of a browser that reads a range from another origin."""
        self._begin(HTTPStatus.NO_CONTENT, "?")
        self.send_header("Access-Control-Allow-Methods", METHODS)
        self.send_header("Access-Control-Allow-Headers", "Range")
        self.send_header("Access-Control-Allow-Private-Network", "true")
        self.send_header("Access-Control-Max-Age", "600")
        self.end_headers()

    def do_POST(self) -> None:
        """Refuse to write."""
        self.close_connection = True  # the request's body is not read
        self._begin(HTTPStatus.METHOD_NOT_ALLOWED, "?")
        self.send_header("Allow", METHODS)
        self._no_body()

    do_PUT = do_PATCH = do_DELETE = do_POST

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a malformed request with its status, repeating none of its content."""
        self.close_connection = True
        self.request_version = "HTTP/1.1"  # a request parsed as HTTP/0.9 would get no status
        self._begin(code, "?")
        self._no_body()

    def log_message(self, *args: Any) -> None:
        """Count answers instead of printing them."""

    def _answer(self, with_body: bool) -> None:
        if self.headers.get("Content-Length") or self.headers.get("Transfer-Encoding"):
            self.close_connection = True  # an unread body must not be parsed as the next request
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
        header = self.headers.get("Range", "")
        requested = byte_range(header, size) if "If-Range" not in self.headers else None
        start, stop = requested or (0, size)
        if requested and start >= stop:
            self._begin(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, name)
            self.send_header("Content-Range", f"bytes */{size}")
            self._no_body()
            return
        self._begin(HTTPStatus.PARTIAL_CONTENT if requested else HTTPStatus.OK, name)
        if requested:
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
            if not piece:  # the file became shorter than its announced length
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
