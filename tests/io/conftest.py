"""Places to store things: this disk, memory, and real object stores on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.io.faulty_proxy import FaultyProxy
from tests.io.servers import BUCKET, gcs_server, s3_server
from volflow.io import address

STORES = ("file", "s3", "gs")


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def gcs_endpoint() -> Iterator[str]:
    with gcs_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_endpoint, monkeypatch) -> Iterator[str]:
    """The address of a bucket on S3."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    address.open_kvstore.cache_clear()
    yield f"s3://{BUCKET}"
    address.open_kvstore.cache_clear()


@pytest.fixture
def gs(gcs_endpoint, monkeypatch) -> Iterator[str]:
    """The address of a bucket on Google Cloud Storage."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_endpoint)
    monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", gcs_endpoint)
    monkeypatch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "emulator")
    address.open_kvstore.cache_clear()
    yield f"gs://{BUCKET}"
    address.open_kvstore.cache_clear()


@pytest.fixture(params=STORES)
def anywhere(request, tmp_path) -> str:
    """An empty place on each kind of store."""
    return place_on(request, request.param, tmp_path)


def place_on(request: pytest.FixtureRequest, store: str, folder: Path) -> str:
    """An empty place on a store, of the test's own."""
    if store == "file":
        return str(folder / "place")
    name = re.sub(r"\W+", "_", f"{request.node.path.stem}_{request.node.name}")
    return f"{request.getfixturevalue(store)}/{name}"


@pytest.fixture
def proxied(s3, s3_endpoint, monkeypatch):
    """A proxy before S3 that spoils chosen answers, and the address of a bucket behind it."""
    with FaultyProxy(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        address.open_kvstore.cache_clear()
        yield proxy, s3
