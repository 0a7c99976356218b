r"""The training loop: steps, learning rate, checkpoints, resuming, curves and validation.

A training is a `Task`; the loop knows nothing else of it. The crops of a step are a function of
the seed and the step's number, and everything that changes from step to step is in the state
file, so on a CPU an interrupted training ends in the same bytes as an undisturbed one.

    draw(0)   draw(1)   draw(2)   ...          in a background thread
         \         \         \
          step 0    step 1    step 2   ...     validate and save every so many steps
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from volflow.models.devices import Device, device_of
from volflow.train.state import State, load_state, save_state
from volflow.train.tensorboard import curve_writer

STATE_FILE = "state.safetensors"
LOG_EVERY = 25  # steps between two reports of the loss

Report = Callable[[dict[str, Any]], None]
"""Receives a row of numbers: `step` and `loss`, and `seconds` per step or the scores."""


class Crops(Protocol):
    """The crops of a step, as tensors."""

    def to(self, device: str) -> Self:
        """The same crops on a device."""
        ...


C = TypeVar("C", bound=Crops)


@dataclass(frozen=True)
class Schedule:
    """Number of steps of a training, and how often the loop does what.

    Parameters
    ----------
    steps : int
        Number of steps in all.
    validate_every : int
        Steps between two validations; the last step is always validated.
    save_every : int
        Steps between two stored states from which training can be resumed.
    average_decay : float
        Decay of the moving average of the weights, in [0, 1); 0: no averaging.
    max_gradient_norm : float, optional
        Norm to which gradients are clipped; default: no clipping.
    """

    steps: int
    validate_every: int
    save_every: int
    average_decay: float = 0.0
    max_gradient_norm: float | None = None

    @classmethod
    def of(cls, training: Scheduled, validate_every: int, max_gradient_norm: float) -> Schedule:
        """The schedule that a training file describes."""
        return cls(
            training.steps,
            validate_every,
            training.save_every,
            training.average,
            max_gradient_norm,
        )


class Scheduled(Protocol):
    """The keys of a training file that a schedule is made of."""

    @property
    def steps(self) -> int:
        """Number of steps."""
        ...

    @property
    def save_every(self) -> int:
        """Steps between two stored states."""
        ...

    @property
    def average(self) -> float:
        """Decay of the moving average of the weights."""
        ...


class Task(Protocol[C]):
    """A training as the loop sees it."""

    @property
    def schedule(self) -> Schedule:
        """Number of steps, and how often to validate and to save."""
        ...

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step."""
        ...

    def draw(self, step: int) -> C:
        """Draw the crops of a step, on the CPU; called from a background thread."""
        ...

    def loss(self, network: nn.Module, crops: C, step: int) -> Tensor:
        """The loss of a network in training mode on the crops of a step, a scalar."""
        ...

    def validate(self, state: State) -> dict[str, Any]:
        """Score a state on held-out voxels, save its weights if they are the best, and report."""
        ...


def prepare(device: Device, threads: int, out: str) -> tuple[str, Path]:
    """Configure torch and create the folder of a training; return the device and the folder.

    Torch gets its threads and, on a CPU, deterministic algorithms.
    """
    chosen, folder = device_of(device), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(chosen == "cpu")  # on cuda some layers have none
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # slow
    return chosen, folder


def run_training(task: Task[C], state: State, folder: Path, device: str, report: Report) -> None:
    """Train from the state in a folder, or from a fresh one, to the last step.

    Parameters
    ----------
    task : Task
    state : State
        Before the first step; replaced by `state.safetensors` where the folder has one.
    folder : Path
        Exists; receives `state.safetensors`, `validation.jsonl` and `tensorboard/`.
    device : str
        Device of the network, `cpu` or `cuda`.
    report : callable
        Given a row at every validation and every `LOG_EVERY` steps.

    Raises
    ------
    StorageError
        If the stored state is damaged or belongs to another training.
    """
    schedule, state_file = task.schedule, folder / STATE_FILE
    if state_file.exists():
        load_state(state_file, state)
    write_curves = curve_writer(folder / "tensorboard", state.step)

    def log(row: dict[str, Any]) -> None:
        write_curves({**row, "learning_rate": task.learning_rate(state.step - 1)})
        report(row)

    with ThreadPoolExecutor(1) as background:
        upcoming = background.submit(task.draw, state.step)
        while state.step < schedule.steps:
            start = time.monotonic()
            crops = upcoming.result().to(device)
            upcoming = background.submit(task.draw, state.step + 1)
            loss = optimise(task, state, crops)
            seconds = time.monotonic() - start
            state.smooth(loss)
            last = state.step == schedule.steps
            if state.step % LOG_EVERY == 0:
                log({"step": state.step, "loss": state.loss, "seconds": seconds})
            if state.step % schedule.validate_every == 0 or last:
                log(validate(task, state, folder))
            if state.step % schedule.save_every == 0 or last:
                save_state(state_file, state)


def optimise(task: Task[C], state: State, crops: C) -> float:
    """Make one step of the optimizer; return its loss."""
    schedule = task.schedule
    for group in state.optimizer.param_groups:
        group["lr"] = task.learning_rate(state.step)
    state.network.train()
    loss = task.loss(state.network, crops, state.step)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if schedule.max_gradient_norm is not None:
        nn.utils.clip_grad_norm_(state.network.parameters(), schedule.max_gradient_norm)
    state.optimizer.step()
    state.step += 1
    state.average_weights(schedule.average_decay)
    return float(loss.detach())


def validate(task: Task[C], state: State, folder: Path) -> dict[str, Any]:
    """Validate a state and append the scores to `validation.jsonl`."""
    row = task.validate(state)
    with (folder / "validation.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    return {**row, "best": state.best}
