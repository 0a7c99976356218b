"""Training of a network that predicts affinities, and descriptors if wanted, in one loop.

A crop is a function of the seed and its number, and all that changes from step to step is in the
state file, so on a CPU an interrupted training ends in the same bytes as an undisturbed one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from volflow.core.geometry import triple
from volflow.core.head import Head
from volflow.core.header import Header
from volflow.models.checkpoint import build, fold_batchnorm, save_checkpoint
from volflow.models.inference import Inference, device_of
from volflow.models.resunet3d import ResUNet3D
from volflow.segment.descriptors import CHANNELS, ODD, descriptors
from volflow.train.config import Training
from volflow.train.crops import Crops, batch
from volflow.train.losses import affinity_targets, balanced_bce, known_mse
from volflow.train.picture import draw_picture
from volflow.train.samples import UNKNOWN, Source
from volflow.train.sources import opened
from volflow.train.start import begun_from
from volflow.train.state import State, load_state, save_state
from volflow.train.validation import best_score, predicted

Report = Callable[[dict[str, Any]], None]


def train(training: Training, report: Report) -> Path:
    """Train, or go on with a training, to its last step.

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
    torch.set_num_threads(training.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # slow
    device = device_of(training.device)
    folder = Path(training.out)
    folder.mkdir(parents=True, exist_ok=True)
    sources = [opened(source, training.normalisation) for source in training.sources]
    held_out = opened(training.validation.source, training.normalisation)
    header = header_of(training)
    torch.manual_seed(training.seed)
    network = begun_from(training.start, build(header), header).to(device)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        network.parameters(), training.learning_rate, weight_decay=training.weight_decay
    )
    state = State(network, optimizer)
    if (folder / "state.safetensors").exists():
        load_state(folder / "state.safetensors", state)
    with ThreadPoolExecutor(1) as ahead:
        upcoming = ahead.submit(batch, sources, training, state.step)
        while state.step < training.steps:
            begun = time.monotonic()
            crops = upcoming.result().to(device)
            upcoming = ahead.submit(batch, sources, training, state.step + 1)
            loss = step(state, training, crops)
            state.took = time.monotonic() - begun
            state.seen(loss)
            last = state.step == training.steps
            if state.step % 25 == 0:
                report({"step": state.step, "loss": state.loss, "seconds": state.took})
            if state.step % training.validation.every == 0 or last:
                report(validate(state, training, held_out, header, folder))
            if state.step % training.save_every == 0 or last:
                save_state(folder / "state.safetensors", state)
    return folder / "best.safetensors"


def step(state: State, training: Training, crops: Crops) -> float:
    """One step of the optimizer; returns the loss."""
    for group in state.optimizer.param_groups:
        group["lr"] = training.learning_rate * rate(state.step, training)
    state.network.train()
    if state.step >= (1 - training.frozen) * training.steps:
        for module in state.network.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eval()
    image = crops.image.to(memory_format=torch.channels_last_3d)
    with torch.autocast(image.device.type, torch.bfloat16, enabled=training.precision == "bf16"):
        logits = state.network(image)
    loss = loss_of(logits.float(), training, crops)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
    state.optimizer.step()
    state.step += 1
    state.average_weights(training.average)
    return float(loss.detach())


def loss_of(logits: Tensor, training: Training, crops: Crops) -> Tensor:
    """How far the answer to crops, logits (B, C, Z, Y, X), is from their truth, in one number."""
    count = len(training.offsets)
    target, valid = affinity_targets(crops.truth, training.offsets)
    weights = channel_weights(training).to(logits.device)
    loss = balanced_bce(logits[:, :count], target, valid, weights)
    if training.descriptors is not None and crops.shapes is not None:
        apart = known_mse(logits[:, count:], crops.shapes, crops.truth != UNKNOWN)
        loss = loss + training.descriptors.weight * apart
    return loss


def rate(step: int, training: Training) -> float:
    """The learning rate of a step, relative: up, level, down to zero at the end."""
    rising = (step + 1) / max(1, training.warmup)
    falling = (training.steps - step) / max(1.0, training.decay * training.steps)
    return min(1.0, rising, falling)


def channel_weights(training: Training) -> Tensor:
    """What each channel counts in the loss, float32 (C,)."""
    far = max(0, len(training.offsets) - 3)
    return torch.tensor([1.0] * (len(training.offsets) - far) + [training.long_range_weight] * far)


def heads_of(training: Training) -> dict[str, Head]:
    """What a training learns, by name; empty for affinities alone."""
    if training.descriptors is None:
        return {}
    offsets, sigma = training.offsets, training.descriptors.sigma_nm
    return {
        "affinity": Head(channels=len(offsets), offsets=offsets),
        "lsd": Head(channels=CHANNELS, odd=ODD, sigma_nm=sigma),
    }


def header_of(training: Training) -> Header:
    """What the checkpoint of a training will say of itself."""
    heads = heads_of(training)
    channels = sum(head.channels for head in heads.values()) or len(training.offsets)
    arguments = {
        "in_channels": 1,
        "out_channels": channels,
        **training.network.model_dump(mode="json"),
    }
    shape = ResUNet3D(**arguments)
    before, after = shape.receptive_field()
    tile, halo = training.tiles.input_tile, training.tiles.halo
    return Header(
        network="volflow.models.resunet3d:ResUNet3D",
        arguments=arguments,
        out_channels=channels,
        offsets=() if heads else training.offsets,
        heads=heads,
        voxel_size_nm=training.voxel_size_nm,
        receptive_field=triple([max(a, b) for a, b in zip(before, after, strict=True)]),
        halo=halo,
        total_stride=shape.total_stride,
        input_tile=tile,
        output_tile=triple([a - 2 * b for a, b in zip(tile, halo, strict=True)]),
        batch=training.tiles.batch,
        normalisation=training.normalisation,
        card=training.card,
    )


def validate(
    state: State, training: Training, held_out: Source, header: Header, folder: Path
) -> dict[str, Any]:
    """Score the averaged weights on held-out voxels; keep them if they are the best so far."""
    network = build(header)
    network.load_state_dict(state.average)
    count, nearest = len(training.offsets), min(3, len(training.offsets))
    shown = Inference(
        fold_batchnorm(network.eval()),
        header,
        [*range(nearest), *range(count, header.out_channels)],
        training.device,
        training.precision,
        training.threads,
    )
    made = predicted(shown, held_out.image)
    affinity = made[:nearest]
    rules = training.validation
    found = best_score(affinity, held_out.truth, rules.thresholds, rules.min_size)
    row = {"step": state.step, "loss": state.loss, "threshold": found.threshold, **asdict(found)}
    if training.descriptors is not None:
        row["lsd_rms"] = shape_error(made[nearest:], held_out.truth, training)
    if found.vi < state.best:
        state.best = found.vi
        save_checkpoint(folder / "best.safetensors", state.average, header)
        draw_picture(folder / "best.png", held_out, affinity)
    save_checkpoint(folder / "last.safetensors", state.average, header)
    with (folder / "validation.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    return {**row, "best": state.best}


def shape_error(made: np.ndarray, truth: np.ndarray, training: Training) -> float:
    """Root of the mean squared error of descriptors, uint8 (10, Z, Y, X), where truth is known."""
    learnt = training.descriptors
    assert learnt is not None
    wanted = descriptors(truth, learnt.sigma_nm, training.voxel_size_nm, step=learnt.step)
    apart = (made / np.float32(255) - wanted)[:, truth != UNKNOWN]
    return float(np.sqrt(np.mean(apart**2))) if apart.size else 0.0
