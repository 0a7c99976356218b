"""A small volume of objects, and the pipeline that follows them in slabs and tiles both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import volflow
from tests.engine.runs import files
from tests.track.scenes import affinities, discs
from volflow.checkpoints.header import Normalisation
from volflow.checkpoints.section_header import SectionHeader
from volflow.config.pipeline import from_dict
from volflow.core.geometry import Box, zyx
from volflow.engine.job import Plan
from volflow.engine.plan.plan import plan
from volflow.models import section_checkpoint
from volflow.models.iicats.network import IICats

SHAPE = (16, 48, 64)
START = (3, 5, 7)
BOUNDS = Box(START, zyx(START) + SHAPE)
SEAMS = {"slab": 4, "part": 2, "slab_overlap": 2, "tile": [24, 32], "margin": 8}
"""Four slabs of four tiles, each in two parts."""

VOLUMES = ("ahead", "back", "tracks", "tracks_back", "voted", "fragments", "segmentation")
TABLES = ("beyond_ahead", "beyond_back", "objects")


def write_scene(folder: Path) -> None:
    """Write the volumes `em` and `affinity`, and the checkpoint of a network without training."""
    rng = np.random.default_rng(4)
    starts, steps = rng.uniform((4, 4), (44, 60), (9, 2)), rng.uniform(-1, 1, (9, 2))
    paths = [
        [tuple(a + z * b) for z in range(SHAPE[0])] for a, b in zip(starts, steps, strict=True)
    ]
    scene = discs(SHAPE, paths, radius=7)
    grey = np.where(scene > 0, 190, 60) + rng.integers(-30, 30, SHAPE)
    arrays = {"em": grey.astype(np.uint8), "affinity": affinities(scene)}
    for name, array in arrays.items():
        volflow.write_volume(
            f"zarr://{folder}/{name}.zarr", array, resolution=(10, 10, 10), offset=START
        )
    arguments = {"memory": 1, "last_masks": 1}
    header = SectionHeader(
        network="iicats",
        arguments=arguments,
        voxel_size_nm=(10, 10, 10),
        normalisation=Normalisation(kind="fixed", low=64, high=192),
    )
    torch.manual_seed(0)
    weights = IICats(**arguments).state_dict()
    section_checkpoint.save_section_checkpoint(folder / "net.safetensors", weights, header)


def track_plan(folder: Path, run: Path, block: list[int]) -> Plan:
    """The plan from affinities to a segmentation with votes of tracks.

    The network follows ahead, the affinities back; `block` is that of the segmentation.
    """
    part = [SEAMS["part"], *SEAMS["tile"]]
    volumes = {name: {"path": f"{folder}/{name}.zarr"} for name in ("em", "affinity")}
    linked = {"tracks": "ahead", "beyond": "beyond_ahead"}
    steps = [
        _track("ahead", follower=str(folder / "net.safetensors")),
        _track("back", reverse=True),
        {
            "use": "link_tracks",
            "in": {**linked, "tracks_back": "back", "beyond_back": "beyond_back"},
            "out": {"table": "objects"},
            "with": SEAMS,
        },
        _relabel("ahead", "tracks", part),
        _relabel("back", "tracks_back", part),
        {"use": "vote", "with": {"weight": 0.5, "slab": SEAMS["slab"], "tile": SEAMS["tile"]}},
        {"use": "fragments", "in": {"affinity": "voted"}, "with": {"low": 100}},
        {"use": "agglomerate", "in": {"affinity": "voted"}, "with": {"threshold": 0.3}},
        {"use": "relabel", "name": "segments"},
    ]
    document = {
        "run": str(run),
        "bounds": str(BOUNDS),
        "block": block,
        "volumes": volumes,
        "steps": steps,
    }
    return plan(from_dict(document))


def _track(name: str, **options: Any) -> dict[str, Any]:
    return {
        "use": "track",
        "name": name,
        "out": {"tracks": name, "beyond": f"beyond_{name}", "cells": f"cells_{name}"},
        "with": {**SEAMS, "low": 100, "threshold": 0.5, **options},
    }


def _relabel(source: str, out: str, block: list[int]) -> dict[str, Any]:
    return {
        "use": "relabel",
        "name": out,
        "block": block,
        "in": {"fragments": source, "table": "objects"},
        "out": {"segmentation": out},
    }


def stored(run: Path) -> dict[str, bytes]:
    """Every file of the volumes and tables of a run, but for those about the run itself."""
    return {
        f"{folder}/{name}": body
        for folder in (*VOLUMES, "records")
        for name, body in files(run / folder).items()
        if "owner" not in name
    }
