"""Scores of a network on the held-out sources of a training: one for each head of each source.

Affinities are scored by the segmentation made of them, masks by their voxels. All scores are
errors: 0 is perfect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from volflow.models.inference import Inference
from volflow.segment.descriptors import descriptors
from volflow.train.config.training import CONTOUR, NEAREST, Training
from volflow.train.data.samples import UNKNOWN, Source
from volflow.train.heads import channels_of
from volflow.train.validation.evaluate import InMemoryPipeline, Score, best_score, predicted, score


@dataclass
class Evaluation:
    """Scores and pictures of a network on one source.

    Parameters
    ----------
    scores : dict of str to float
        The error of each head that the source has truth for, by name; the best checkpoint has the
        lowest mean.
    more : dict of str to float
        Further numbers for the log: threshold, parts of VI, F1 of each channel, ...
    pictures : dict of str to uint8 array, (C, Z, Y, X)
        The predictions of each head.
    """

    scores: dict[str, float] = field(default_factory=dict)
    more: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)


def evaluate(network: Inference, source: Source, training: Training) -> Evaluation:
    """Score a network with the channels of `validation_channels` on a source."""
    evaluation = Evaluation()
    prediction = predicted(network, source.image)
    first, mark = 0, 0
    for name, channels in validation_channels(training).items():
        head = prediction[first : first + len(channels)]
        first += len(channels)
        evaluation.pictures[name] = head
        if name == "affinity":
            _evaluate_affinity(evaluation, head, source, training)
        elif name == "lsd":
            if not source.flat and (source.truth != UNKNOWN).any():
                evaluation.more["lsd_rms"] = descriptor_error(head, source.truth, training)
        else:
            marks = source.marks[mark : mark + len(channels)]
            _evaluate_masks(evaluation, name, head, marks, training)
            mark += len(channels)
    return evaluation


def validation_channels(training: Training) -> dict[str, list[int]]:
    """The network's channels that are validated, by head; only the nearest affinities."""
    channels = {name: list(place) for name, place in channels_of(training).items()}
    if "affinity" in channels:
        near = [training.offsets.index(step) for step in NEAREST if step in training.offsets]
        channels["affinity"] = [channels["affinity"][place] for place in near]
    return {name: numbers for name, numbers in channels.items() if numbers}


def can_evaluate(source: Source, training: Training) -> bool:
    """Whether a source has truth for a head of a training."""
    needed = NEAREST[1:] if source.flat else NEAREST
    segmented = set(needed) <= set(training.offsets) and bool((source.truth > 0).any())
    return segmented or bool((source.marks == 1).any())


def mean_score(scores: dict[str, float]) -> float:
    """The mean of all scores, which is lowest for the best checkpoint."""
    return sum(scores.values()) / len(scores)


def best_flat_score(
    affinity: np.ndarray, truth: np.ndarray, thresholds: Sequence[float], min_size: int
) -> Score:
    """The mean score over sections that are segmented one by one, of the best threshold.

    Parameters
    ----------
    affinity : uint8, (3, Z, Y, X)
    truth : int32, (Z, Y, X)
        Sections without truth do not count.
    """
    sections = [z for z in range(len(truth)) if (truth[z] > 0).any()]
    pipelines = [InMemoryPipeline(np.ascontiguousarray(affinity[:, z : z + 1])) for z in sections]
    means = []
    for at in thresholds:
        each = [
            score(pipeline.segmentation(at, min_size), truth[z : z + 1], at)
            for z, pipeline in zip(sections, pipelines, strict=True)
        ]
        parts = np.mean([(s.vi_split, s.vi_merge, s.vi, s.arand) for s in each], axis=0)
        means.append(Score(at, *(float(part) for part in parts)))
    return min(means, key=lambda mean: mean.vi)


def best_f1(prediction: np.ndarray, mark: np.ndarray, thresholds: Sequence[float]) -> float | None:
    """The best F1 score, the harmonic mean of precision and recall, over thresholds.

    Parameters
    ----------
    prediction : uint8, (Z, Y, X)
        Probabilities; 255 is 1.
    mark : uint8, (Z, Y, X)
        1 yes, 0 no; other voxels do not count.

    Returns
    -------
    float or None
        None where no voxel is marked yes.
    """
    values, truth = prediction[mark <= 1], mark[mark <= 1] == 1
    if not truth.any():
        return None
    best = 0.0
    for threshold in thresholds:
        positive = values > threshold * 255
        shared, count = (int(np.count_nonzero(part)) for part in (positive & truth, positive))
        best = max(best, 2 * shared / (count + int(np.count_nonzero(truth))))
    return best


def descriptor_error(prediction: np.ndarray, truth: np.ndarray, training: Training) -> float:
    """Root mean squared error of descriptors, uint8 (10, Z, Y, X), where the truth is known."""
    shape = training.descriptors
    assert shape is not None
    expected = descriptors(truth, shape.sigma_nm, training.voxel_size_nm, step=shape.step)
    error = (prediction / np.float32(255) - expected)[:, truth != UNKNOWN]
    return float(np.sqrt(np.mean(error**2))) if error.size else 0.0


def _evaluate_affinity(
    evaluation: Evaluation, affinity: np.ndarray, source: Source, training: Training
) -> None:
    """Score affinities by the variation of information of the best threshold."""
    rules = training.validation
    if not (source.truth > 0).any():
        return
    if source.flat and set(NEAREST[1:]) <= set(training.offsets):
        lifted = np.concatenate([np.zeros_like(affinity[:1]), affinity[-2:]])
        best = best_flat_score(lifted, source.truth, rules.thresholds, rules.flat_min_size)
    elif not source.flat and len(affinity) == 3:
        best = best_score(affinity, source.truth, rules.thresholds, rules.min_size)
    else:
        return
    evaluation.scores["vi"] = best.vi
    evaluation.more |= asdict(best)


def _evaluate_masks(
    evaluation: Evaluation,
    name: str,
    prediction: np.ndarray,
    marks: np.ndarray,
    training: Training,
) -> None:
    """Score a head of masks by 1 - F1, averaged over its channels.

    Contours count only where there is no other channel.
    """
    names = training.masks[name].channels if name in training.masks else (name,)
    thresholds = training.validation.mask_thresholds
    each = {
        channel: best_f1(values, mark, thresholds)
        for channel, values, mark in zip(names, prediction, marks, strict=True)
    }
    known = {channel: f1 for channel, f1 in each.items() if f1 is not None}
    evaluation.more |= {f"f1_{channel}": f1 for channel, f1 in known.items()}
    counted = [f1 for channel, f1 in known.items() if not channel.endswith(CONTOUR)]
    counted = counted or list(known.values())
    if counted:
        evaluation.scores[name] = 1 - sum(counted) / len(counted)
