"""Answers of the layer server, and that it serves nothing else; through plain sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volflow.errors import PlanError
from volflow.view.server import FolderSource, LayerServer, MemorySource, byte_range, parts_of

BODY = bytes(range(256)) * 40
SECRET = b"not for you"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A layer next to files that must not be served."""
    layer = tmp_path / "run" / "seg"
    (layer / "10_10_10").mkdir(parents=True)
    (layer / "info").write_bytes(b"{}")
    (layer / "10_10_10" / "0-64").write_bytes(BODY)
    (layer / "10_10_10" / "a b%").write_bytes(b"odd name")
    (layer / "empty").write_bytes(b"")
    (tmp_path / "run" / "pipeline.yaml").write_bytes(SECRET)
    (tmp_path / "segments").mkdir()
    (tmp_path / "segments" / "info").write_bytes(SECRET)
    (tmp_path / "secret").write_bytes(SECRET)
    (layer / "link").symlink_to(tmp_path / "secret")
    (layer / "inner").symlink_to(layer / "info")
    (layer / "out").symlink_to(tmp_path)
    os.mkfifo(layer / "pipe")
    return layer


@pytest.fixture
def server(tree: Path) -> Iterator[LayerServer]:
    with LayerServer(
        {"seg": FolderSource(tree), "made": MemorySource({"state.json": b"[1]"})}
    ) as server:
        yield server


