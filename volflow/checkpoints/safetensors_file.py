"""The metadata and the hash of a safetensors file, read without torch.

| length N, 8 bytes | JSON of N bytes: tensors, metadata | tensors |
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open

from volflow.errors import StorageError

PREFIX = "Error while deserializing header: "


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata of a safetensors file; tensors are not read, but their places are checked.

    Raises
    ------
    StorageError
        If there is no such file, it is cut off, or it is not a safetensors file.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata: dict[str, str] = file.metadata() or {}
            return metadata
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"checkpoint {path}: cannot be read: {reason}") from error
    except SafetensorError as error:
        reason = str(error).removeprefix(PREFIX)
        complete = "JSON" in reason or "UTF-8" in reason  # the header is whole, but not valid
        problem = "not a safetensors file" if complete else "cut off, or not a safetensors file"
        raise StorageError(f"checkpoint {path}: {problem}: {reason}") from error


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the tensors of a safetensors file as stored, as hexadecimal text."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
