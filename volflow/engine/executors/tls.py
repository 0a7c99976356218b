"""Certificates of a cluster: made for one run, or named by its profile.

An open Dask port runs anyone's code. So driver, scheduler and workers prove to each other that
they hold the same secret, and encrypt what they send.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from volflow.engine.executors.profile import Tls
from volflow.io.run.leftovers import KEYS

TOKEN = "token"


def security_of(tls: Tls) -> Any:
    """Security by certificates in files: a `distributed.Security`."""
    from distributed.security import Security

    ca, cert, key = (os.path.expanduser(file) for file in (tls.ca, tls.cert, tls.key))
    sides = {f"tls_{role}_cert": cert for role in ("client", "scheduler", "worker")}
    sides |= {f"tls_{role}_key": key for role in ("client", "scheduler", "worker")}
    return Security(require_encryption=True, tls_ca_file=ca, **sides)


@contextlib.contextmanager
def security_in(folder: Path, tls: Tls | None = None) -> Iterator[Any]:
    """Yield the security of a run: by the certificates given, or by one made now.

    Parameters
    ----------
    folder : Path
        A folder that driver and workers see. A folder in it holds the new certificate, in files
        that only this user may read, and a token that shows a worker that it sees the folder. It
        is removed at the end, unless another driver has made it its own by then; what a killed
        driver left there is removed at the start.
    tls : Tls, optional
    """
    keys = folder / KEYS
    shutil.rmtree(keys, ignore_errors=True)
    keys.mkdir(mode=0o700, parents=True)
    own = secrets.token_hex(8)
    (keys / TOKEN).write_text(own)
    try:
        yield security_of(tls or make_certificate(keys))
    finally:
        with contextlib.suppress(OSError):
            if (keys / TOKEN).read_text() == own:
                shutil.rmtree(keys, ignore_errors=True)


def make_certificate(keys: Path) -> Tls:
    """Write a new certificate into a folder that exists."""
    from distributed.security import Security

    new = Security.temporary()
    texts = {"ca": new.tls_ca_file, "cert": new.tls_worker_cert, "key": new.tls_worker_key}
    for name, text in texts.items():
        descriptor = os.open(keys / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    return certificate_in(keys)


def certificate_in(keys: Path) -> Tls:
    """Files of the certificate made for a run."""
    return Tls(**{name: str(keys / name) for name in ("ca", "cert", "key")})
