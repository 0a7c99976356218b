"""Training of the quasi-dense tracker on volumes with labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from volflow.checkpoints.section_header import SectionHeader
from volflow.models.detector.inference import BoxDetector
from volflow.models.detector.public_weights import load_public_weights
from volflow.models.detector.quasidense import PRESETS, QuasiDense
from volflow.models.detector.resnet import SHAPES
from volflow.models.detector.roi_align import anchor_scale
from volflow.models.section_checkpoint import (
    build_section_network,
    export_section_checkpoint,
    save_section_checkpoint,
)
from volflow.train.config.tracker import TrackerTraining, load_tracker
from volflow.train.data.samples import Source
from volflow.train.data.sources import SourceRequirements, open_source, spec_problems
from volflow.train.kinds import Kind
from volflow.train.loop import Report, Schedule, prepare, run_training
from volflow.train.state import State
from volflow.train.tracker.objective import tracker_losses
from volflow.train.tracker.objects import objects_of, side_quantiles
from volflow.train.tracker.pairs import Pairs, draw_pairs
from volflow.train.tracker.picture import draw_boxes
from volflow.train.tracker.validation import TrackerScores, mean_error, score_tracker

EXAMINED = 8  # sections of each source whose objects set the size of anchors


def train_tracker(training: TrackerTraining, report: Report) -> Path:
    """Train to the last step, resuming from the folder `out` where it holds a state.

    Parameters
    ----------
    training : TrackerTraining
    report : callable
        Given a dict at every validation and every few steps: step, loss, seconds per step, scores.

    Returns
    -------
    Path
        The best checkpoint by validation: `best.safetensors` in the folder `out`.
    """
    device, folder = prepare(training.device, training.threads, training.out)
    required = SourceRequirements(training.voxel_size_nm)
    rule = training.normalisation
    sources = [open_source(spec, rule, required) for spec in training.sources]
    held_out = [open_source(spec, rule, required) for spec in training.validation.sources]
    header = header_of(training, sources)
    network = initial_network(training, header).to(device)
    task = TrackerTask(training, header, sources, held_out, folder, device)
    state = State(network, optimizer_of(training, network))
    run_training(task, state, folder, device, report)
    return folder / "best.safetensors"


def header_of(training: TrackerTraining, sources: list[Source]) -> SectionHeader:
    """The header of the checkpoints that a training will write."""
    scale = training.network.anchor_scale or scale_of(training, sources)
    preset = PRESETS[training.network.preset]
    arguments = {**preset, **training.network.arguments(), "anchor_scale": scale}
    return SectionHeader(
        network="quasidense",
        arguments=arguments,
        voxel_size_nm=training.voxel_size_nm,
        normalisation=training.normalisation,
        card=training.card,
    )


def scale_of(training: TrackerTraining, sources: list[Source]) -> float:
    """The side of anchors, in strides, that suits the objects of all sources alike."""
    strides = SHAPES[str(PRESETS[training.network.preset]["backbone"])].strides
    quantiles = []
    for source in sources:
        places = np.linspace(0, len(source.truth) - 1, EXAMINED).round().astype(int)
        boxes = [objects_of(source.truth[z], training.least_area).boxes for z in np.unique(places)]
        quantiles.append(side_quantiles(np.concatenate(boxes)))
    small, large = np.exp(np.log(quantiles).mean(0))
    return round(anchor_scale((float(small), float(large)), (*strides, 2 * strides[-1])), 2)


def initial_network(training: TrackerTraining, header: SectionHeader) -> nn.Module:
    """The network before its first step.

    Raises
    ------
    PlanError
        If the weights to start from are missing or do not fit.
    """
    torch.manual_seed(training.seed)
    network = build_section_network(header)
    if training.start_backbone is not None:
        load_public_weights(training.start_backbone, network)
    return network


def optimizer_of(training: TrackerTraining, network: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that a training file asks for."""
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), rate, momentum=0.9, weight_decay=decay)
    return torch.optim.AdamW(network.parameters(), rate, weight_decay=decay)


@dataclass(frozen=True)
class TrackerTask:
    """A training of the tracker as the training loop sees it."""

    training: TrackerTraining
    header: SectionHeader
    sources: list[Source]
    held_out: list[Source]
    folder: Path
    device: str = "cpu"

    @property
    def schedule(self) -> Schedule:
        """Number of steps, and how often to validate and to save."""
        return Schedule.of(self.training, self.training.validation.every, max_gradient_norm=10.0)

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step."""
        return self.training.rate(step)

    def draw(self, step: int) -> Pairs:
        """The pairs of a step."""
        return draw_pairs(self.sources, self.training, step)

    def loss(self, network: nn.Module, crops: Pairs, step: int) -> Tensor:
        """The sum of the losses of proposals, boxes and embeddings."""
        assert isinstance(network, QuasiDense)
        rng = np.random.default_rng([self.training.seed, step, self.training.batch])
        return torch.stack(tracker_losses(network, crops, self.training.samples, rng)).sum()

    def validate(self, state: State) -> dict[str, Any]:
        """Score the averaged weights on the held-out sources; save them if they are the best."""
        training = self.training
        network = build_section_network(self.header)
        network.load_state_dict(state.average)
        assert isinstance(network, QuasiDense)
        detector = BoxDetector(network.eval(), self.device)
        least = training.least_area, training.validation.score
        scored = {source.name: score_tracker(detector, source, *least) for source in self.held_out}
        row: dict[str, Any] = {"step": state.step, "loss": state.loss}
        row["score"] = mean_error(list(scored.values()))
        row["scores"] = {
            f"{name}.{part}": 1 - getattr(scores, part).f1
            for name, scores in scored.items()
            for part in TrackerScores._fields
        }
        row["more"] = {name: details(scores) for name, scores in scored.items()}
        if row["score"] < state.best:
            state.best = row["score"]
            save_section_checkpoint(self.folder / "best.safetensors", state.average, self.header)
            draw_boxes(self.folder / "best.png", self.held_out, detector, *least)
        save_section_checkpoint(self.folder / "last.safetensors", state.average, self.header)
        return row


def details(scores: TrackerScores) -> dict[str, float]:
    """Recall and precision of boxes and links, by name."""
    return {
        f"{part}_{kind}": getattr(getattr(scores, part), kind)
        for part in TrackerScores._fields
        for kind in ("recall", "precision")
    }


def tracker_problems(training: TrackerTraining) -> list[str]:
    """The problems of the volumes of a training, one sentence each; no voxels are read."""
    least = (training.scope + 1, *training.crop)
    specs = [(f"sources[{n}]", spec, least) for n, spec in enumerate(training.sources)]
    specs += [
        (f"validation.sources[{n}]", spec, (1, 1, 1))
        for n, spec in enumerate(training.validation.sources)
    ]
    return spec_problems(specs, training.voxel_size_nm)


def check_start(training: TrackerTraining) -> None:
    """Raise a PlanError if the weights to start from are missing or do not fit."""
    scaled = training.network.model_copy(update={"anchor_scale": 1.0})
    small = training.model_copy(update={"network": scaled})
    initial_network(small, header_of(small, []))


def export_half(best: Path, target: str) -> None:
    """Copy a checkpoint in half precision."""
    export_section_checkpoint(best, target, torch.float16)


KIND = Kind(
    TrackerTraining,
    load_tracker,
    tracker_problems,
    check_start,
    train_tracker,
    export_half,
)
