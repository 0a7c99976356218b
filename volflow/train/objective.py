"""The loss of a training: what each head counts for."""

from __future__ import annotations

import torch
from torch import Tensor

from volflow.train.config.training import Training
from volflow.train.data.crops import Crops
from volflow.train.heads import channels_of
from volflow.train.losses import balanced_bce, dice, known_mse


def loss_of(logits: Tensor, training: Training, crops: Crops) -> Tensor:
    """How far the answer to crops, logits (B, C, Z, Y, X), is from their truth, in one number."""
    total = torch.zeros((), device=logits.device)
    first = 0  # of a head's channels among those of yes or no
    for name, place in channels_of(training).items():
        said = logits[:, place.start : place.stop]
        if name == "lsd":
            assert training.descriptors is not None
            apart = known_mse(said, crops.shapes, crops.described[:, 0])
            total = total + training.descriptors.weight * apart
            continue
        asked = slice(first, first + len(place))
        first += len(place)
        target, valid = crops.target[:, asked], crops.valid[:, asked]
        if name == "affinity":
            weights = channel_weights(training).to(logits.device)
            total = total + balanced_bce(said, target, valid, weights)
            continue
        apart = balanced_bce(said, target, valid)
        if name in training.masks:
            total = total + training.masks[name].weight * (apart + dice(said, target, valid))
        elif training.foreground is not None:
            total = total + training.foreground.weight * apart
    return total


def channel_weights(training: Training) -> Tensor:
    """What each affinity counts in the loss, float32 (C,)."""
    far = max(0, len(training.offsets) - 3)
    return torch.tensor([1.0] * (len(training.offsets) - far) + [training.long_range_weight] * far)
