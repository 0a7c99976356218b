"""The loss of a training: the weighted sum over its heads."""

from __future__ import annotations

import torch
from torch import Tensor

from volflow.train.config.training import Training
from volflow.train.data.crops import Crops
from volflow.train.heads import channels_of
from volflow.train.losses import balanced_bce, dice, masked_mse


def training_loss(logits: Tensor, training: Training, crops: Crops) -> Tensor:
    """The loss of logits (B, C, Z, Y, X) against the truth of crops, a scalar."""
    total = torch.zeros((), device=logits.device)
    first = 0  # target channel of the next head
    for name, place in channels_of(training).items():
        head = logits[:, place.start : place.stop]
        if name == "lsd":
            assert training.descriptors is not None
            error = masked_mse(head, crops.shapes, crops.described[:, 0])
            total = total + training.descriptors.weight * error
            continue
        targets = slice(first, first + len(place))
        first += len(place)
        target, valid = crops.target[:, targets], crops.valid[:, targets]
        if name == "affinity":
            weights = channel_weights(training).to(logits.device)
            total = total + balanced_bce(head, target, valid, weights)
            continue
        error = balanced_bce(head, target, valid)
        if name in training.masks:
            total = total + training.masks[name].weight * (error + dice(head, target, valid))
        elif training.foreground is not None:
            total = total + training.foreground.weight * error
    return total


def channel_weights(training: Training) -> Tensor:
    """The weight of each affinity channel in the loss, float32 (C,)."""
    far = max(0, len(training.offsets) - 3)
    return torch.tensor([1.0] * (len(training.offsets) - far) + [training.long_range_weight] * far)
