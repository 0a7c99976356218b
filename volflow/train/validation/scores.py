"""How good a network is on the held-out sources of a training: one number for each head of each.

Affinities are judged by the segmentation that they give, masks by the voxels that they find. All
numbers are errors: 0 is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from volflow.models.inference import Inference
from volflow.segment.descriptors import descriptors
from volflow.train.config.training import NEAREST, Training
from volflow.train.data.samples import UNKNOWN, Source
from volflow.train.heads import channels_of
from volflow.train.validation.evaluate import InMemoryPipeline, Score, best_score, predicted, score


@dataclass
class Judged:
    """What was found of one source.

    Parameters
    ----------
    scores : dict of str to float
        Of each head that something is known of, by name, an error; what is compared.
    more : dict of str to float
        What else is worth a line: threshold, parts of VI, F1 of each channel, ...
    pictures : dict of str to uint8 array, (C, Z, Y, X)
        Of each head the channels worth a look.
    """

    scores: dict[str, float] = field(default_factory=dict)
    more: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)


def judged(network: Inference, source: Source, training: Training) -> Judged:
    """The scores of a network on a source; the network gives the channels of `asked`."""
    channels, found = asked(training), Judged()
    made = predicted(network, source.image)
    first, mark = 0, 0
    for name, wanted in channels.items():
        part = made[first : first + len(wanted)]
        first += len(wanted)
        found.pictures[name] = part
        if name == "affinity":
            _judge_affinity(found, part, source, training)
        elif name == "lsd":
            if not source.flat and (source.truth != UNKNOWN).any():
                found.more["lsd_rms"] = shape_error(part, source.truth, training)
        else:
            _judge_masks(found, name, part, source.marks[mark : mark + len(wanted)], training)
            mark += len(wanted)
    return found


def asked(training: Training) -> dict[str, list[int]]:
    """The network's channels that a validation looks at, by head: of affinities the nearest."""
    found = {name: list(place) for name, place in channels_of(training).items()}
    if "affinity" in found:
        near = [training.offsets.index(step) for step in NEAREST if step in training.offsets]
        found["affinity"] = [found["affinity"][place] for place in near]
    return {name: channels for name, channels in found.items() if channels}


def judgeable(source: Source, training: Training) -> bool:
    """Whether a source will have a score."""
    needed = NEAREST[1:] if source.flat else NEAREST
    segmented = set(needed) <= set(training.offsets) and bool((source.truth > 0).any())
    return segmented or bool((source.marks == 1).any())


def mean_score(scores: dict[str, float]) -> float:
    """What the best checkpoint has least of: the mean of all scores."""
    return sum(scores.values()) / len(scores)


def best_flat_score(
    affinity: np.ndarray, truth: np.ndarray, thresholds: Sequence[float], min_size: int
) -> Score:
    """The best threshold's mean over sections that are segmented one by one.

    Parameters
    ----------
    affinity : uint8, (3, Z, Y, X)
    truth : int32, (Z, Y, X)
        Sections of which nothing is known are passed over.
    """
    sections = [z for z in range(len(truth)) if (truth[z] > 0).any()]
    roads = [InMemoryPipeline(np.ascontiguousarray(affinity[:, z : z + 1])) for z in sections]
    means = []
    for at in thresholds:
        each = [
            score(road.segmentation(at, min_size), truth[z : z + 1], at)
            for z, road in zip(sections, roads, strict=True)
        ]
        parts = np.mean([(s.vi_split, s.vi_merge, s.vi, s.arand) for s in each], axis=0)
        means.append(Score(at, *(float(part) for part in parts)))
    return min(means, key=lambda found: found.vi)


def best_f1(made: np.ndarray, mark: np.ndarray, thresholds: Sequence[float]) -> float | None:
    """The best harmonic mean of precision and recall over thresholds.

    Parameters
    ----------
    made : uint8, (Z, Y, X)
    mark : uint8, (Z, Y, X)
        1 yes, 0 no; other voxels are not counted.

    Returns
    -------
    float or None
        None where no voxel is known to be a yes.
    """
    values, there = made[mark <= 1], mark[mark <= 1] == 1
    if not there.any():
        return None
    best = 0.0
    for threshold in thresholds:
        found = values > threshold * 255
        shared, said = (int(np.count_nonzero(part)) for part in (found & there, found))
        best = max(best, 2 * shared / (said + int(np.count_nonzero(there))))
    return best


def shape_error(made: np.ndarray, truth: np.ndarray, training: Training) -> float:
    """Root of the mean squared error of descriptors, uint8 (10, Z, Y, X), where truth is known."""
    learnt = training.descriptors
    assert learnt is not None
    wanted = descriptors(truth, learnt.sigma_nm, training.voxel_size_nm, step=learnt.step)
    apart = (made / np.float32(255) - wanted)[:, truth != UNKNOWN]
    return float(np.sqrt(np.mean(apart**2))) if apart.size else 0.0


def _judge_affinity(
    found: Judged, affinity: np.ndarray, source: Source, training: Training
) -> None:
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
    found.scores["vi"] = best.vi
    found.more |= asdict(best)


def _judge_masks(
    found: Judged, name: str, made: np.ndarray, marks: np.ndarray, training: Training
) -> None:
    """The score of a head is its channels' mean, borders left out unless there is nothing else."""
    names = training.masks[name].channels if name in training.masks else (name,)
    rules = training.validation
    each = {
        channel: best_f1(values, mark, rules.mask_thresholds)
        for channel, values, mark in zip(names, made, marks, strict=True)
    }
    known = {channel: f1 for channel, f1 in each.items() if f1 is not None}
    found.more |= {f"f1_{channel}": f1 for channel, f1 in known.items()}
    counted = [f1 for channel, f1 in known.items() if not channel.endswith(".contour")]
    counted = counted or list(known.values())
    if counted:
        found.scores[name] = 1 - sum(counted) / len(counted)
