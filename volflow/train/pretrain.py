"""Pretraining of an encoder on images alone: the network reconstructs what was masked.

Half or more of a crop's cells are masked, and the network predicts the whole crop and its edges.
Its decoders have no skip connections, so everything they know has passed through the last level;
they are discarded afterwards.

References
----------
SegNeuron (MICCAI 2024), its pretraining. Ours differs in the fraction of steps over which the
learning rate falls, and in that an image is normalised as in the training that follows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from volflow.models.mnet import MNet
from volflow.train.config.pretraining import Pretraining
from volflow.train.data.images import Image, open_image, random_crop
from volflow.train.data.masking import edge_picture, fill_with_noise, hidden_cells
from volflow.train.loop import Report, Schedule, prepare, run_training
from volflow.train.state import State, save_tensors
from volflow.train.validation.picture import draw_reconstruction

ENCODER = "encoder."  # prefix of the encoder's tensors, in the network and in its file
HELD_OUT_STEP = 2**32  # takes the place of a step's number when validation crops are drawn


class MaskedCrops(NamedTuple):
    """Crops, their masked versions, and the edges to predict; float32 (B, 1, Z, Y, X) each."""

    masked: Tensor
    image: Tensor
    edges: Tensor

    def to(self, device: str) -> MaskedCrops:
        """The same crops on a device."""
        return MaskedCrops(*(tensor.to(device) for tensor in self))


def pretrain(config: Pretraining, report: Report) -> Path:
    """Pretrain to the last step, resuming from the folder `out` where it holds a state.

    Parameters
    ----------
    config : Pretraining
    report : callable
        Given a dict at every validation and every few steps: step, loss, seconds per step, error.

    Returns
    -------
    Path
        The best encoder by validation: `encoder.safetensors` in the folder `out`.
    """
    device, folder = prepare(config.device, config.threads, config.out)
    sources = [open_image(spec, config) for spec in config.sources]
    held_out = open_image(config.validation.source, config)
    task = PretrainingTask(config, sources, held_out, folder, device)
    run_training(task, initial_state(config, device), folder, device, report)
    return folder / "encoder.safetensors"


def initial_state(config: Pretraining, device: str = "cpu") -> State:
    """The state of a pretraining before its first step."""
    torch.manual_seed(config.seed)
    network = MNet(out_channels=(1, 1), skips=False, **_network_arguments(config)).to(device)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(
        network.parameters(), config.learning_rate, eps=0.01, weight_decay=1e-6, amsgrad=True
    )
    return State(network, optimizer)


@dataclass(frozen=True)
class PretrainingTask:
    """A pretraining as the training loop sees it."""

    config: Pretraining
    sources: list[Image]
    held_out: Image
    folder: Path
    device: str = "cpu"

    @property
    def schedule(self) -> Schedule:
        """Number of steps, and how often to validate and to save."""
        return Schedule(self.config.steps, self.config.validation.every, self.config.save_every)

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step."""
        return self.config.rate(step)

    def draw(self, step: int) -> MaskedCrops:
        """The crops of a step."""
        return batch(self.sources, self.config, step)

    def loss(self, network: nn.Module, crops: MaskedCrops, step: int) -> Tensor:
        """The reconstruction error of masked crops."""
        return reconstruction_error(
            reconstruct(network, self.config, crops.masked), self.config, crops
        )

    @torch.no_grad()
    def validate(self, state: State) -> dict[str, Any]:
        """Compute the loss on held-out crops; save the encoder if it is the best so far."""
        config, network = self.config, state.network.eval()
        crops = batch([self.held_out], config, HELD_OUT_STEP, config.validation.crops)
        predictions, total = [], 0.0
        for n in range(config.validation.crops):
            crop = MaskedCrops(*(tensor[n : n + 1] for tensor in crops)).to(self.device)
            predictions.append(reconstruct(network, config, crop.masked))
            total += float(reconstruction_error(predictions[-1], config, crop))
        row = {"step": state.step, "loss": state.loss, "error": total / len(predictions)}
        if row["error"] < state.best:
            state.best = row["error"]
            save_encoder(self.folder / "encoder.safetensors", network, config, row)
        draw_reconstruction(
            self.folder / "newest.png",
            image=crops.image[0, 0].numpy(),
            masked=crops.masked[0, 0].numpy(),
            edges=crops.edges[0, 0].numpy(),
            prediction=predictions[0][0].cpu().numpy(),
        )
        return row


def batch(sources: list[Image], config: Pretraining, step: int, count: int = 0) -> MaskedCrops:
    """The crops of a step: a function of the seed and the step's number.

    `count` crops are drawn instead of `config.batch`, if not 0.
    """
    masked, images, edges = [], [], []
    for position in range(count or config.batch):
        rng = np.random.default_rng([config.seed, step, position])
        image = random_crop(sources, config.crop, rng)
        images.append(image)
        edges.append(edge_picture(image))
        masked.append(fill_with_noise(image, hidden_cells(config.crop, rng), rng))
    stacks = (torch.from_numpy(np.stack(crops))[:, None] for crops in (masked, images, edges))
    return MaskedCrops(*stacks)


def reconstruct(network: nn.Module, config: Pretraining, masked: Tensor) -> Tensor:
    """Image and edges predicted from masked crops (B, 1, Z, Y, X), float32 (B, 2, Z, Y, X)."""
    masked = masked.to(memory_format=torch.channels_last_3d)
    with torch.autocast(masked.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        prediction: Tensor = network(masked)
    return prediction.float()


def reconstruction_error(prediction: Tensor, config: Pretraining, crops: MaskedCrops) -> Tensor:
    """Mean squared error of image and edges over all voxels, masked or not; a scalar."""
    image, edges = prediction[:, :1], prediction[:, 1:]
    return config.image_weight * mse_loss(image, crops.image) + mse_loss(edges, crops.edges)


def save_encoder(path: Path, network: nn.Module, config: Pretraining, row: dict[str, Any]) -> None:
    """Write the encoder's tensors, under their names in the network, atomically."""
    tensors = {n: tensor for n, tensor in network.state_dict().items() if n.startswith(ENCODER)}
    description = {
        "network": _network_arguments(config),
        "normalisation": config.normalisation.model_dump(mode="json"),
        "voxel_size_nm": config.voxel_size_nm,
        **row,
    }
    save_tensors(path, tensors, {"pretraining": json.dumps(description)})


def _network_arguments(config: Pretraining) -> dict[str, Any]:
    return {
        "in_channels": 1,
        "widths": list(config.network.widths),
        "normalisation": config.network.normalisation,
    }
