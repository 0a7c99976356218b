"""Tensors with a header in a safetensors file: the header has the hash of the tensors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from volflow.checkpoints.header import Header
from volflow.checkpoints.safetensors_file import sha256
from volflow.checkpoints.section_header import SectionHeader
from volflow.errors import StorageError

AnyHeader = TypeVar("AnyHeader", Header, SectionHeader)


def write_checkpoint(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    header: AnyHeader,
    key: str,
    dtype: torch.dtype | None = None,
) -> AnyHeader:
    """Write a checkpoint atomically; return the header as written.

    Parameters
    ----------
    path : path
    tensors : mapping of str to tensor
        `state_dict()` of the network that the header describes.
    header : Header or SectionHeader
        Its `weights_sha256` is filled in.
    key : str
        Name of the header in the metadata of the file.
    dtype : torch.dtype, optional
        Stored dtype of floating-point tensors; default: their own. Integers are unchanged.
    """
    stored = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for name, tensor in tensors.items()
    }
    place = Path(path)
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        temporary.write_bytes(save(stored))
        written = header.model_copy(update={"weights_sha256": sha256(temporary)})
        temporary.write_bytes(save(stored, {key: written.model_dump_json()}))
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)
    return written


def require_intact(path: str | os.PathLike[str], weights_sha256: str) -> None:
    """Raise a StorageError if the tensors of a file have another hash than its header names."""
    if sha256(path) != weights_sha256:
        raise StorageError(f"checkpoint {path}: damaged: its tensors have another hash")


def load_weights(network: nn.Module, path: str | os.PathLike[str], name: str) -> None:
    """Give a network the tensors of a file.

    Raises
    ------
    StorageError
        If the file cannot be read, or has the tensors of another network than `name`.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise StorageError(f"checkpoint {path}: {error}") from error
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise StorageError(f"checkpoint {path}: not the weights of {name}: {error}") from error
