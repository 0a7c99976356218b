"""Training of the few-shot segmenter: sequences followed, predictions fed back.

References
----------
Zhai et al., II-CATS, MIDL 2023: the loss over sequences, Lovász-Softmax. Types of support that are
left out at random, previous masks as an input, cross entropy and a single phase are ours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from volflow.checkpoints.find import bundled_networks
from volflow.checkpoints.section_header import SectionHeader
from volflow.config.problems import closest
from volflow.core.geometry import zyx
from volflow.errors import PlanError, StorageError
from volflow.models.iicats.follower import NetworkFollower
from volflow.models.iicats.network import IICats
from volflow.models.section_checkpoint import (
    build_section_network,
    export_section_checkpoint,
    load_section_checkpoint,
    save_section_checkpoint,
)
from volflow.train.config.sequences import SequenceTraining, load_sequences
from volflow.train.data.sources import spec_problems
from volflow.train.kinds import Kind
from volflow.train.loop import Report, Schedule, prepare, run_training
from volflow.train.sequences.damage import damaged
from volflow.train.sequences.draw import draw_sequence
from volflow.train.sequences.follow import Sections, boxes_of, first_logits, follow, mask_loss
from volflow.train.sequences.validation import (
    INTENSITY,
    Trial,
    copied,
    follow_alone,
    overlap_after,
    overlap_of_boxes,
    sections_of,
    segments_under,
    trial,
)
from volflow.train.sequences.volumes import FollowedVolume, open_volume
from volflow.train.state import State

BOX = "box."  # prefix of the parameters of the box extractor
JITTER = 2  # pixels by which the sides of boxes are moved at most


def train(training: SequenceTraining, report: Report) -> Path:
    """Train to the last step, resuming from the folder `out` where it holds a state.

    Parameters
    ----------
    training : SequenceTraining
    report : callable
        Given a dict at every validation and every few steps: step, loss, seconds per step, scores.

    Returns
    -------
    Path
        The best checkpoint by validation: `best.safetensors` in the folder `out`.
    """
    device, folder = prepare(training.device, training.threads, training.out)
    volumes = [open_volume(spec, training, folder) for spec in training.sources]
    rules = training.validation
    trials = [
        trial(open_volume(spec, training, folder), rules.objects, rules.least_area)
        for spec in rules.sources
    ]
    task = SequenceTask(training, volumes, trials, folder)
    task.write_baselines()
    run_training(task, initial_state(training, device), folder, device, report)
    return folder / "best.safetensors"


def initial_state(training: SequenceTraining, device: str = "cpu") -> State:
    """The state of a training before its first step."""
    torch.manual_seed(training.seed)
    network = initial_network(training).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    boxes = training.trained == "boxes"
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(BOX) == boxes)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return State(network, torch.optim.AdamW(parameters, training.learning_rate))


def jittered(boxes: Tensor, seed: int, step: int) -> Tensor:
    """Boxes (B, 4) whose sides are moved at random; a function of the seed and the step."""
    moved = np.random.default_rng([seed, step, 1]).integers(-JITTER, JITTER + 1, boxes.shape)
    return boxes + torch.from_numpy(moved).to(boxes.device)


def header_of(training: SequenceTraining) -> SectionHeader:
    """The header of the checkpoints that a training will write."""
    return SectionHeader(
        network="iicats",
        arguments=training.network.model_dump(mode="json"),
        voxel_size_nm=training.voxel_size_nm,
        normalisation=training.normalisation,
        card=training.card,
    )


def initial_network(training: SequenceTraining) -> IICats:
    """The network before its first step.

    Raises
    ------
    PlanError
        If the weights to start from are missing or do not fit.
    """
    network = build_section_network(header_of(training))
    assert isinstance(network, IICats)
    if training.start is not None:
        try:
            start, _ = load_section_checkpoint(training.start)
            network.load_state_dict(start.state_dict())
        except (StorageError, RuntimeError) as error:
            raise PlanError(f"start: {error}") from error
    return network


def sequence_problems(training: SequenceTraining) -> list[str]:
    """The problems of the volumes of a training, one sentence each; no voxels are read."""
    side, (depth, _) = max(training.sequence.sides), training.sequence.sections
    rules = training.validation
    specs = [(f"sources[{n}]", s, zyx((depth, side, side))) for n, s in enumerate(training.sources)]
    specs += [(f"validation.sources[{n}]", s, zyx((2, 1, 1))) for n, s in enumerate(rules.sources)]
    known = bundled_networks()
    unknown = [
        f"{name}: offline.{kind}: there is no bundled network '{network}'{closest(network, known)}"
        for name, spec, _ in specs
        for kind, network in spec.offline.items()
        if network not in known
    ]
    return [*unknown, *spec_problems(specs, training.voxel_size_nm)]


@dataclass(frozen=True)
class SequenceTask:
    """A training on sequences as the training loop sees it."""

    training: SequenceTraining
    volumes: list[FollowedVolume]
    trials: list[Trial]
    folder: Path

    @property
    def schedule(self) -> Schedule:
        """Number of steps, and how often to validate and to save."""
        return Schedule.of(self.training, self.training.validation.every, max_gradient_norm=1.0)

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step."""
        return self.training.rate(step)

    def draw(self, step: int) -> Sections:
        """The sequence of a step: a function of the seed and the step's number."""
        rng = np.random.default_rng([self.training.seed, step])
        sequence = draw_sequence(self.volumes, self.training.sequence, rng)
        return Sections.of(damaged(sequence, self.training.damage, rng))

    def loss(self, network: nn.Module, crops: Sections, step: int) -> Tensor:
        """The loss of a sequence."""
        assert isinstance(network, IICats)
        weight = self.training.cross_entropy
        if self.training.trained == "boxes":
            boxes = jittered(boxes_of(crops.truth[0]), self.training.seed, step)
            logits = first_logits(network, crops, boxes)
            return mask_loss(logits, crops.truth[:1], crops.known[:1], weight)
        return mask_loss(follow(network, crops), crops.truth[1:], crops.known[1:], weight)

    def validate(self, state: State) -> dict[str, Any]:
        """Follow the objects of held-out volumes; save the averaged weights if they are best."""
        network = IICats(**header_of(self.training).arguments)
        network.load_state_dict(state.average)
        follower = NetworkFollower(network.eval(), INTENSITY, threads=self.training.threads)
        if self.training.trained == "boxes":
            scores = {
                each.volume.source.name: round(overlap_of_boxes(follower, each), 4)
                for each in self.trials
            }
        else:
            scores = self.overlaps(
                lambda each: follow_alone(follower, sections_of(each.volume), each.truth[0])
            )
        score, header = 1 - float(np.mean(list(scores.values()))), header_of(self.training)
        row = {"step": state.step, "loss": state.loss, "score": score, "scores": scores}
        if score < state.best:
            state.best = score
            save_section_checkpoint(self.folder / "best.safetensors", state.average, header)
        save_section_checkpoint(self.folder / "last.safetensors", state.average, header)
        return row

    def overlaps(self, masks_of: Any) -> dict[str, float]:
        """Mean IoU of each source after each number of sections."""
        scores = {}
        for each in self.trials:
            masks = masks_of(each)
            for after, overlap in overlap_after(
                masks, each.truth, self.training.validation.after
            ).items():
                scores[f"{each.volume.source.name}.{after}"] = round(overlap, 4)
        return scores

    def write_baselines(self) -> None:
        """Write the scores of masks that are copied and of affinity segments: baselines.json."""
        rows = {"copied": self.overlaps(copied), "segments": self.overlaps(segments_under)}
        (self.folder / "baselines.json").write_text(json.dumps(rows, indent=1))


def export_half(best: Path, target: str) -> None:
    """Copy a checkpoint in half precision."""
    export_section_checkpoint(best, target, torch.float16)


def check_initial_weights(training: SequenceTraining) -> None:
    """Raise a PlanError if the weights to start from are missing or do not fit."""
    initial_network(training)


KIND = Kind(
    SequenceTraining, load_sequences, sequence_problems, check_initial_weights, train, export_half
)