def ask(server: LayerServer, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes as they are; status, headers and body of what comes back."""
    with socket.create_connection(server.server_address[:2], timeout=120) as connection:
        connection.sendall(request)
        with contextlib.suppress(OSError):  # it may have answered and closed before
            connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":")[::2] for line in lines[1:])
    headers = {name.lower(): value.strip() for name, value in pairs}
    return int(lines[0].split()[1]), headers, body


def get(
    server: LayerServer, key: str, *headers: str, method: str = "GET", token: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    head = f"{method} /{server.token if token is None else token}/{key} HTTP/1.1"
    lines = [head, "Host: 127.0.0.1", "Connection: close", *headers, "", ""]
    return ask(server, "\r\n".join(lines).encode())


def test_a_file_is_given_whole_to_any_origin(server: LayerServer) -> None:
    status, headers, body = get(server, "seg/10_10_10/0-64", "Origin: https://else.where")
    assert (status, body) == (200, BODY)
    assert headers["access-control-allow-origin"] == "*"
    assert headers["content-length"] == str(len(BODY))
    assert headers["accept-ranges"] == "bytes"
    assert get(server, "seg/10_10_10/a%20b%25")[2] == b"odd name"
    assert get(server, "seg/info?time=now")[2] == b"{}"
    assert get(server, "made/state.json")[1]["content-type"] == "application/json"


def test_head_tells_the_size_and_sends_nothing(server: LayerServer) -> None:
    status, headers, body = get(server, "seg/10_10_10/0-64", method="HEAD")
    assert (status, headers["content-length"], body) == (200, str(len(BODY)), b"")
    status, headers, body = get(server, "seg/10_10_10/0-64", "Range: bytes=5-9", method="HEAD")
    assert (status, headers["content-length"], body) == (206, "5", b"")


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-99", 10, 100),
        ("bytes=10000-", 10000, 10240),
        ("bytes=-7", 10233, 10240),
        ("bytes=-99999", 0, 10240),
        ("bytes=10-999999", 10, 10240),
    ],
)
def test_a_range_is_given_as_206(server: LayerServer, asked: str, start: int, stop: int) -> None:
    status, headers, body = get(server, "seg/10_10_10/0-64", f"Range: {asked}")
    assert (status, body) == (206, BODY[start:stop])
    assert headers["content-range"] == f"bytes {start}-{stop - 1}/{len(BODY)}"


@pytest.mark.parametrize(
    ("key", "asked", "size"),
    [
        ("10_10_10/0-64", "bytes=10240-", 10240),
        ("10_10_10/0-64", "bytes=-0", 10240),
        ("10_10_10/0-64", "bytes=99999999999999999999-", 10240),
        ("empty", "bytes=0-0", 0),
        ("empty", "bytes=-5", 0),
    ],
)
def test_a_range_with_nothing_in_it_is_416(
    server: LayerServer, key: str, asked: str, size: int
) -> None:
    status, headers, body = get(server, f"seg/{key}", f"Range: {asked}")
    assert (status, body, headers["content-range"]) == (416, b"", f"bytes */{size}")


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=5-2",
        "bytes=-",
        "bytes=0-1,4-5",
        "lines=0-1",
        "bytes=a-b",
        "bytes=1",
        "",
        "bytes=\u0661-\u0662",
    ],
)
def test_a_range_that_makes_no_sense_is_passed_over(server: LayerServer, asked: str) -> None:
    status, _, body = get(server, "seg/10_10_10/0-64", f"Range: {asked}")
    assert (status, body) == (200, BODY)


@given(st.integers(0, 400), st.integers(0, 400) | st.none(), st.integers(0, 300))
def test_ranges_are_those_of_a_slice(first: int, last: int | None, size: int) -> None:
    header = f"bytes={first}-{'' if last is None else last}"
    actual = byte_range(header, size)
    if last is not None and last < first:
        assert actual is None
        return
    data = bytes(n % 251 for n in range(size))
    wanted = data[first:] if last is None else data[first : last + 1]
    assert actual is not None
    assert data[slice(*actual)] == wanted if actual[0] < actual[1] else wanted == b""


def test_options_allow_ranges_from_elsewhere(server: LayerServer) -> None:
    preflight = ("Origin: http://else.where", "Access-Control-Request-Headers: range")
    status, headers, body = get(server, "seg/info", *preflight, method="OPTIONS")
    assert (status, body) == (204, b"")
    assert headers["access-control-allow-origin"] == "*"
    assert "GET" in headers["access-control-allow-methods"]
    assert headers["access-control-allow-headers"].lower() == "range"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_is_written(server: LayerServer, tree: Path, method: str) -> None:
    status, headers, _ = get(server, "seg/info", "Content-Length: 0", method=method)
    assert (status, headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert (tree / "info").read_bytes() == b"{}"


@pytest.mark.parametrize(
    "key",
    [
        "seg/../pipeline.yaml",
        "seg/../../secret",
        "seg/10_10_10/../../pipeline.yaml",
        "seg/%2e%2e/pipeline.yaml",
        "seg/%2E%2E/%2E%2E/secret",
        "seg/..%2fpipeline.yaml",
        "seg/%2e%2e%2fpipeline.yaml",
        "seg/%252e%252e/pipeline.yaml",
        "seg/..%5cpipeline.yaml",
        "seg/..\\pipeline.yaml",
        "seg//etc/passwd",
        "seg/%2fetc%2fpasswd",
        "seg/%2fetc/passwd",
        "seg/link",
        "seg/inner",
        "seg/out/secret",
        "seg/out/run/pipeline.yaml",
        "seg/pipe",
        "seg/info%00",
        "seg/info%00.png",
        "seg/%00",
        "seg/info%0d%0aX-Made:%20up",
        "seg/%c0%ae%c0%ae/pipeline.yaml",
        "seg/%ff",
        "seg/..;/pipeline.yaml",
        "seg/./info",
        "seg/info/",
        "seg/info/x",
        "seg/",
        "seg",
        "",
        "seg/10_10_10",
        "seg/10_10_10/",
        "segments/info",
        "../segments/info",
        "pipeline.yaml",
        "seg/" + "a" * 5000,
        "seg/" + "a/" * 3000 + "b",
        "other/info",
        "made/../seg/info",
        "made/STATE.JSON",
    ],
)
def test_nothing_else_is_given(server: LayerServer, key: str) -> None:
    status, headers, body = get(server, key)
    assert (status, body) == (404, b"")
    assert "x-made" not in headers


@pytest.mark.parametrize("token", ["", "x", "..", "%2e%2e", "seg"])
def test_without_the_token_nothing_is_given(server: LayerServer, token: str) -> None:
    assert get(server, "seg/info")[0] == 200
    assert get(server, "seg/info", token=token)[0] == 404
    assert get(server, "seg/info", token=server.token[:-1])[0] == 404
    assert get(server, "seg/info", token=server.token + "x")[0] == 404


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET //etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET http://127.0.0.1/etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET file:///etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET ../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ],
)
def test_absolute_paths_lead_nowhere(server: LayerServer, request_: bytes) -> None:
    status, _, body = ask(server, request_)
    assert (status, body) == (404, b"")


@pytest.mark.parametrize(
    "request_",
    [
        b"BREW /pot HTTP/1.1\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_and_the_server_goes_on(
    server: LayerServer, request_: bytes
) -> None:
    status, _, body = ask(server, request_)
    assert 400 <= status < 600
    assert body == b""
    assert get(server, "seg/info")[0] == 200


def test_a_body_is_not_taken_for_the_next_request(server: LayerServer) -> None:
    inner = f"GET /{server.token}/seg/info HTTP/1.1\r\nHost: x\r\n\r\n"
    outer = (
        f"GET /{server.token}/none/x HTTP/1.1\r\nHost: x\r\nContent-Length: {len(inner)}\r\n\r\n"
    )
    _, _, rest = ask(server, (outer + inner).encode())
    assert rest == b""
    assert {status for status, _ in server.answered} == {404}


def test_a_connection_is_used_again(server: LayerServer) -> None:
    one = f"GET /{server.token}/seg/info HTTP/1.1\r\nHost: x\r\n\r\n"
    _, _, rest = ask(server, (one * 3).encode())
    assert rest.count(b"HTTP/1.1 200") == 2  # the first one's head was taken off
    assert server.answered == {(200, "seg/info"): 3}


def test_a_folder_swapped_for_a_link_leads_nowhere(server: LayerServer, tree: Path) -> None:
    assert get(server, "seg/10_10_10/0-64")[0] == 200
    for name in (tree / "10_10_10").iterdir():
        name.unlink()
    (tree / "10_10_10").rmdir()
    (tree / "10_10_10").symlink_to(tree.parents[1] / "segments")
    assert get(server, "seg/10_10_10/info")[0] == 404


def test_a_layer_swapped_for_a_link_leads_nowhere(server: LayerServer, tree: Path) -> None:
    tree.rename(tree.with_name("away"))
    tree.symlink_to(tree.parents[1] / "segments")
    assert get(server, "seg/info")[0] == 404


def test_open_files_are_closed_again(server: LayerServer) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for key in ("seg/info", "seg/none", "seg/pipe", "seg/out/secret", "seg/10_10_10") * 5:
        get(server, key)
    for _ in range(2000):  # the server's threads close behind the answer
        after = len(os.listdir("/proc/self/fd"))
        if after <= before + 1:
            break
        time.sleep(0.05)
    assert after <= before + 1


def test_it_listens_on_this_machine_alone(server: LayerServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_a_port_in_use_is_reported(server: LayerServer) -> None:
    with pytest.raises(PlanError, match="Address already in use; choose another --port"):
        LayerServer({}, port=server.server_address[1])


@given(st.text(max_size=60))
def test_the_parts_of_any_path_are_plain_names(text: str) -> None:
    for part in parts_of("/" + text):
        assert part not in ("", ".", "..")
        assert not set(part) & set("/\\\0\r\n")
