"""Checkpoints: safetensors files whose metadata describe the network; loading runs no code.

A file may name only networks of this package. A network of the user's own is built where the
pipeline, not the file, names it.
"""

from __future__ import annotations

import importlib
import os

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from volflow.checkpoints.header import KEY, Header, read_header
from volflow.checkpoints.safetensors_file import read_metadata
from volflow.errors import PlanError
from volflow.models.mnet import MNet
from volflow.models.resunet3d import ResUNet3D
from volflow.models.tensor_file import load_weights, require_intact, write_checkpoint

NETWORKS: dict[str, type[nn.Module]] = {"resunet3d": ResUNet3D, "mnet": MNet}
"""The networks that a checkpoint may name."""


def save_checkpoint(
    path: str | os.PathLike[str],
    tensors: dict[str, Tensor],
    header: Header,
    dtype: torch.dtype | None = None,
) -> Header:
    """Write a checkpoint, see `write_checkpoint`."""
    return write_checkpoint(path, tensors, header, KEY, dtype)


def load_checkpoint(
    path: str | os.PathLike[str], declared: Header | None = None
) -> tuple[nn.Module, Header]:
    """A network ready to predict: float32, eval mode, BatchNorm folded into convolutions.

    Parameters
    ----------
    path : path
        A safetensors file.
    declared : Header, optional
        Header of a network of the user's own; the file's header, if any, is ignored.

    Raises
    ------
    StorageError
        If the file is missing, cut off or damaged, or has the tensors of another network.
    PlanError
        If the network cannot be built.
    """
    if declared is None:
        header = read_header(path)
        if not header.registered:
            raise PlanError(
                f"checkpoint {path} names the network '{header.network}', which is not volflow's; "
                "a file may not choose the code to run: declare the network in the pipeline"
            )
        require_intact(path, header.weights_sha256)
    else:
        header = declared
        read_metadata(path)
    network = build(header)
    load_weights(network, path, header.network)
    return fold_batchnorm(network.float().eval()), header


def export_checkpoint(
    source: str | os.PathLike[str], target: str | os.PathLike[str], dtype: torch.dtype
) -> Header:
    """Copy a checkpoint with its floating-point tensors stored as another dtype."""
    return save_checkpoint(target, load_file(source), read_header(source), dtype)


def build(header: Header) -> nn.Module:
    """The network that a header names, with random weights.

    Raises
    ------
    PlanError
        If there is no such network, it cannot be imported, is not a network, or does not accept
        the arguments.
    """
    module, _, name = header.network.partition(":")
    try:
        if header.registered:
            network = NETWORKS[header.network]
        else:
            network = getattr(importlib.import_module(module), name)
    except KeyError:
        raise PlanError(
            f"there is no network '{header.network}' (known: {', '.join(NETWORKS)}; your own: "
            "module:Class)"
        ) from None
    except (ImportError, AttributeError) as error:
        raise PlanError(f"network '{header.network}' cannot be imported: {error}") from error
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise PlanError(f"'{header.network}' is not a torch.nn.Module")
    try:
        return network(**header.arguments)
    except (TypeError, ValueError) as error:
        raise PlanError(f"network '{header.network}' with {header.arguments}: {error}") from error


def fold_batchnorm(network: nn.Module) -> nn.Module:
    """The same network with every BatchNorm that follows a convolution folded into it, in place.

    Only within `nn.Sequential`, where the order of layers is certain. The result equals the network
    in eval mode up to rounding.

    Raises
    ------
    ValueError
        If the network is in training mode, in which BatchNorm does not normalise by constants.
    """
    if network.training:
        raise ValueError("expected a network in eval mode; got one in training mode")
    for module in list(network.modules()):
        if not isinstance(module, nn.Sequential):
            continue
        for n in range(len(module) - 1):
            convolution, norm = module[n], module[n + 1]
            if isinstance(convolution, nn.Conv3d) and isinstance(norm, nn.BatchNorm3d):
                module[n] = _folded(convolution, norm)
                module[n + 1] = nn.Identity()
    return network


def _folded(convolution: nn.Conv3d, norm: nn.BatchNorm3d) -> nn.Conv3d:
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a BatchNorm that tracks no statistics cannot be folded")
    with torch.no_grad():
        scale = torch.rsqrt(norm.running_var.double() + norm.eps)
        shift = -norm.running_mean.double() * scale
        if norm.affine:
            scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
        if convolution.bias is not None:
            shift = shift + convolution.bias * scale
        weight = convolution.weight * scale[:, None, None, None, None]
        convolution.weight = nn.Parameter(weight.to(convolution.weight.dtype), requires_grad=False)
        convolution.bias = nn.Parameter(shift.to(convolution.weight.dtype), requires_grad=False)
    return convolution
