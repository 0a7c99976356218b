"""Who may speak to a cluster: certificates, made for one run or given by the profile.

An open Dask port runs anyone's code, so driver, scheduler and workers prove to one another that
they hold the same secret, and what they say is encrypted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from volflow.engine.executors.profile import Tls

KEYS = "volflow-keys"
TOKEN = "token"


def given(tls: Tls) -> Any:
    """The security of certificates in files: a `distributed.Security`."""
    from distributed.security import Security

    ca, cert, key = (os.path.expanduser(file) for file in (tls.ca, tls.cert, tls.key))
    sides = {f"tls_{role}_cert": cert for role in ("client", "scheduler", "worker")}
    sides |= {f"tls_{role}_key": key for role in ("client", "scheduler", "worker")}
    return Security(require_encryption=True, tls_ca_file=ca, **sides)


@contextlib.contextmanager
def security_in(folder: Path, tls: Tls | None = None) -> Iterator[Any]:
    """The security of a run: the certificates given, or one that is made now.

    Parameters
    ----------
    folder : Path
        A folder that driver and workers see. A folder below it holds the certificate made, in
        files that only this user may read, and a token by which a worker knows that it sees it.
        It goes at the end; what a killed driver left there goes at the beginning.
    tls : Tls, optional
    """
    keys = folder / KEYS
    shutil.rmtree(keys, ignore_errors=True)
    keys.mkdir(mode=0o700, parents=True)
    try:
        (keys / TOKEN).touch()
        yield given(tls or _made(keys))
    finally:
        shutil.rmtree(keys, ignore_errors=True)


def _made(keys: Path) -> Tls:
    from distributed.security import Security

    made = Security.temporary()
    texts = {"ca": made.tls_ca_file, "cert": made.tls_worker_cert, "key": made.tls_worker_key}
    for name, text in texts.items():
        descriptor = os.open(keys / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    return made_in(keys)


def made_in(keys: Path) -> Tls:
    """The files of the certificate that is made for a run."""
    return Tls(**{name: str(keys / name) for name in ("ca", "cert", "key")})
