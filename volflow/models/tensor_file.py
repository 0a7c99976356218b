"""Writing of a safetensors file whose metadata contain the hash of its tensors."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from volflow.checkpoints.safetensors_file import sha256


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Callable[[str], dict[str, str]],
    dtype: torch.dtype | None = None,
) -> None:
    """Write tensors atomically.

    Parameters
    ----------
    path : path
    tensors : mapping of str to tensor
    metadata : callable
        Given the SHA-256 of the tensors as stored, the metadata of the file.
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
        final = metadata(sha256(temporary))
        temporary.write_bytes(save(stored, final))
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)
