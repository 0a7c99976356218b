"""Object stores: their endpoints, credentials and retries, and what their errors mean.

After a transient error (an answer of 429 or 5xx, a connection that is dropped, an answer that does
not come or ends early) tensorstore asks again, with growing pauses, as `RETRIES` says and nowhere
else. All other errors are told at once.
"""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from volflow.errors import StorageError

RETRIES = {"max_retries": 4, "initial_delay": "250ms", "max_delay": "2s"}
"""Enough for a hiccup of the network; a store that is not there is told within seconds."""

PATIENCE = {
    "TENSORSTORE_CURL_CONNECT_TIMEOUT_SECONDS": "5",
    "TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS": "15",
    "TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES": "1",
}
"""Environment of tensorstore, unless it is set: without it a silent store is waited for forever."""

OPTIONS = {
    "s3": ("endpoint", "region", "profile", "anonymous"),
    "gs": ("project",),
}
"""What may stand behind the `?` of an address; secrets never do, because addresses are written."""

_PUT_RIGHT = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ?profile=NAME of your AWS credentials",
    "gs": "`gcloud auth application-default login`, or GOOGLE_APPLICATION_CREDENTIALS",
}
_GOOGLE = "https://storage.googleapis.com"
_PROBE = 5.0  # seconds to ask whether a bucket is there
_YES = ("1", "yes", "true")


def bucket_spec(scheme: str, bucket: str, folder: str, options: Mapping[str, str]) -> Any:
    """Specify the tensorstore key-value store of a folder (with its slash) in a bucket.

    Parameters
    ----------
    scheme : {"s3", "gs"}
    bucket, folder : str
    options : mapping of str
        See `OPTIONS`; what they do not say is taken from the environment.

    Raises
    ------
    StorageError
        If the environment names a file of credentials that is not there.
    """
    if scheme == "gs":
        _find_emulator()
        _require_credentials()
        found: dict[str, Any] = {"driver": "gcs", "bucket": bucket, "path": folder}
        if "project" in options:
            found["gcs_user_project"] = {"project_id": options["project"]}
        return found
    return {"driver": "s3", "bucket": bucket, "path": folder, **_s3_settings(options)}


def _s3_settings(options: Mapping[str, str]) -> dict[str, Any]:
    """Region, endpoint and credentials, which tensorstore does not take from the environment."""
    settings: dict[str, Any] = {}
    get = os.environ.get
    endpoint = options.get("endpoint") or get("AWS_ENDPOINT_URL_S3") or get("AWS_ENDPOINT_URL")
    region = options.get("region") or get("AWS_REGION") or get("AWS_DEFAULT_REGION")
    if endpoint:
        settings["endpoint"] = endpoint
        region = region or "us-east-1"
    if region:
        settings["aws_region"] = region
    anonymous = options.get("anonymous", "" if "profile" in options else get("AWS_NO_SIGN_REQUEST"))
    if (anonymous or "").lower() in _YES:
        settings["aws_credentials"] = {"type": "anonymous"}
    elif "profile" in options:
        settings["aws_credentials"] = {"type": "profile", "profile": options["profile"]}
    elif "AWS_ACCESS_KEY_ID" in os.environ:
        settings["aws_credentials"] = {"type": "environment"}
    return settings


def _find_emulator() -> None:
    """Google's own variable for a server that imitates it; tensorstore reads another one."""
    host = os.environ.get("STORAGE_EMULATOR_HOST")
    if host:
        url = host if "://" in host else f"http://{host}"
        os.environ.setdefault("TENSORSTORE_GCS_HTTP_URL", url)
        os.environ.setdefault("GOOGLE_AUTH_TOKEN_FOR_TESTING", "emulator")


def _require_credentials() -> None:
    """Raise for a file that tensorstore would pass over, to be a stranger at the door then."""
    file = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if file and not os.path.isfile(file) and "GOOGLE_AUTH_TOKEN_FOR_TESTING" not in os.environ:
        raise StorageError(
            f"GOOGLE_APPLICATION_CREDENTIALS names {file}, and there is no such file"
        )


def lacks_bucket(location: str) -> bool:
    """Whether Google Cloud Storage says that there is no such bucket.

    tensorstore takes that answer for an object that is not there, and for a list of none. Nothing
    but the name is sent; any other answer, or none, is no.
    """
    bucket = urllib.parse.quote(location.removeprefix("gs://").partition("/")[0], safe="")
    server = os.environ.get("TENSORSTORE_GCS_HTTP_URL", _GOOGLE)
    try:
        urllib.request.urlopen(f"{server}/storage/v1/b/{bucket}", timeout=_PROBE).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code == 404
    except (OSError, ValueError):
        pass
    return False


def be_patient() -> None:
    """Bound how long a connection may be silent; before tensorstore's first request."""
    for name, seconds in PATIENCE.items():
        os.environ.setdefault(name, seconds)


def told(error: BaseException, location: str) -> str:
    """What went wrong with a store, in words, from what tensorstore says of it.

    Parameters
    ----------
    error : exception
        Of tensorstore; what it tells beyond its first sentence is left out.
    location : str
        Of the store, as `Address` has it.
    """
    status = re.search(r"http_response_code='(\d+)'", str(error))
    text = re.sub(r"\s*\[[\w-]+='.*", "", str(error), flags=re.DOTALL).strip()
    text += f", HTTP {status[1]}" if status else ""
    text = re.sub(
        r"^(ABORTED: )?All (\d+) retry attempts failed: ", r"asked again \2 times: ", text
    )
    text = text.replace("Unknown, HTTP", "HTTP")
    scheme, _, rest = location.partition("://")
    if scheme not in _PUT_RIGHT:
        return text
    if re.search(r"PERMISSION_DENIED|UNAUTHENTICATED|credentials file", text):
        return f"the store does not let us in ({text}); it is asked with {_PUT_RIGHT[scheme]}"
    if "NoSuchBucket" in text or (scheme == "gs" and text.startswith("NOT_FOUND: Not Found")):
        return f"there is no bucket '{rest.partition('/')[0]}' ({text})"
    if re.search(r"Failed to parse response|Malformed List response", text):
        return f"its answer came cut short, or makes no sense ({text.splitlines()[0][:80]})"
    if re.search(r"Could not (connect|resolve)|Timeout was reached", text):
        return f"nobody answers ({text})"
    return text
