"""Small networks with random weights, as checkpoints, for tests of what is built on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from volflow.checkpoints.header import Header, Normalisation
from volflow.models.checkpoint import save_checkpoint
from volflow.models.resunet3d import ResUNet3D

OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 0, -4))
ARGUMENTS = {"in_channels": 1, "out_channels": 4, "widths": [4, 6], "pools": [[2, 2, 2]]}
FIXED = Normalisation(kind="fixed", low=0, high=255)


def header(**changes: Any) -> Header:
    """The header of the small network, whose halo is more than it sees."""
    printed: dict[str, Any] = {
        "network": "resunet3d",
        "arguments": ARGUMENTS,
        "out_channels": 4,
        "offsets": OFFSETS,
        "voxel_size_nm": (10, 10, 10),
        "receptive_field": (9, 9, 9),
        "halo": (10, 10, 10),
        "total_stride": (2, 2, 2),
        "input_tile": (36, 36, 36),
        "output_tile": (16, 16, 16),
        **changes,
    }
    return Header(**printed)


def network(seed: int = 0, arguments: dict[str, Any] | None = None) -> nn.Module:
    """A network that is not trained, but as lively as one that is."""
    generator = torch.Generator().manual_seed(seed)
    created = ResUNet3D(**(arguments or ARGUMENTS)).eval()
    with torch.no_grad():
        for name, tensor in created.state_dict().items():
            if not tensor.is_floating_point():
                continue
            drawn = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                drawn = drawn.abs() + 0.5
            elif tensor.dim() == 5:
                drawn *= (2 / tensor[0].numel()) ** 0.5
            tensor.copy_(drawn * (4 if name == "head.weight" else 1))
    return created


def checkpoint(path: Path, seed: int = 0, **changes: Any) -> Path:
    """A checkpoint of the small network; `changes` are those of its header."""
    printed = header(**changes)
    save_checkpoint(path, network(seed, printed.arguments).state_dict(), printed)
    return path
