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

from volflow.models.iicats.follower import NetworkFollower
from volflow.models.iicats.network import IICats
from volflow.train.config.sequences import SequenceTraining
from volflow.train.loop import Report, Schedule, prepare, run_training
from volflow.train.sequences.damage import damaged
from volflow.train.sequences.draw import draw_sequence
from volflow.train.sequences.follow import Sections, follow, sequence_loss
from volflow.train.sequences.validation import (
    INTENSITY,
    Trial,
    copied,
    follow_alone,
    overlap_after,
    sections_of,
    segments_under,
    trial,
)
from volflow.train.sequences.volumes import FollowedVolume, open_volume
from volflow.train.state import State, save_tensors


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
    network = IICats(**arguments_of(training)).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return State(network, torch.optim.AdamW(network.parameters(), training.learning_rate))


def arguments_of(training: SequenceTraining) -> dict[str, Any]:
    """The keyword arguments of the network."""
    return training.network.model_dump(mode="json")


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
        training = self.training
        return Schedule(
            training.steps,
            training.validation.every,
            training.save_every,
            average_decay=training.average,
            max_gradient_norm=1.0,
        )

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
        return sequence_loss(follow(network, crops), crops, self.training.cross_entropy)

    def validate(self, state: State) -> dict[str, Any]:
        """Follow the objects of held-out volumes; save the averaged weights if they are best."""
        network = IICats(**arguments_of(self.training))
        network.load_state_dict(state.average)
        follower = NetworkFollower(network.eval(), INTENSITY, threads=self.training.threads)
        scores = self.overlaps(
            lambda each: follow_alone(follower, sections_of(each.volume), each.truth[0])
        )
        score = 1 - float(np.mean(list(scores.values())))
        row = {"step": state.step, "loss": state.loss, "score": score, "scores": scores}
        if score < state.best:
            state.best = score
            self.save("best", state)
        self.save("last", state)
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

    def save(self, name: str, state: State) -> None:
        """Write the averaged weights to a file of the folder."""
        description = json.dumps(arguments_of(self.training))
        save_tensors(self.folder / f"{name}.safetensors", state.average, {"iicats": description})
