"""Two neurites and a membrane with a leak: the bundled pipelines keep the neurites apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from volflow import run
from volflow.config.bundled import find_bundled
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.io.volume import Volume

BOUNDS = Box((0, 0, 0), (16, 24, 40))
MEMBRANE = slice(18, 22)  # along x, between the neurites
LEAK = (slice(7, 9), slice(10, 12), MEMBRANE)  # 2 x 2 voxels through it


def probabilities() -> dict[str, np.ndarray]:
    """Affinities and foreground: a membrane is a dip of both, and shallow in the leak."""
    rng = np.random.default_rng(0)
    cytoplasm = rng.integers(235, 256, (3, *BOUNDS.shape))
    dip = np.zeros(BOUNDS.shape, int)
    dip[:, :, MEMBRANE] = np.array([110, 215, 215, 110])
    dip[LEAK] = 45
    affinity = np.clip(cytoplasm - dip, 0, 255)
    foreground = np.clip(cytoplasm[0] - dip, 0, 255)
    return {"affinity": affinity.astype(np.uint8), "foreground": foreground.astype(np.uint8)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, array in probabilities().items():
        spec = VolumeSpec(path=f"zarr://{tmp_path}/{name}.zarr")
        layer = Layer("uint8", len(array) if array.ndim == 4 else 0)
        volume, _ = Volume.create(spec, layer, BOUNDS, (30, 9, 9), (16, 16, 16))
        volume.write(BOUNDS, array)
    return tmp_path


def steps_after_predict(pipeline: str) -> list[dict[str, Any]]:
    """The steps of a bundled pipeline from affinities and foreground to labels."""
    document = yaml.safe_load(find_bundled(pipeline, "pipelines", "pipeline").read_text())
    left_out = ("intensity", "predict", "pyramid")
    return [step for step in document["steps"] if step["use"] not in left_out]


def segmentation(
    folder: Path, name: str, steps: list[dict[str, Any]], block: tuple[int, int, int]
) -> np.ndarray:
    volumes = {key: {"path": f"zarr://{folder}/{key}.zarr"} for key in ("affinity", "foreground")}
    document = {"run": f"{folder}/{name}", "block": list(block), "volumes": volumes, "steps": steps}
    assert run(document).ok
    spec = VolumeSpec(path=f"precomputed://{folder}/{name}/segmentation")
    return Volume.open(spec, own=True).read(BOUNDS)


def neurites(segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The segments of at least 1 % of the voxels of each neurite."""
    actual = []
    for side in (segments[:, :, : MEMBRANE.start], segments[:, :, MEMBRANE.stop :]):
        names, counts = np.unique(side, return_counts=True)
        actual.append(names[counts >= side.size // 100])
    return actual[0], actual[1]


def test_a_leaky_membrane_does_not_merge_two_neurites(folder):
    steps = steps_after_predict("segneuron")
    actual = segmentation(folder, "whole", steps, BOUNDS.shape)
    left, right = neurites(actual)
    assert len(left) == len(right) == 1
    assert 0 < left[0] != right[0] > 0
    assert (actual > 0).all()
    parts = segmentation(folder, "parts", steps, (8, 16, 16))
    np.testing.assert_array_equal(parts, actual)


def test_a_mask_leaves_the_membrane_out_and_both_neurites_as_they_are(folder):
    steps = steps_after_predict("segneuron")
    whole = segmentation(folder, "unmasked", steps, BOUNDS.shape)
    steps[-1]["with"] = {"mask_below": 0.5}
    inside = probabilities()["foreground"] >= 128
    assert not inside[0, 0, 19:21].any()
    for block in (BOUNDS.shape, (8, 16, 16)):
        actual = segmentation(folder, f"masked{block[0]}", steps, block)
        np.testing.assert_array_equal(actual, np.where(inside, whole, 0))


def test_without_its_membrane_the_leak_is_the_whole_contact_and_merges_them(folder):
    steps = steps_after_predict("segneuron")
    for step in steps:
        if step["use"] == "restrict":
            step["with"] = {"least": 0.5}
        if step["use"] == "fragments":
            step["with"] = {"low": 1}
    left, right = neurites(segmentation(folder, "leaks", steps, BOUNDS.shape))
    assert left.tolist() == right.tolist()


def test_the_multicut_keeps_them_apart_too(folder):
    pytest.importorskip("bioimage_cpp")
    steps = steps_after_predict("segneuron_multicut")
    for step in steps:
        step.pop("block", None)
    left, right = neurites(segmentation(folder, "cut", steps, BOUNDS.shape))
    assert len(left) == len(right) == 1
    assert left[0] != right[0]
