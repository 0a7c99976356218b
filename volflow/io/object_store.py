"""Object stores: endpoints, credentials, retries, and descriptions of their errors.

tensorstore retries after transient errors (status 429 or 5xx, a dropped connection, a response
that is late or cut short) with growing pauses, according to `RETRIES` alone. All other errors are
reported at once.
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
"""Enough for a short failure of the network; a missing store is reported within seconds."""

TIMEOUTS = {
    "TENSORSTORE_CURL_CONNECT_TIMEOUT_SECONDS": "5",
    "TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS": "15",
    "TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES": "1",
}
"""Environment variables of tensorstore, unless set: without them a silent store blocks forever."""

OPTIONS = {
    "s3": ("endpoint", "region", "profile", "anonymous"),
    "gs": ("project",),
}
"""Options after the `?` of an address; secrets are never among them, as addresses are stored."""

_CREDENTIALS_HINT = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or add ?profile=NAME",
    "gs": "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
}
_GOOGLE = "https://storage.googleapis.com"
_PROBE = 5.0  # seconds for the request whether a bucket exists
_YES = ("1", "yes", "true")


def bucket_spec(scheme: str, bucket: str, folder: str, options: Mapping[str, str]) -> Any:
    """The tensorstore specification of a folder (with its slash) in a bucket.

    Parameters
    ----------
    scheme : {"s3", "gs"}
    bucket, folder : str
    options : mapping of str
        See `OPTIONS`; the environment supplies the others.

    Raises
    ------
    StorageError
        If the environment names a file of credentials that does not exist.
    """
    if scheme == "gs":
        _find_emulator()
        _require_credentials()
        spec: dict[str, Any] = {"driver": "gcs", "bucket": bucket, "path": folder}
        if "project" in options:
            spec["gcs_user_project"] = {"project_id": options["project"]}
        return spec
    return {"driver": "s3", "bucket": bucket, "path": folder, **_s3_settings(options)}


def _s3_settings(options: Mapping[str, str]) -> dict[str, Any]:
    """Region, endpoint and credentials from options and environment, for tensorstore."""
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
    """Pass Google's variable for an emulator on to tensorstore, which reads another one."""
    host = os.environ.get("STORAGE_EMULATOR_HOST")
    if host:
        url = host if "://" in host else f"http://{host}"
        os.environ.setdefault("TENSORSTORE_GCS_HTTP_URL", url)
        os.environ.setdefault("GOOGLE_AUTH_TOKEN_FOR_TESTING", "emulator")


def _require_credentials() -> None:
    """Raise for a missing file of credentials, which tensorstore would ignore."""
    file = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if file and not os.path.isfile(file) and "GOOGLE_AUTH_TOKEN_FOR_TESTING" not in os.environ:
        raise StorageError(
            f"GOOGLE_APPLICATION_CREDENTIALS: expected a file; {file} does not exist"
        )


def lacks_bucket(location: str) -> bool:
    """Whether Google Cloud Storage answers that a bucket does not exist.

    tensorstore takes that answer for a missing object, or an empty list. Only the name is sent;
    any other answer, or none, counts as no.
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


def set_timeouts() -> None:
    """Limit how long a connection may be silent; before tensorstore's first request."""
    for name, seconds in TIMEOUTS.items():
        os.environ.setdefault(name, seconds)


def describe_store_error(error: BaseException, location: str) -> str:
    """A description of a store's error, with a hint what to do.

    Parameters
    ----------
    error : exception
        From tensorstore; details after its first sentence are omitted.
    location : str
        Of the store, as in `Address`.
    """
    status = re.search(r"http_response_code='(\d+)'", str(error))
    text = re.sub(r"\s*\[[\w-]+='.*", "", str(error), flags=re.DOTALL).strip()
    text += f", HTTP {status[1]}" if status else ""
    text = re.sub(
        r"^(ABORTED: )?All (\d+) retry attempts failed: ", r"failed after \2 retries: ", text
    )
    text = text.replace("Unknown, HTTP", "HTTP")
    scheme, _, rest = location.partition("://")
    if scheme not in _CREDENTIALS_HINT:
        return text
    if re.search(r"PERMISSION_DENIED|UNAUTHENTICATED|credentials file", text):
        return f"access denied ({text}); {_CREDENTIALS_HINT[scheme]}"
    if "NoSuchBucket" in text or (scheme == "gs" and text.startswith("NOT_FOUND: Not Found")):
        return f"no bucket '{rest.partition('/')[0]}' ({text})"
    if re.search(r"Failed to parse response|Malformed List response", text):
        return f"the response was cut short or is invalid ({text.splitlines()[0][:80]})"
    if re.search(r"Could not (connect|resolve)|Timeout was reached", text):
        return f"no response ({text})"
    return text
