"""Every kind of head, of both networks, through the engine: the same bytes whatever the blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from volflow import run
from volflow.checkpoints.header import Header
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box, Triple
from volflow.core.stage import Layer
from volflow.io.volume import Volume
from volflow.models.checkpoint import build, save_checkpoint

BOUNDS = Box((3, 5, 7), (21, 61, 71))
NEAREST = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
HEADS: dict[str, dict[str, Any]] = {
    "affinity": {"channels": 3, "offsets": NEAREST},
    "lsd": {"channels": 10, "odd": ["z", "y", "x", "", "", "", "zy", "zx", "yx", ""]},
    "foreground": {"channels": 1},
    "mitochondria": {"channels": 2},
    "synapse": {"channels": 3},
}
NETWORKS: dict[str, dict[str, Any]] = {
    "resunet3d": {"out_channels": 19, "widths": [4, 8], "pools": [[1, 2, 2]]},
    "mnet": {"out_channels": [3, 16], "widths": [4, 4, 4, 4, 4], "sections": 4},
}


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image, and a checkpoint with all heads of random weights."""
    actual = tmp_path_factory.mktemp("heads")
    image = np.random.default_rng(0).integers(0, 256, BOUNDS.shape, dtype=np.uint8)
    spec = VolumeSpec(path=f"zarr://{actual}/em.zarr")
    volume, _ = Volume.create(spec, Layer("uint8", 0), BOUNDS, (10, 10, 10), (16, 16, 16))
    volume.write(BOUNDS, image)
    arguments = NETWORKS[request.param]
    header = Header.model_validate(
        {
            "network": request.param,
            "arguments": arguments,
            "out_channels": 19,
            "heads": HEADS,
            "voxel_size_nm": [10, 10, 10],
            "receptive_field": [8, 16, 16],
            "halo": [2, 16, 16],
            "total_stride": [1, 16, 16],
            "input_tile": [8, 64, 64],
            "output_tile": [4, 32, 32],
        }
    )
    torch.manual_seed(0)
    save_checkpoint(actual / "net.safetensors", build(header).state_dict(), header)
    return actual


def predicted(folder: Path, name: str, block: Triple, heads: list[str]) -> dict[str, np.ndarray]:
    pipeline = {
        "run": f"{folder}/{name}",
        "block": list(block),
        "volumes": {"em": {"path": f"zarr://{folder}/em.zarr"}},
        "steps": [
            {"use": "intensity"},
            {"use": "predict", "with": {"model": f"{folder}/net.safetensors", "heads": heads}},
        ],
    }
    result = run(pipeline)
    assert result.ok, result.failures
    return {
        head: Volume.open(VolumeSpec(path=f"precomputed://{folder}/{name}/{head}")).read(BOUNDS)
        for head in heads
    }


def test_neither_blocks_nor_the_other_heads_change_a_byte(folder: Path) -> None:
    whole = predicted(folder, "whole", (18, 56, 64), list(HEADS))
    for head, array in whole.items():
        assert array.std() > 0, head
    for number, block in enumerate([(7, 16, 32), (5, 30, 22)]):
        parts = predicted(folder, f"parts{number}", block, list(HEADS))
        for head, array in whole.items():
            np.testing.assert_array_equal(parts[head], array, err_msg=f"{head}, {block}")
    alone = predicted(folder, "some", (18, 56, 64), ["synapse", "affinity"])
    for head, array in alone.items():
        np.testing.assert_array_equal(array, whole[head], err_msg=head)
