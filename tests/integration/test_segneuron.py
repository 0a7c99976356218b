"""The pipelines with a foreground, image to segments, with a small network of random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.networks import ARGUMENTS, OFFSETS, header, network
from volflow import run
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.engine.api import make_plan
from volflow.io.volume import Volume
from volflow.models.checkpoint import save_checkpoint
from volflow.segment.restrict import in_foreground

BOUNDS = Box((0, 0, 0), (10, 36, 40))
HEADS = {"affinity": {"channels": 4, "offsets": OFFSETS}, "foreground": {"channels": 1}}
MASKING = {"segneuron": "relabel", "segneuron_multicut": "multicut"}
ROADS = {
    "segneuron": ["intensity", "predict", "restrict", "fragments", "agglomerate", "relabel"],
    "segneuron_multicut": ["intensity", "predict", "restrict", "multicut"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image, and a checkpoint with the two heads."""
    actual = tmp_path_factory.mktemp("segneuron")
    noise = np.random.default_rng(0).normal(128, 60, BOUNDS.shape)
    smooth = noise + sum(np.roll(noise, 1, axis) for axis in range(3))
    image = np.clip((smooth - 384) / 2 + 64, 0, 255).astype(np.uint8)
    spec = VolumeSpec(path=f"zarr://{actual}/em.zarr")
    volume, _ = Volume.create(spec, Layer("uint8", 0), BOUNDS, (10, 10, 10), (16, 16, 16))
    volume.write(BOUNDS, image)
    save_network(actual / "net.safetensors", image)
    return actual


def save_network(path: Path, image: np.ndarray) -> None:
    """A network whose every channel is above a half in half of the image, or nearly so."""
    arguments = {**ARGUMENTS, "out_channels": 5}
    created = network(0, arguments)
    low, high = np.quantile(image, [0.01, 0.99])
    scaled = 2 * (image.astype(np.float32) - low) / (high - low) - 1
    with torch.no_grad():
        seen = np.pad(scaled, [(13, 13), (0, 0), (0, 0)], mode="symmetric")
        printed = created(torch.from_numpy(seen)[None, None].float())[0]  # (5, Z, Y, X)
        created.state_dict()["head.bias"] -= printed.flatten(1).median(dim=1).values
    heads = {"heads": HEADS, "offsets": (), "out_channels": 5, "arguments": arguments}
    save_checkpoint(path, created.state_dict(), header(**heads))


def options(folder: Path, name: str, *more: str) -> list[str]:
    return [
        f"run={folder}/{name}",
        f"volumes.em.path={folder}/em.zarr",
        f"steps.predict.model={folder}/net.safetensors",
        *more,
    ]


def layer(folder: Path, name: str, layer: str) -> np.ndarray:
    volume = Volume.open(VolumeSpec(path=f"precomputed://{folder}/{name}/{layer}"), own=True)
    return volume.read(BOUNDS)


@pytest.mark.parametrize("pipeline", sorted(ROADS))
def test_it_plans_and_runs_to_a_segmentation_of_the_foreground(folder, pipeline):
    if pipeline == "segneuron_multicut":
        pytest.importorskip("bioimage_cpp")
    chosen = options(folder, pipeline, f"steps.{MASKING[pipeline]}.mask_below=0.5")
    steps = [step.name for step in make_plan(pipeline, overrides=chosen).steps]
    assert steps == [*ROADS[pipeline], "pyramid"]
    assert run(pipeline, overrides=chosen).ok
    foreground = in_foreground(layer(folder, pipeline, "foreground"), 0.5)
    assert 0.05 < foreground.mean() < 0.95
    np.testing.assert_array_equal(layer(folder, pipeline, "segmentation") > 0, foreground)


def test_blocks_change_no_byte_of_the_exact_road(folder):
    small = ["steps.agglomerate.min_size=5", "steps.agglomerate.threshold=0.8"]
    assert run("segneuron", overrides=options(folder, "whole", *small)).ok
    assert run("segneuron", overrides=options(folder, "parts", "block=[16,16,32]", *small)).ok
    whole = layer(folder, "whole", "segmentation")
    assert len(np.unique(whole)) > 1
    np.testing.assert_array_equal(layer(folder, "parts", "segmentation"), whole)
    restricted = layer(folder, "whole", "restricted")
    assert (restricted < layer(folder, "whole", "affinity")).any()
    np.testing.assert_array_equal(layer(folder, "parts", "restricted"), restricted)
