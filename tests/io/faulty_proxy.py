"""An HTTP proxy before a store that now and then fails, on purpose and by a seed.

A fault is one of `KINDS`; the next one is drawn for each request while `faults` are left. What was
done is in `log`. It listens on this machine only, and ends with its context.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple
from urllib.parse import urlsplit

KINDS = (
    "503",  # not handed on
    "503 after",  # handed on, and yet reported as failed
    "500",
    "delay",
    "drop",  # the connection ends without an answer, nothing was handed on
    "drop after",
    "short",  # half of the body, under the length of the whole, then the connection ends
    "short unsaid",  # half of the body without a length: nothing in HTTP gives it away
    "empty unsaid",
)
RARE = (
    "429",
    "403",  # a token that expired
    "404",  # a read that does not see yet what was written
    "silence",  # handed on, and no answer for longer than `silent`
    "trickle",  # the body in two parts, with a pause between them
    "short with length",  # half of the body, and its length: detected only by a known content
    "overlong",  # the whole body under the length of its half, so that answers run together
)
"""Faults besides `KINDS` that are rare, or should never happen."""
_OF_BODIES = (
    "404",
    "trickle",
    "short",
    "short unsaid",
    "empty unsaid",
    "short with length",
    "overlong",
)
_LONG = 0.3  # seconds of a delay
_OWN = ("connection", "transfer-encoding", "content-length", "keep-alive")


class Seen(NamedTuple):
    """A request, and what was done to it: `fault` is empty for most."""

    method: str
    path: str
    fault: str


class FaultyProxy:
    """A proxy while the context lasts.

    Parameters
    ----------
    upstream : str
        The endpoint of the store.
    seed : int
        Of the faults.
    faults : int
        At most so many; none without.
    often : float
        The chance of a request to meet a fault.
    kinds : sequence of str
        Those that are drawn, of `KINDS` and `RARE`; any status is answered without a body.
    silent : float
        Seconds of a silence.
    """

    def __init__(
        self,
        upstream: str,
        seed: int = 0,
        faults: int = 0,
        often: float = 1.0,
        kinds: Sequence[str] = KINDS,
        silent: float = 4.0,
    ) -> None:
        self.silent = silent
        self.upstream = urlsplit(upstream)
        self.faults, self.often, self.kinds = faults, often, kinds
        self.log: list[Seen] = []
        self.instead: dict[str, tuple[int, bytes]] = {}  # answers, by how a request begins
        self._draw, self._lock = random.Random(seed), threading.Lock()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def injected(self) -> list[str]:
        """The faults so far, in order."""
        return [seen.fault for seen in self.log if seen.fault]

    def next_fault(self, method: str, path: str) -> str:
        """Draw what happens to a request, and note it."""
        with self._lock:
            fault = ""
            if self.faults > 0 and self._draw.random() < self.often:
                fault = self._draw.choice(list(self.kinds))
                if fault in _OF_BODIES and method != "GET":
                    fault = "drop after"
                self.faults -= 1
            self.log.append(Seen(method, path, fault))
            return fault


class _Server(ThreadingHTTPServer):
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    owner: FaultyProxy
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    timeout = 20  # seconds that a connection may be idle

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        asked = f"{self.command} {self.path}"
        for begin, (status, answer) in self.owner.instead.items():
            if asked.startswith(begin):
                return self._answer(status, {}, answer)
        fault = self.owner.next_fault(self.command, self.path)
        if fault.isdecimal():
            return self._answer(int(fault), {}, b"")
        if fault == "drop":
            return self._drop()
        if fault == "delay":
            time.sleep(_LONG)
        status, headers, actual = self._asked(body)
        if fault == "503 after":
            return self._answer(503, {}, b"")
        if fault == "drop after":
            return self._drop()
        if fault == "silence":
            time.sleep(self.owner.silent)
            return self._drop()
        if actual and fault in _OF_BODIES:
            return self._spoil(fault, status, headers, actual)
        return self._answer(status, headers, actual)

    def _spoil(self, fault: str, status: int, headers: dict[str, str], whole: bytes) -> None:
        """Answer with another body than the store's, or under another length."""
        half = whole[: len(whole) // 2]
        if fault == "short":
            self._answer(status, headers, half, len(whole))
        elif fault == "short with length":
            return self._answer(status, headers, half)
        elif fault == "trickle":
            self._answer(status, headers, half, len(whole))
            time.sleep(_LONG)
            self.wfile.write(whole[len(half) :])
            return self.wfile.flush()
        elif fault == "overlong":
            return self._answer(status, headers, whole, len(half))
        else:
            self._answer(status, headers, b"" if fault == "empty unsaid" else half, None)
        return self._drop()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

    def _asked(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """The answer of the store."""
        connection = http.client.HTTPConnection(self.owner.upstream.netloc, timeout=30)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _OWN}
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            actual = answer.read()
            remaining = {k: v for k, v in answer.getheaders() if k.lower() not in _OWN}
            if self.command == "HEAD":
                remaining["Content-Length"] = answer.getheader("Content-Length") or "0"
            return answer.status, remaining, actual
        finally:
            connection.close()

    def _answer(
        self, status: int, headers: dict[str, str], body: bytes, length: int | None = -1
    ) -> None:
        """Answer; `length` is the announced length of the body, None for none."""
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is None:
            self.send_header("Connection", "close")
        elif "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body) if length < 0 else length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _drop(self) -> None:
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""
