"""Training: a tiny set is learnt by heart, and an interruption leaves no trace."""

import json
import shutil

import h5py
import numpy as np
import pytest
from safetensors.torch import load_file

from volflow.checkpoints.header import read_header
from volflow.errors import PlanError, StorageError
from volflow.models.checkpoint import load_checkpoint
from volflow.models.inference import Inference
from volflow.segment.descriptors import descriptors
from volflow.train.config.training import Training
from volflow.train.data.sources import open_source
from volflow.train.supervised import relative_rate, train
from volflow.train.validation.evaluate import predicted


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    """Slabs of two grey values and dark walls between them, with their labels."""
    path = tmp_path_factory.mktemp("data") / "slabs.h5"
    labels = np.repeat(np.arange(1, 7), 4)[None, None, :] * np.ones((24, 24, 1), int)
    labels += 10 * (np.arange(24)[:, None, None] // 12)
    image = np.where(labels % 2, 180, 130).astype(np.uint8)
    image[..., ::4] = 60
    image[12] = 60
    with h5py.File(path, "w") as file:
        file["raw"], file["labels"] = image, labels.astype(np.uint32)
    return path


def training(volume, out, **changes):
    source = {
        "image": {"path": f"hdf5://{volume}?dataset=raw"},
        "labels": {"path": f"hdf5://{volume}?dataset=labels"},
    }
    printed = {
        "out": str(out),
        "sources": [source],
        "validation": {"source": source, "every": 20, "min_size": 0},
        "voxel_size_nm": [10, 10, 10],
        "offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, 0, -4]],
        "network": {"widths": [4, 8], "pools": [[2, 2, 2]]},
        "tiles": {"input_tile": [24, 24, 24], "halo": [4, 4, 4]},
        "augmentation": {"flips": False, "transposed_axes": [], "noise": 0.05},
        "crop": [16, 16, 16],
        "steps": 100,
        "warmup": 5,
        "average": 0.9,
        "learning_rate": 0.01,
        "precision": "fp32",
    }
    return Training.model_validate({**printed, **changes})


def test_a_tiny_set_is_learnt_by_heart(volume, tmp_path):
    rows = []
    best = train(training(volume, tmp_path), rows.append)
    losses = [row["loss"] for row in rows]
    assert losses[-1] < 0.4 * losses[0]
    assert rows[-1]["best"] < 0.1
    network, header = load_checkpoint(best)
    assert not network.training
    assert header == read_header(best)
    assert header.offsets[3] == (0, 0, -4)
    assert header.output_tile == (16, 16, 16)
    remaining = [
        json.loads(line) for line in (tmp_path / "validation.jsonl").read_text().splitlines()
    ]
    assert [row["step"] for row in remaining] == [20, 40, 60, 80, 100]
    assert min(row["vi"] for row in remaining) == rows[-1]["best"]
    picture = (tmp_path / "best.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


class Interrupted(Exception):
    pass


def test_an_interrupted_training_ends_in_the_same_bytes(volume, tmp_path):
    def plug(row):
        if row["step"] >= 20:
            raise Interrupted

    short = {"steps": 30, "save_every": 7, "freeze_norm_fraction": 0.3, "precision": "bf16"}
    short["augmentation"] = {"rotation": 20, "missing": 0.1}
    train(training(volume, tmp_path / "whole", **short), lambda row: None)
    with pytest.raises(Interrupted):
        train(training(volume, tmp_path / "parts", **short), plug)
    train(training(volume, tmp_path / "parts", **short), lambda row: None)
    for name in ("state.safetensors", "last.safetensors"):
        whole, parts = (load_file(tmp_path / run / name) for run in ("whole", "parts"))
        assert whole.keys() == parts.keys()
        for key in whole:
            np.testing.assert_array_equal(whole[key].float(), parts[key].float(), err_msg=key)


SHAPES = {"descriptors": {"sigma_nm": 30, "weight": 20, "step": 2}}


def test_descriptors_are_learnt_next_to_affinities(volume, tmp_path):
    rows = []
    best = train(training(volume, tmp_path, **SHAPES), rows.append)
    errors = [row["lsd_rms"] for row in rows if "vi" in row]
    assert errors[-1] < 0.8 * errors[0]
    assert rows[-1]["best"] < 0.1
    # Along x the slabs' walls show how far a voxel is from the middle; by chance, or by their
    # mean, it would be predicted with an error as large as its spread.
    how = training(volume, tmp_path, **SHAPES)
    source = open_source(how.sources[0], how.normalisation)
    network, header = load_checkpoint(best.with_name("last.safetensors"))
    along_x = header.named["lsd"][1][2]
    created = predicted(Inference(network, header, [along_x], precision="fp32"), source.image)
    wanted = descriptors(source.truth, 30, (10, 10, 10))[2]
    assert np.sqrt(np.mean((created[0] / 255 - wanted) ** 2)) < 0.65 * wanted.std()
    assert header.heads == read_header(best).heads
    assert list(header.heads) == ["affinity", "lsd"]
    assert header.heads["affinity"].offsets[3] == (0, 0, -4)
    assert (header.heads["lsd"].channels, header.heads["lsd"].sigma_nm) == (10, 30)
    assert header.out_channels == 14


def test_an_interrupted_training_of_descriptors_ends_in_the_same_bytes(volume, tmp_path):
    def plug(row):
        if row["step"] >= 20:
            raise Interrupted

    short = {"steps": 26, "save_every": 7, **SHAPES}
    short["augmentation"] = {"rotation": 20, "misaligned": 0.5, "volume_end_fraction": 0.5}
    train(training(volume, tmp_path / "whole", **short), lambda row: None)
    with pytest.raises(Interrupted):
        train(training(volume, tmp_path / "parts", **short), plug)
    train(training(volume, tmp_path / "parts", **short), lambda row: None)
    whole, parts = ((tmp_path / run / "state.safetensors") for run in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


def test_a_training_starts_from_another_ones_weights(volume, tmp_path):
    first = train(training(volume, tmp_path / "a", steps=1), lambda row: None)
    stored = load_file(first)
    printed = {"steps": 1, "learning_rate": 1e-30, "start": str(first), "average": 0, **SHAPES}
    offsets = [[0, 0, -1], [-1, 0, 0], [-5, 0, 0], [0, -1, 0]]  # in another order, one is new
    how = training(
        volume, tmp_path / "b", offsets=offsets, weight_decay=0, freeze_norm_fraction=1, **printed
    )
    train(how, lambda row: None)
    started = load_file(tmp_path / "b" / "last.safetensors")
    for name, tensor in stored.items():
        if not name.startswith("head."):
            np.testing.assert_allclose(started[name], tensor, atol=1e-12, err_msg=name)
    for name in ("head.weight", "head.bias"):
        assert len(started[name]) == 14
        np.testing.assert_allclose(started[name][[0, 1, 3]], stored[name][[2, 0, 1]], atol=1e-12)
        assert (started[name][[2, *range(4, 14)]] != 0).all()


@pytest.mark.parametrize(
    ("start", "reported"),
    [
        ("nowhere.safetensors", "start: there is no network 'nowhere.safetensors'"),
        ("fib25-affinity", "start: the network of 'fib25-affinity' has another shape"),
    ],
)
def test_what_a_training_cannot_start_from_is_reported(volume, tmp_path, start, reported):
    with pytest.raises(PlanError, match=reported):
        train(training(volume, tmp_path, start=start), lambda row: None)


def test_a_state_of_another_training_is_refused(volume, tmp_path):
    train(training(volume, tmp_path / "a", steps=1), lambda row: None)
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a" / "state.safetensors", tmp_path / "b")
    other = {"widths": [3, 8], "pools": [[2, 2, 2]]}
    with pytest.raises(StorageError, match="not of this training"):
        train(training(volume, tmp_path / "b", network=other), lambda row: None)


def test_the_learning_rate_rises_stays_and_falls(volume, tmp_path):
    how = training(volume, tmp_path, steps=100, warmup=10, decay=0.5)
    rates = [relative_rate(step, how) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert set(rates[9:51]) == {1.0}
    assert rates[75] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.03
