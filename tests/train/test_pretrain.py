"""Pretraining: the loss falls, only the encoder is kept, what was interrupted ends in the same."""

import json
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from volflow.core.geometry import Box
from volflow.errors import PlanError
from volflow.models.mnet import MNet
from volflow.train.config.pretraining import Pretraining, load_pretraining
from volflow.train.config.training import load
from volflow.train.data.images import (
    Image,
    image_problems,
    open_image,
    padded_by_reflection,
    random_crop,
)
from volflow.train.loop import optimise
from volflow.train.pretrain import PretrainingTask, batch, initial_state, pretrain

SMALL = {
    "sources": [{"synthetic": {"bounds": "0:12,0:40,0:40", "seed": 5}}],
    "validation": {
        "source": {"synthetic": {"bounds": "0:8,0:32,0:32", "seed": 6}},
        "every": 2,
        "crops": 1,
    },
    "voxel_size_nm": [10, 10, 10],
    "network": {"widths": [2, 2, 2, 2, 2]},
    "crop": [4, 32, 32],
    "batch": 2,
    "steps": 3,
    "save_every": 2,
}


def small(out, **changes):
    return Pretraining.model_validate({**SMALL, "out": str(out), **changes})


class Stopped(Exception):
    pass


def test_only_the_encoder_is_kept_and_fits_a_network_that_is_trained(tmp_path):
    rows = []
    created = pretrain(small(tmp_path), rows.append)
    assert created == tmp_path / "encoder.safetensors"
    stored, network = load_file(created), MNet(widths=SMALL["network"]["widths"])
    own = {n for n in network.state_dict() if n.startswith("encoder.")}
    assert stored.keys() == own
    fresh = network.state_dict()
    assert all(stored[name].shape == fresh[name].shape for name in own)
    assert not network.load_state_dict(stored, strict=False).unexpected_keys
    with safe_open(created, "pt") as file:
        reported = json.loads(file.metadata()["pretraining"])
    assert reported["network"]["widths"] == SMALL["network"]["widths"]
    checked = [row for row in rows if "error" in row]
    assert [row["step"] for row in checked] == [2, 3]
    assert reported["error"] == min(row["error"] for row in checked)
    lines = (tmp_path / "validation.jsonl").read_text().splitlines()
    assert [json.loads(line)["error"] for line in lines] == [row["error"] for row in checked]
    picture = imagecodecs.png_decode((tmp_path / "newest.png").read_bytes())
    assert picture.shape == (32, 5 * 32 + 4 * 4)


