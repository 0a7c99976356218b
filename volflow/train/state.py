"""Everything that changes during a training, and the file that holds it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from volflow.checkpoints.safetensors_file import read_metadata
from volflow.errors import StorageError

SMOOTHING = 0.98  # of the reported loss


@dataclass
class State:
    """Network, optimizer, moving average of the weights, step number and best score."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    loss: float = math.nan
    best: float = math.inf
    average: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.average = {name: t.detach().clone() for name, t in self.network.state_dict().items()}

    def smooth(self, loss: float) -> None:
        """Update the reported loss, an exponential average, with the loss of a step."""
        if math.isnan(self.loss):
            self.loss = loss
        self.loss = SMOOTHING * self.loss + (1 - SMOOTHING) * loss

    def average_weights(self, decay: float) -> None:
        """Move the average towards the weights; faster early on, to forget the initial weights."""
        decay = min(decay, self.step / (self.step + 10))
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - decay)
            else:
                self.average[name].copy_(tensor)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file atomically."""
    temporary = path.with_name(f".{path.name}")
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(stored, temporary, metadata)
    temporary.replace(path)


def save_state(path: Path, state: State) -> None:
    """Write everything needed to resume, atomically."""
    tensors = {f"network.{name}": t for name, t in state.network.state_dict().items()}
    tensors |= {f"average.{name}": t for name, t in state.average.items()}
    for number, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": t for name, t in moments.items()}
    numbers = {"step": state.step, "loss": state.loss, "best": state.best}
    save_tensors(path, tensors, {"training": json.dumps(numbers)})


def load_state(path: Path, state: State) -> None:
    """Replace a state by the one stored in a file.

    Raises
    ------
    StorageError
        If the file is damaged or belongs to another training.
    """
    read_metadata(path)
    moments: dict[int, dict[str, Tensor]] = {}
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}}
    try:
        with safe_open(path, "pt") as file:
            numbers = json.loads(file.metadata()["training"])
            for key in file.keys():  # noqa: SIM118  # safe_open is no dict
                part, _, name = key.partition(".")
                tensor = file.get_tensor(key)
                if part == "optimizer":
                    number, _, moment = name.partition(".")
                    moments.setdefault(int(number), {})[moment] = tensor
                else:
                    parts[part][name] = tensor
        state.network.load_state_dict(parts["network"])
        groups = state.optimizer.state_dict()["param_groups"]
        state.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        for name, tensor in state.average.items():
            tensor.copy_(parts["average"][name])
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise StorageError(
            f"training state {path}: not of this training; train into an empty folder, or restore "
            f"the settings it was made with: {error}"
        ) from error
    state.step, state.loss, state.best = numbers["step"], numbers["loss"], numbers["best"]
