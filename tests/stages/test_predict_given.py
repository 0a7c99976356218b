"""The network receives and returns what the header and the parameters of `predict` declare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.networks import ARGUMENTS, FIXED, checkpoint, header, network
from tests.stages.test_predict import BOUNDS, EM, at_once
from volflow.checkpoints.header import Normalisation
from volflow.core.geometry import BlockGrid, Box
from volflow.models.checkpoint import save_checkpoint
from volflow.predict.intensity import normalise
from volflow.stages import predict
from volflow.stages.predict import Predict

WHOLE = BlockGrid(BOUNDS, BOUNDS.shape)[0, 0, 0]


def shown(stage: Predict, em: np.ndarray = EM, **given: Any) -> dict[str, np.ndarray]:
    """The output of the stage for the whole volume as one block."""
    return stage.run(WHOLE, em=em, **given)


@pytest.mark.parametrize(
    "printed",
    [
        {"low": 60, "high": 190},
        {"low": 60, "high": 190, "clip": None},
        {"low": 0, "high": 255, "onto": (0, 3), "clip": (0.5, 2.5)},
    ],
)
def test_the_image_is_mapped_as_the_header_says(tmp_path: Path, printed: dict[str, Any]) -> None:
    scaled = Normalisation(kind="fixed", **printed)
    stage = Predict(model=str(checkpoint(tmp_path / "a.safetensors", normalisation=scaled)))
    ends = (scaled.low, scaled.high)
    image = normalise(EM, *ends, scaled.onto, scaled.clip)
    assert np.abs(image - normalise(EM, 0, 255)).max() > 0.5  # not as others are
    # The same numbers, as those of an image that is shown as it is.
    bare = Normalisation(kind="fixed", low=0, high=1, onto=(0, 1), clip=None)
    plain = Predict(model=str(checkpoint(tmp_path / "b.safetensors", normalisation=bare)))
    np.testing.assert_array_equal(shown(stage)["affinity"], shown(plain, image)["affinity"])


def test_quantiles_are_those_that_the_header_names(tmp_path: Path) -> None:
    scaled = Normalisation(low=0.1, high=0.85)
    stage = Predict(model=str(checkpoint(tmp_path / "a.safetensors", normalisation=scaled)))
    quantiles = np.arange(1001) // 4  # of an image with as many voxels of each intensity
    actual = shown(stage, intensity={"quantiles": quantiles})["affinity"]
    given = stage.model_copy(update={"range": (25.0, 212.0)})
    np.testing.assert_array_equal(actual, shown(given)["affinity"])
    near = stage.model_copy(update={"range": (26.0, 212.0)})
    assert (actual != shown(near)["affinity"]).any()


def test_an_image_without_contrast_is_refused(tmp_path: Path) -> None:
    stage = Predict(model=str(checkpoint(tmp_path / "a.safetensors")))
    reported = "the image is constant: 98% of its voxels have the intensity 77"
    with pytest.raises(ValueError, match=reported):
        shown(stage, intensity={"quantiles": np.full(1001, 77)})


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_an_error(tmp_path: Path, number: float) -> None:
    """A channel that is not finite, among others that are, is an error and never some byte."""
    heads = {
        "affinity": {"channels": 3, "offsets": ((-1, 0, 0), (0, -1, 0), (0, 0, -1))},
        "height": {"channels": 1, "sigmoid": False, "range": (-4, 4)},
    }
    printed = header(offsets=(), heads=heads, normalisation=FIXED)
    tensors = network().state_dict()
    tensors["head.bias"][3] = number
    save_checkpoint(tmp_path / "bad.safetensors", tensors, printed)
    stage = Predict(model=str(tmp_path / "bad.safetensors"), heads=("affinity", "height"))
    with pytest.raises(
        ValueError, match=r"bad\.safetensors': the output has values that are not finite"
    ):
        shown(stage)
    assert np.ptp(shown(stage.model_copy(update={"heads": ("affinity",)}))["affinity"]) > 50


def test_tiles_are_as_large_and_overlap_as_much_as_is_reported(tmp_path: Path) -> None:
    model = str(checkpoint(tmp_path / "a.safetensors"))  # halo 10, tiles of 36: 16 are kept
    wide = Box((0, 0, 0), (200, 200, 200))
    assert Predict(model=model).tiling(wide).stride == (16, 16, 16)
    created = Predict(model=model, input_tile=(30, 32, 34), overlap=(2, 4, 8)).tiling(wide)
    assert (created.tile, created.kept) == ((30, 32, 34), (10, 12, 14))
    assert created.stride == (8, 8, 6)
    # Along an axis that one tile covers there is nothing to overlap with.
    assert Predict(model=model, overlap=(2, 4, 8)).tiling(Box((0, 0, 0), (9, 200, 16))).stride == (
        10, 12, 16
    )  # fmt: skip


def test_overlapping_tiles_are_blended(tmp_path: Path) -> None:
    """With less halo than the network sees, tiles differ where they meet, and blending shows."""
    model = str(checkpoint(tmp_path / "a.safetensors", normalisation=FIXED, halo=(2, 2, 2),
                           input_tile=(20, 20, 20)))  # fmt: skip
    printed = {"model": model, "precision": "fp32"}
    plain = shown(Predict(**printed))["affinity"].astype(int)
    blended = shown(Predict(**printed, overlap=(4, 4, 4)))["affinity"].astype(int)
    whole = 255 * at_once(EM, network())[:3]
    assert np.abs(plain - blended).max() > 2
    assert np.square(blended - whole).mean() < np.square(plain - whole).mean()


def test_an_odd_channel_is_averaged_with_its_reverse(tmp_path: Path) -> None:
    """Shown the mirror image, the part of an arrow along the flipped axis points the other way."""
    heads = {
        "arrow": {"channels": 2, "odd": ("x", "")},
        "slope": {"channels": 2, "odd": ("x", ""), "sigmoid": False, "range": (-4, 6)},
    }
    printed: dict[str, Any] = {
        "offsets": (),
        "heads": heads,
        "normalisation": FIXED,
        "arguments": ARGUMENTS,
    }
    model = str(checkpoint(tmp_path / "a.safetensors", **printed))
    plain = Predict(model=model, heads=("arrow", "slope"), precision="fp32")
    here = shown(plain)
    there = shown(plain, np.ascontiguousarray(EM[..., ::-1]))
    actual = shown(plain.model_copy(update={"flips": "x"}))
    for head in heads:
        mirrored = there[head][..., ::-1].astype(float)
        inside = (here[head] % 255 != 0) & (mirrored % 255 != 0)  # not cut off at the range's ends
        assert inside.mean() > 0.5
        mirrored[0] = 255 - mirrored[0]
        mean = (here[head] + mirrored) / 2
        assert np.abs(actual[head] - mean)[inside].max() <= 1.01  # both were rounded before
        assert np.median(np.abs(actual[head][0].astype(float) - here[head][0])) > 2


def test_what_leaves_the_range_of_a_head_is_cut_off(tmp_path: Path) -> None:
    heads = {"height": {"channels": 4, "sigmoid": False, "range": (-0.5, 0.5)}}
    printed: dict[str, Any] = {"offsets": (), "heads": heads, "normalisation": FIXED}
    stage = Predict(model=str(checkpoint(tmp_path / "a.safetensors", **printed)), precision="fp32",
                    heads=("height",))  # fmt: skip
    actual = shown(stage)["height"]
    whole = at_once(EM, network()).astype(float).clip(1e-6, 1 - 1e-6)
    expected = np.clip(np.log(whole / (1 - whole)) + 0.5, 0, 1)
    assert min((expected == 0).mean(), (expected == 1).mean()) > 0.05
    assert np.abs(actual - 255 * expected).max() < 0.51


def test_what_is_reported_of_the_device_reaches_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Seen(Exception):
        pass

    def seen(*given: Any, device: str, precision: str, threads: int, compiled: bool, **_: Any):
        raise Seen((device, precision, threads, compiled))

    monkeypatch.setattr(predict, "_inference", seen)
    model = str(checkpoint(tmp_path / "a.safetensors", normalisation=FIXED))
    for reported in (
        {"device": "cuda", "precision": "fp32", "threads": 3, "compile": True},
        {"device": "cpu", "precision": "bf16", "threads": 1, "compile": False},
    ):
        with pytest.raises(Seen) as caught:
            shown(Predict(model=model, **reported))
        assert caught.value.args[0] == tuple(reported.values())


def test_how_far_voxels_may_differ_changes_no_result(tmp_path: Path) -> None:
    model = str(checkpoint(tmp_path / "a.safetensors"))
    assert Predict(model=model).identity() == Predict(model=model, voxel_tolerance=0.5).identity()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    model = str(checkpoint(tmp_path / "a.safetensors", normalisation=FIXED))
    with pytest.raises(
        ValueError, match="device: torch has no cuda device here; expected cpu or auto, got cuda"
    ):
        shown(Predict(model=model, device="cuda"))
