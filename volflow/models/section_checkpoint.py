"""Checkpoints of networks that are applied to single sections; loading runs no code."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from volflow.checkpoints.safetensors_file import sha256
from volflow.checkpoints.section_header import KEY, SectionHeader, read_section_header
from volflow.errors import PlanError, StorageError
from volflow.models.detector.quasidense import QuasiDense
from volflow.models.iicats.network import IICats
from volflow.models.tensor_file import write_tensors

SECTION_NETWORKS: dict[str, type[nn.Module]] = {"quasidense": QuasiDense, "iicats": IICats}
"""The networks that a checkpoint may name."""


def save_section_checkpoint(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    header: SectionHeader,
    dtype: torch.dtype | None = None,
) -> SectionHeader:
    """Write a checkpoint atomically; return the header as written.

    Parameters
    ----------
    path : path
    tensors : mapping of str to tensor
        `state_dict()` of the network that the header describes.
    header : SectionHeader
        Its `weights_sha256` is filled in.
    dtype : torch.dtype, optional
        Stored dtype of floating-point tensors; default: their own.
    """
    written = header

    def metadata(weights_sha256: str) -> dict[str, str]:
        nonlocal written
        written = header.model_copy(update={"weights_sha256": weights_sha256})
        return {KEY: written.model_dump_json()}

    write_tensors(path, tensors, metadata, dtype)
    return written


def load_section_checkpoint(path: str | os.PathLike[str]) -> tuple[nn.Module, SectionHeader]:
    """A network ready to predict, float32 and in eval mode, and its header.

    Raises
    ------
    StorageError
        If the file is missing, cut off or damaged, or has the tensors of another network.
    PlanError
        If the network cannot be built.
    """
    header = read_section_header(path)
    network = build_section_network(header)
    if sha256(path) != header.weights_sha256:
        raise StorageError(f"checkpoint {path}: damaged: its tensors have another hash")
    try:
        network.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError, OSError) as error:
        raise StorageError(
            f"checkpoint {path}: not the weights of {header.network}: {error}"
        ) from error
    return network.float().eval(), header


def export_section_checkpoint(
    source: str | os.PathLike[str], target: str | os.PathLike[str], dtype: torch.dtype
) -> SectionHeader:
    """Copy a checkpoint with its floating-point tensors stored as another dtype."""
    header = read_section_header(source)
    return save_section_checkpoint(target, load_file(source), header, dtype)


def build_section_network(header: SectionHeader) -> nn.Module:
    """The network that a header names, with random weights.

    Raises
    ------
    PlanError
        If there is no such network, or it does not accept the arguments.
    """
    if header.network not in SECTION_NETWORKS:
        raise PlanError(
            f"there is no network of sections '{header.network}' (known: "
            f"{', '.join(SECTION_NETWORKS)})"
        )
    try:
        return SECTION_NETWORKS[header.network](**header.arguments)
    except (TypeError, ValueError) as error:
        raise PlanError(f"network '{header.network}' with {header.arguments}: {error}") from error