@pytest.mark.parametrize("normalisation", ["instance", "batch"])
def test_an_interrupted_pretraining_ends_in_the_same_bytes(tmp_path, normalisation):
    network = {**SMALL["network"], "normalisation": normalisation}
    pretrain(small(tmp_path / "whole", network=network), lambda row: None)

    def stop(row):
        if "error" in row and row["step"] == 3:
            raise Stopped

    broken = small(tmp_path / "broken", network=network)
    with pytest.raises(Stopped):
        pretrain(broken, stop)
    resumed = []
    pretrain(broken, resumed.append)
    assert [row["step"] for row in resumed if "error" in row] == [3]  # from step 2, not from 0
    for name in ("state.safetensors", "encoder.safetensors", "newest.png"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_loss_falls(tmp_path):
    config = small(tmp_path, steps=40, batch=1)
    sources = [open_image(spec, config) for spec in config.sources]
    state, task = initial_state(config), PretrainingTask(config, sources, sources[0], tmp_path)
    losses = [optimise(task, state, batch(sources, config, 0)) for _ in range(15)]
    assert losses[-1] < 0.6 * losses[0]


def test_the_rate_falls_and_then_stays(tmp_path):
    config = small(tmp_path, steps=400, falling=0.5)
    rates = [config.rate(step) for step in (0, 100, 200, 399)]
    # Half way down: 0.5 ** 1.5 of the span is left.
    assert rates == pytest.approx([1e-2, 1e-4 + (1e-2 - 1e-4) * 0.35355, 1e-4, 1e-4], rel=1e-4)


def test_a_step_is_shown_what_is_hidden_and_asked_what_was_there(tmp_path):
    config = small(tmp_path)
    sources = [open_image(spec, config) for spec in config.sources]
    crops, again, other = (batch(sources, config, number) for number in (3, 3, 4))
    assert torch.equal(crops.masked, again.masked)
    assert not torch.equal(crops.image, other.image)
    assert not torch.equal(crops.image[0], crops.image[1])
    changed = (crops.masked != crops.image).float().mean()
    assert 0.45 < changed < 0.75
    assert (crops.edges >= 0).all()


def test_crops_are_parts_of_the_image_flipped_and_every_nth_section_is_shown():
    z, y, x = np.meshgrid(np.arange(15), np.arange(20), np.arange(20), indexing="ij")
    sources = [Image((z * 10000 + y * 100 + x).astype(np.float32), sections=(1, 9))]
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(60):
        crop = random_crop(sources, (4, 16, 16), rng)
        assert crop.shape == (4, 16, 16)
        steps = [np.unique(np.diff(crop, axis=axis)) for axis in range(3)]
        assert all(len(actual) == 1 for actual in steps)
        seen.add(tuple(int(actual[0]) for actual in steps))
    sizes = {tuple(abs(s) for s in actual) for actual in seen}
    assert {size[0] for size in sizes} == {10000, 20000, 30000, 40000}  # no more than fit
    assert {size[1:] for size in sizes} == {(100, 1), (1, 100)}
    assert {actual[0] < 0 for actual in seen} == {True, False}


def test_a_source_smaller_than_a_crop_is_continued_by_its_mirror_image():
    image = np.arange(5, dtype=np.float32)[:, None, None] * np.ones((1, 4, 4), np.float32)
    actual = padded_by_reflection(image, (8, 4, 4))
    np.testing.assert_array_equal(actual[:, 0, 0], [1, 0, 1, 2, 3, 4, 3, 2])
    assert padded_by_reflection(image, (5, 2, 4)) is image


def test_sources_that_cannot_be_used_are_named(tmp_path):
    config = small(
        tmp_path,
        sources=[
            {"image": {"path": str(tmp_path / "nothing.tif")}},
            {"synthetic": {"bounds": "0:2,0:40,0:40"}},
        ],
    )
    first, second, hint = image_problems(config)
    assert "training data are not bundled" in hint
    assert first.startswith("sources[0]: ")
    assert "nothing.tif" in first
    assert second == (
        "sources[1]: 0:2,0:40,0:40 is too small; expected at least (3, 17, 17), which can be "
        "reflected to a crop of (4, 32, 32)"
    )


BUNDLED = Path(__file__).parents[2] / "pipelines" / "pretrain" / "segneuron.yaml"

TESTED = {  # what no file may look at: sections of volumes, by their file
    "ts2_z000-165.h5": (120, 165),
    "train_50x100x200.h5": (35, 50),
    "stack1_s00-14.h5": (9, 15),
    "train_s00-23.h5": (16, 24),
    "wide_z000-087.h5": (56, 87),
    "inner_z000-100.h5": (69, 100),
}


def test_the_bundled_file_is_right_and_looks_at_nothing_that_is_tested_on():
    config = load_pretraining(BUNDLED)
    actual = set()
    for source in config.sources:
        name = "" if source.image is None else source.image.path.partition("?")[0].split("/")[-1]
        if name in TESTED:
            assert source.bounds is not None
            used = Box.parse(source.bounds)
            assert used.stop[0] <= TESTED[name][0]
            actual.add(name)
    assert actual == set(TESTED)


def test_the_bundled_encoder_is_that_of_the_bundled_training():
    pretraining = load_pretraining(BUNDLED)
    training = load(BUNDLED.parents[1] / "train" / "segneuron.yaml")
    assert training.network.kind == pretraining.network.kind
    assert training.network.shape == pretraining.network.widths
    assert training.network.normalisation == pretraining.network.normalisation
    assert training.normalisation == pretraining.normalisation
    assert training.voxel_size_nm == pretraining.voxel_size_nm


def written(tmp_path, text):
    path = tmp_path / "pretrain.yaml"
    path.write_text(text)
    return path


def test_all_mistakes_of_a_file_are_reported_with_their_lines(tmp_path):
    path = written(
        tmp_path,
        "out: here\nvoxel_size_nm: [10, 10, 10]\nstep: 5\nbatch: 0\nsources:\n"
        "  - {sections: [3, 1], synthetic: {bounds: '0:8,0:32,0:32'}}\n"
        "validation: {source: {synthetic: {bounds: '0:8,0:32,0:32'}}}\n",
    )
    with pytest.raises(PlanError) as reported:
        load_pretraining(path)
    lines = {line.partition(": ")[0] for line in reported.value.problems}
    assert lines == {f"{path}:{line}" for line in (3, 4, 6)}
    text = str(reported.value)
    assert "sections must ascend, as [1, 3]; got [3, 1]" in text
    assert "did you mean 'steps'?" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"crop": [8, 24, 32]}, "multiple of 16 along y and x"),
        ({"crop": [9, 32, 32]}, "multiple of the depth of a masked cell along z"),
        ({"least_learning_rate": 1.0}, "must not be above learning_rate"),
        ({"sources": []}, "expected at least one"),
        ({"sources": [{}]}, "expected either image or synthetic"),
        ({"network": {"widths": [2, 3]}}, "widths"),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        small(tmp_path, **changes)


def test_a_constant_image_is_named(tmp_path):
    import tifffile

    tifffile.imwrite(tmp_path / "grey.tif", np.full((8, 32, 32), 7, np.uint8))
    config = small(tmp_path, sources=[{"image": {"path": str(tmp_path / "grey.tif")}}])
    assert image_problems(config) == []
    with pytest.raises(PlanError, match=r"grey\.tif: the image is constant"):
        open_image(config.sources[0], config)
