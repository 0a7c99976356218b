"""Checkpoints of networks that are applied to single sections; loading runs no code."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from volflow.checkpoints.section_header import KEY, SectionHeader, read_section_header
from volflow.errors import PlanError
from volflow.models.detector.quasidense import QuasiDense
from volflow.models.iicats.network import IICats
from volflow.models.tensor_file import load_weights, require_intact, write_checkpoint

SECTION_NETWORKS: dict[str, type[nn.Module]] = {"quasidense": QuasiDense, "iicats": IICats}
"""The networks that a checkpoint may name."""


def save_section_checkpoint(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    header: SectionHeader,
    dtype: torch.dtype | None = None,
) -> SectionHeader:
    """Write a checkpoint, see `write_checkpoint`."""
    return write_checkpoint(path, tensors, header, KEY, dtype)


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
    require_intact(path, header.weights_sha256)
    load_weights(network, path, header.network)
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
