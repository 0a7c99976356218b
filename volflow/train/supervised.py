"""Training of a network with any heads, from any number of volumes, in one loop.

A crop is a function of the seed and its number, and all that changes from step to step is in the
state file, so on a CPU an interrupted training ends in the same bytes as an undisturbed one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import nn

from volflow.checkpoints.header import Header
from volflow.errors import PlanError
from volflow.models.checkpoint import build, fold_batchnorm, save_checkpoint
from volflow.models.inference import Inference, device_of
from volflow.train.config.training import Training
from volflow.train.data.crops import Crops, batch
from volflow.train.data.samples import Source
from volflow.train.data.sources import Wanted, opened
from volflow.train.heads import header_of
from volflow.train.initial_weights import begun_from, encoded_from
from volflow.train.objective import loss_of
from volflow.train.state import State, load_state, save_state
from volflow.train.tensorboard import curves
from volflow.train.validation.picture import draw_picture
from volflow.train.validation.scores import asked, judgeable, judged, mean_score

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
    device = device_of(training.device)
    torch.use_deterministic_algorithms(device == "cpu")  # elsewhere some layers have none
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # slow
    folder = Path(training.out)
    folder.mkdir(parents=True, exist_ok=True)
    header = header_of(training)
    network = started(training, header, device)
    sources, held_out = _volumes(training)
    optimizer = torch.optim.AdamW(
        network.parameters(), training.learning_rate, weight_decay=training.weight_decay
    )
    state = State(network, optimizer)
    if (folder / "state.safetensors").exists():
        load_state(folder / "state.safetensors", state)
    drawn = curves(folder / "tensorboard", state.step)

    def tell(row: dict[str, Any]) -> None:
        drawn({**row, "learning_rate": training.learning_rate * rate(state.step - 1, training)})
        report(row)

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
                tell({"step": state.step, "loss": state.loss, "seconds": state.took})
            if state.step % training.validation.every == 0 or last:
                tell(validate(state, training, held_out, header, folder))
            if state.step % training.save_every == 0 or last:
                save_state(folder / "state.safetensors", state)
    return folder / "best.safetensors"


def started(training: Training, header: Header, device: str) -> nn.Module:
    """The network before its first step.

    Raises
    ------
    PlanError
        If the weights that it is to start from are not there or do not fit.
    """
    torch.manual_seed(training.seed)
    network = begun_from(training.start, build(header), header)
    network = encoded_from(training.start_encoder, network).to(device)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network


def _volumes(training: Training) -> tuple[list[Source], list[Source]]:
    """What is learnt from, and what is held out."""
    wanted, rule = Wanted.by(training), training.normalisation
    sources = [opened(source, rule, wanted) for source in training.sources]
    held_out = [opened(source, rule, wanted) for source in training.validation.held_out]
    for source in held_out:
        if not judgeable(source, training):
            raise PlanError(
                f"validation: of what is learnt, source '{source.name}' knows nothing that could "
                "be scored"
            )
    return sources, held_out


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


def rate(step: int, training: Training) -> float:
    """The learning rate of a step, relative: up, level, down to zero at the end."""
    rising = (step + 1) / max(1, training.warmup)
    falling = (training.steps - step) / max(1.0, training.decay * training.steps)
    return min(1.0, rising, falling)


def validate(
    state: State, training: Training, held_out: list[Source], header: Header, folder: Path
) -> dict[str, Any]:
    """Score the averaged weights on held-out voxels; keep them if they are the best so far."""
    network = build(header)
    network.load_state_dict(state.average)
    shown = Inference(
        fold_batchnorm(network.eval()),
        header,
        [channel for channels in asked(training).values() for channel in channels],
        training.device,
        training.precision,
        training.threads,
    )
    found = [judged(shown, source, training) for source in held_out]
    scores = {
        f"{source.name}.{head}": error
        for source, one in zip(held_out, found, strict=True)
        for head, error in one.scores.items()
    }
    row: dict[str, Any] = {"step": state.step, "loss": state.loss, "score": mean_score(scores)}
    row["scores"] = scores
    if len(held_out) == 1:
        row |= found[0].more
    else:
        row["more"] = {source.name: f.more for source, f in zip(held_out, found, strict=True)}
    if row["score"] < state.best:
        state.best = row["score"]
        save_checkpoint(folder / "best.safetensors", state.average, header)
        draw_picture(folder / "best.png", held_out, [one.pictures for one in found])
    save_checkpoint(folder / "last.safetensors", state.average, header)
    with (folder / "validation.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    return {**row, "best": state.best}
