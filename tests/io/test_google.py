"""An address that tensorstore takes for empty on Google Cloud Storage is an error when opened."""

import os
import re
import subprocess
import sys

import pytest

from tests.io.faulty_proxy import FaultyProxy
from volflow.config.pipeline import VolumeSpec
from volflow.errors import StorageError
from volflow.io import address
from volflow.io.address import CHUNKED
from volflow.io.store import Store
from volflow.io.volume import Volume

WAYS = ("", *(f"{name}://" for name in CHUNKED))


@pytest.mark.parametrize("way", WAYS)
def test_a_bucket_that_is_not_there_is_named_before_what_it_does_not_hold(gs, way):
    with pytest.raises(StorageError, match="no bucket 'none-such'"):
        Volume.open(VolumeSpec(path=f"{way}gs://none-such/em"))
    with pytest.raises(StorageError, match=r"does not exist|no volume there"):
        Volume.open(VolumeSpec(path=f"{way}{gs}/none"))


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("body", [b"", b'{"error": {"code": 403, "message": "no"}}'])
@pytest.mark.parametrize("way", WAYS)
def test_a_store_that_does_not_let_us_in_is_reported(
    gs, gcs_endpoint, monkeypatch, way, status, body
):
    with FaultyProxy(gcs_endpoint) as proxy:
        proxy.instead = {"GET ": (status, body)}
        monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", proxy.endpoint)
        address.open_kvstore.cache_clear()
        reported = "access denied .*gcloud auth application-default login"
        with pytest.raises(StorageError, match=reported):
            Volume.open(VolumeSpec(path=f"{way}{gs}/em"))


def test_credentials_that_are_not_there_are_reported(gs, monkeypatch, tmp_path):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.delenv("GOOGLE_AUTH_TOKEN_FOR_TESTING")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", f"{tmp_path}/none.json")
    reported = (
        rf"GOOGLE_APPLICATION_CREDENTIALS: expected a file; {tmp_path}/none.json does not exist"
    )
    for ask in (lambda: Store(gs), lambda: Volume.open(VolumeSpec(path=f"n5://{gs}/em"))):
        with pytest.raises(StorageError, match=reported):
            ask()


def test_credentials_that_google_cannot_use_are_reported(gcs_endpoint, tmp_path):
    """In a process of its own: tensorstore reads them once."""
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    bare = {name: text for name, text in os.environ.items() if "GOOGLE" not in name}
    own = {"TENSORSTORE_GCS_HTTP_URL": gcs_endpoint, "GOOGLE_APPLICATION_CREDENTIALS": str(broken)}
    script = "from volflow.io.store import Store; Store('gs://bucket/a').read('b')"
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, env=bare | own, capture_output=True, text=True)
    assert ended.returncode == 1
    reported = r"StorageError: gs://bucket/a.*: access denied .*JSON credentials file"
    assert re.search(reported, ended.stderr)
