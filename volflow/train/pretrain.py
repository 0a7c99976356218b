"""Pretraining of an encoder on images alone: what was hidden is to be found again.

Half and more of a crop's cells are hidden, and the network is asked for the crop and for its edges.
Its decoders are not shown what the encoder made on the way down, so that all they know has come
through the last level; they are thrown away afterwards. On a CPU an interrupted pretraining ends
in the same bytes as an undisturbed one.

References
----------
SegNeuron (MICCAI 2024), its pretraining. Ours differs in the share of steps over which the learning
rate falls, and in that an image is normalised as in the training that follows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from volflow.models.inference import device_of
from volflow.models.mnet import MNet
from volflow.train.config.pretraining import Pretraining
from volflow.train.data.images import Image, drawn, opened_image
from volflow.train.data.masking import cells_hidden, edge_picture, noise_filled
from volflow.train.state import State, load_state, save_state

Report = Callable[[dict[str, Any]], None]
ENCODER = "encoder."  # what names of its tensors begin with, in the network and in its file
HELD_OUT = 2**32  # instead of a step's number, where crops are drawn to be validated on


class Hidden(NamedTuple):
    """Crops, what the network is shown of them, and what it is asked; float32 (B, 1, Z, Y, X)."""

    shown: Tensor
    image: Tensor
    edges: Tensor

    def to(self, device: str) -> Hidden:
        """The same on a device."""
        return Hidden(*(tensor.to(device) for tensor in self))


def pretrain(config: Pretraining, report: Report) -> Path:
    """Pretrain, or go on with a pretraining, to its last step.

    Parameters
    ----------
    config : Pretraining
    report : callable
        Given a dict at every validation and every few steps: step, loss, seconds per step, error.

    Returns
    -------
    Path
        The encoder of the best validation: `encoder.safetensors` in the folder `out`.
    """
    device = device_of(config.device)
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(device == "cpu")  # cuda has none for pooling backwards
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # slow
    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    sources = [opened_image(spec, config) for spec in config.sources]
    held_out = opened_image(config.validation.source, config)
    state = begun(config, device)
    if (folder / "state.safetensors").exists():
        load_state(folder / "state.safetensors", state)
    with ThreadPoolExecutor(1) as ahead:
        upcoming = ahead.submit(batch, sources, config, state.step)
        while state.step < config.steps:
            started = time.monotonic()
            crops = upcoming.result().to(device)
            upcoming = ahead.submit(batch, sources, config, state.step + 1)
            loss = step(state, config, crops)
            state.took = time.monotonic() - started
            state.seen(loss)
            last = state.step == config.steps
            if state.step % 25 == 0:
                report({"step": state.step, "loss": state.loss, "seconds": state.took})
            if state.step % config.validation.every == 0 or last:
                report(validate(state, config, held_out, folder, device))
            if state.step % config.save_every == 0 or last:
                save_state(folder / "state.safetensors", state)
    return folder / "encoder.safetensors"


def begun(config: Pretraining, device: str = "cpu") -> State:
    """A pretraining before its first step."""
    torch.manual_seed(config.seed)
    network = MNet(out_channels=(1, 1), skips=False, **_arguments(config)).to(device)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(
        network.parameters(), config.learning_rate, eps=0.01, weight_decay=1e-6, amsgrad=True
    )
    return State(network, optimizer)


def batch(sources: list[Image], config: Pretraining, number: int, count: int = 0) -> Hidden:
    """The crops of a step: a function of the seed and the step's number.

    `count` instead of `config.batch`, if not 0.
    """
    shown, images, edges = [], [], []
    for place in range(count or config.batch):
        rng = np.random.default_rng([config.seed, number, place])
        image = drawn(sources, config.crop, rng)
        images.append(image)
        edges.append(edge_picture(image))
        shown.append(noise_filled(image, cells_hidden(config.crop, rng), rng))
    return Hidden(*(torch.from_numpy(np.stack(them))[:, None] for them in (shown, images, edges)))


def step(state: State, config: Pretraining, crops: Hidden) -> float:
    """One step of the optimizer; returns the loss."""
    for group in state.optimizer.param_groups:
        group["lr"] = config.rate(state.step)
    state.network.train()
    loss = loss_of(answered(state.network, config, crops.shown), config, crops)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    state.optimizer.step()
    state.step += 1
    state.average_weights(0.0)
    return float(loss.detach())


def answered(network: nn.Module, config: Pretraining, shown: Tensor) -> Tensor:
    """What the network makes of crops (B, 1, Z, Y, X): image and edges, float32 (B, 2, Z, Y, X)."""
    shown = shown.to(memory_format=torch.channels_last_3d)
    with torch.autocast(shown.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        made: Tensor = network(shown)
    return made.float()


def loss_of(made: Tensor, config: Pretraining, crops: Hidden) -> Tensor:
    """Squared error of image and edges over all voxels, hidden or not."""
    image, edges = made[:, :1], made[:, 1:]
    return config.image_weight * mse_loss(image, crops.image) + mse_loss(edges, crops.edges)


@torch.no_grad()
def validate(
    state: State, config: Pretraining, held_out: Image, folder: Path, device: str = "cpu"
) -> dict[str, Any]:
    """The loss on crops that are not learnt from; the encoder is kept if it is the best so far."""
    state.network.eval()
    crops = batch([held_out], config, HELD_OUT, config.validation.crops)
    made, total = [], 0.0
    for n in range(config.validation.crops):
        one = Hidden(*(tensor[n : n + 1] for tensor in crops)).to(device)
        made.append(answered(state.network, config, one.shown))
        total += float(loss_of(made[-1], config, one))
    row = {"step": state.step, "loss": state.loss, "error": total / len(made)}
    if row["error"] < state.best:
        state.best = row["error"]
        save_encoder(folder / "encoder.safetensors", state.network, config, row)
    draw_hidden(folder / "newest.png", crops, made[0].cpu())
    with (folder / "validation.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    return {**row, "best": state.best}


def save_encoder(path: Path, network: nn.Module, config: Pretraining, row: dict[str, Any]) -> None:
    """Write the encoder's tensors, by their names in the network, in one piece or not at all."""
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
        if name.startswith(ENCODER)
    }
    told = {
        "network": _arguments(config),
        "normalisation": config.normalisation.model_dump(mode="json"),
        "voxel_size_nm": config.voxel_size_nm,
        **row,
    }
    beside = path.with_name(f".{path.name}")
    save_file(tensors, beside, {"pretraining": json.dumps(told)})
    beside.replace(path)


def draw_hidden(path: Path, crops: Hidden, made: Tensor) -> None:
    """Write a PNG of the first crop's middle section.

    From left to right: the image, what was shown of it, the answer; its edges, the answer to them.
    """
    middle = made.shape[2] // 2
    grey = [
        _section(crops.image, middle),
        _section(crops.shown, middle),
        made[0, 0, middle].numpy(),
    ]
    edges = [_section(crops.edges, middle), made[0, 1, middle].numpy()]
    brightest = max(float(edges[0].max()), 1e-6)
    panels = [(section + 1) * 127.5 for section in grey]
    panels += [section / brightest * 255 for section in edges]
    gap = np.full((made.shape[3], 4), 255.0)
    joined = [part for panel in panels for part in (panel, gap)][:-1]
    picture = np.clip(np.concatenate(joined, axis=1), 0, 255).astype(np.uint8)
    path.write_bytes(imagecodecs.png_encode(picture))


def _section(crops: Tensor, at: int) -> np.ndarray:
    section: np.ndarray = crops[0, 0, at].numpy()
    return section


def _arguments(config: Pretraining) -> dict[str, Any]:
    return {
        "in_channels": 1,
        "widths": list(config.network.widths),
        "normalisation": config.network.normalisation,
    }
