"""Supervised training of a network with any heads, from any number of volumes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from volflow.checkpoints.header import Header
from volflow.errors import PlanError
from volflow.models.checkpoint import build, export_checkpoint, fold_batchnorm, save_checkpoint
from volflow.models.inference import Inference
from volflow.train.config.training import Training, load
from volflow.train.data.crops import Crops, batch
from volflow.train.data.samples import Source
from volflow.train.data.sources import SourceRequirements, open_source, source_problems
from volflow.train.heads import header_of
from volflow.train.initial_weights import load_encoder, load_initial_weights
from volflow.train.kinds import Kind
from volflow.train.loop import Report, Schedule, prepare, run_training
from volflow.train.objective import training_loss
from volflow.train.state import State
from volflow.train.validation.picture import draw_picture
from volflow.train.validation.scores import can_evaluate, evaluate, mean_score, validation_channels


def train(training: Training, report: Report) -> Path:
    """Train to the last step, resuming from the folder `out` where it holds a state.

    Parameters
    ----------
    training : Training
    report : callable
        Given a dict at every validation and every few steps: step, loss, seconds per step, scores.

    Returns
    -------
    Path
        The best checkpoint by validation: `best.safetensors` in the folder `out`.
    """
    device, folder = prepare(training.device, training.threads, training.out)
    header = header_of(training)
    network = initial_network(training, header, device)
    sources, held_out = _open_sources(training)
    optimizer = torch.optim.AdamW(
        network.parameters(), training.learning_rate, weight_decay=training.weight_decay
    )
    task = SupervisedTask(training, header, sources, held_out, folder)
    run_training(task, State(network, optimizer), folder, device, report)
    return folder / "best.safetensors"


def initial_network(training: Training, header: Header, device: str) -> nn.Module:
    """The network before its first step.

    Raises
    ------
    PlanError
        If the weights to start from are missing or do not fit.
    """
    torch.manual_seed(training.seed)
    network = load_initial_weights(training.start, build(header), header)
    network = load_encoder(training.start_encoder, network).to(device)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network


def _open_sources(training: Training) -> tuple[list[Source], list[Source]]:
    """The sources to train on, and those held out for validation."""
    required, rule = SourceRequirements.of(training), training.normalisation
    sources = [open_source(source, rule, required) for source in training.sources]
    held_out = [open_source(source, rule, required) for source in training.validation.held_out]
    for source in held_out:
        if not can_evaluate(source, training):
            raise PlanError(
                f"validation: source '{source.name}' has no truth for any head that is trained; "
                "expected labels or masks that can be scored"
            )
    return sources, held_out


@dataclass(frozen=True)
class SupervisedTask:
    """A supervised training as the training loop sees it."""

    training: Training
    header: Header
    sources: list[Source]
    held_out: list[Source]
    folder: Path

    @property
    def schedule(self) -> Schedule:
        """Number of steps, and how often to validate and to save."""
        return Schedule.of(self.training, self.training.validation.every, max_gradient_norm=1.0)

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step: linear warm-up, constant, linear decay to zero."""
        return self.training.learning_rate * relative_rate(step, self.training)

    def draw(self, step: int) -> Crops:
        """The crops of a step."""
        return batch(self.sources, self.training, step)

    def loss(self, network: nn.Module, crops: Crops, step: int) -> Tensor:
        """The weighted sum of the losses of all heads."""
        training = self.training
        if step >= (1 - training.freeze_norm_fraction) * training.steps:
            for module in network.modules():
                if isinstance(module, nn.BatchNorm3d):
                    module.eval()
        image = crops.image.to(memory_format=torch.channels_last_3d)
        bf16 = training.precision == "bf16"
        with torch.autocast(image.device.type, torch.bfloat16, enabled=bf16):
            logits = network(image)
        return training_loss(logits.float(), training, crops)

    def validate(self, state: State) -> dict[str, Any]:
        """Score the averaged weights on the held-out sources; save them if they are the best."""
        training, header = self.training, self.header
        network = build(header)
        network.load_state_dict(state.average)
        inference = Inference(
            fold_batchnorm(network.eval()),
            header,
            [
                channel
                for channels in validation_channels(training).values()
                for channel in channels
            ],
            training.device,
            training.precision,
            training.threads,
        )
        evaluations = [evaluate(inference, source, training) for source in self.held_out]
        scores = {
            f"{source.name}.{head}": error
            for source, evaluation in zip(self.held_out, evaluations, strict=True)
            for head, error in evaluation.scores.items()
        }
        row: dict[str, Any] = {"step": state.step, "loss": state.loss, "score": mean_score(scores)}
        row["scores"] = scores
        if len(self.held_out) == 1:
            row |= evaluations[0].more
        else:
            row["more"] = {
                source.name: evaluation.more
                for source, evaluation in zip(self.held_out, evaluations, strict=True)
            }
        if row["score"] < state.best:
            state.best = row["score"]
            save_checkpoint(self.folder / "best.safetensors", state.average, header)
            pictures = [evaluation.pictures for evaluation in evaluations]
            draw_picture(self.folder / "best.png", self.held_out, pictures)
        save_checkpoint(self.folder / "last.safetensors", state.average, header)
        return row


def relative_rate(step: int, training: Training) -> float:
    """The learning rate of a step as a fraction of its maximum: up, level, down to zero."""
    rising = (step + 1) / max(1, training.warmup)
    falling = (training.steps - step) / max(1.0, training.decay * training.steps)
    return min(1.0, rising, falling)


def check_initial_weights(training: Training) -> None:
    """Raise a PlanError if the weights to start from are missing or do not fit."""
    initial_network(training, header_of(training), "cpu")


def export_half(best: Path, target: str) -> None:
    """Copy a checkpoint in half precision."""
    export_checkpoint(best, target, torch.float16)


KIND = Kind(
    Training,
    load,
    source_problems,
    check_initial_weights,
    train,
    export_half,
)
