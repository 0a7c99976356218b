"""gcp-storage-emulator and what it lacks: generations, preconditions, lists from and to a key.

It answers requests one at a time, so that asking for a generation and writing is one act, as it is
in the real store.
https://cloud.google.com/storage/docs/request-preconditions
"""

from __future__ import annotations

import json
import sys
from http import HTTPStatus
from http.server import HTTPServer
from typing import Any

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects


def generation(storage: Any, bucket: str, name: str) -> str:
    """The generation of an object; 0 where there is none."""
    try:
        return str(storage.get_file_obj(bucket, name)["generation"])
    except NotFound:
        return "0"


def refuses(request: Any, response: Any, storage: Any, name: str) -> bool:
    """Answer 412 or 304 where the object is not of the generation that the request wants."""
    now = generation(storage, request.params["bucket_name"], name)
    wanted, other = (
        request.query.get(key, [None])[0] for key in ("ifGenerationMatch", "ifGenerationNotMatch")
    )
    if wanted is not None and wanted != now:
        response.status = HTTPStatus.PRECONDITION_FAILED
    elif other is not None and other == now:
        response.status = HTTPStatus.NOT_MODIFIED
    else:
        return False
    return True


def insert(request: Any, response: Any, storage: Any) -> None:
    request._data = request.data or b""  # an object may be empty
    if not refuses(request, response, storage, request.query["name"][0]):
        objects.insert(request, response, storage)


def delete(request: Any, response: Any, storage: Any) -> None:
    name = request.params["object_id"]
    if not refuses(request, response, storage, name):
        objects.delete(request, response, storage)


def get(request: Any, response: Any, storage: Any) -> None:
    bucket, name = request.params["bucket_name"], request.params["object_id"]
    if refuses(request, response, storage, name):
        return
    now, headers = generation(storage, bucket, name), request._request_handler.headers
    size = int(storage.get_file_obj(bucket, name)["size"]) if now != "0" else 0
    first, _, last = (headers.get("range") or "").removeprefix("bytes=").partition("-")
    if last and not first:  # the last so many bytes
        first = str(max(0, size - int(last)))
        headers.replace_header("range", f"bytes={first}-")
    objects.get(request, response, storage)
    response["x-goog-generation"] = now
    if first and response.status == HTTPStatus.PARTIAL_CONTENT and int(first) >= size:
        response.status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        response["Content-Range"] = f"bytes */{size}"


def ls(request: Any, response: Any, storage: Any) -> None:
    objects.ls(request, response, storage)
    if response.status == HTTPStatus.NOT_FOUND:
        return response.json({"error": {"code": 404, "message": "No such bucket"}})
    start, end = (request.query.get(key, [""])[0] for key in ("startOffset", "endOffset"))
    actual = json.loads(response._content)
    items = [item for item in actual["items"] if start <= item["name"] < (end or "\U0010ffff")]
    return response.json({**actual, "items": sorted(items, key=lambda item: str(item["name"]))})


def main() -> None:
    mine = {
        objects.insert: insert, objects.delete: delete, objects.get: get, objects.ls: ls,
    }  # fmt: skip
    server.HANDLERS = tuple(
        (pattern, {method: mine.get(handler, handler) for method, handler in handlers.items()})
        for pattern, handlers in server.HANDLERS
    )
    HTTPServer.request_queue_size = 128  # with five, others wait a second before they knock again
    server.RequestHandler.wbufsize = -1  # an answer is sent as a whole, not held back for its end
    # The kernel chooses the port, which is printed; it ends when its input does.
    with server.create_server(
        "127.0.0.1", 0, in_memory=True, default_bucket=sys.argv[1]
    ) as created:
        print(created._api._httpd.server_port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
