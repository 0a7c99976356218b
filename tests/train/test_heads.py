"""Training of every kind of head: a tiny set is learnt by heart, and the checkpoint names it."""

import json
import sys
import types

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from volflow.checkpoints.header import read_header
from volflow.errors import PlanError
from volflow.models.checkpoint import build, load_checkpoint
from volflow.models.inference import Inference
from volflow.train.config.training import Training
from volflow.train.heads import header_of
from volflow.train.initial_weights import load_encoder, load_initial_weights
from volflow.train.supervised import train
from volflow.train.validation.evaluate import predicted
from volflow.train.validation.scores import best_f1


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    """Slabs with dark walls of no object between them, and bright balls in them."""
    path = tmp_path_factory.mktemp("data") / "slabs.h5"
    labels = np.repeat(np.arange(1, 5), 8)[None, None, :] * np.ones((8, 32, 1), int)
    image = np.full(labels.shape, 130)
    labels[..., ::8] = 0
    image[labels == 0] = 60
    z, y, x = np.ogrid[:8, :32, :32]
    balls = np.zeros(labels.shape, int)
    for number, (at, across) in enumerate([(6, 4), (16, 12), (26, 20), (8, 28)], 1):
        balls[(z - 4) ** 2 + (y - at) ** 2 + (x - across) ** 2 <= 9] = number
    image[balls > 0] = 230
    with h5py.File(path, "w") as file:
        file["raw"], file["labels"] = image.astype(np.uint8), labels.astype(np.uint32)
        file["balls"] = balls.astype(np.uint8)
    return path


def training(volume, out, **changes):
    def at(name):
        return {"path": f"hdf5://{volume}?dataset={name}"}

    one = {"name": "one", "image": at("raw"), "labels": at("labels"), "zero": "background"}
    other = {"name": "other", "image": at("raw"), "masks": {"ball": at("balls")},
             "weight": 2}  # fmt: skip
    printed = {
        "out": str(out),
        "sources": [one, other],
        "validation": {
            "sources": [one, {**one, "name": "flat", "flat": True}, other],
            "every": 80,
            "min_size": 0,
            "flat_min_size": 0,
        },
        "voxel_size_nm": [10, 10, 10],
        "foreground": {},
        "masks": {"organ": {"channels": ["ball", "ball.contour"]}},
        "network": {"widths": [4, 8], "pools": [[1, 2, 2]]},
        "tiles": {"input_tile": [8, 32, 32], "halo": [2, 4, 4]},
        "augmentation": {"transposed_axes": [], "noise": 0.05, "contrast": 0, "brightness": 0},
        "crop": [8, 16, 16],
        "batch": 2,
        "steps": 80,
        "warmup": 5,
        "average": 0.9,
        "learning_rate": 0.03,
        "precision": "fp32",
    }
    return Training.model_validate({**printed, **changes})


@pytest.fixture(scope="module")
def learnt(volume, tmp_path_factory):
    out = tmp_path_factory.mktemp("learnt")
    rows = []
    return train(training(volume, out), rows.append), rows


def test_every_head_of_a_tiny_set_is_learnt_from_sources_that_know_one_each(learnt):
    _, rows = learnt
    last = rows[-1]
    assert set(last["scores"]) == {
        "one.vi", "one.foreground", "flat.vi", "flat.foreground", "other.organ"
    }  # fmt: skip
    assert last["scores"]["one.vi"] < 0.4
    assert last["scores"]["flat.vi"] < 0.4
    assert last["scores"]["one.foreground"] < 0.05
    assert last["scores"]["other.organ"] < 0.2
    assert last["more"]["other"]["f1_ball.contour"] > 0.8
    assert last["score"] == pytest.approx(np.mean(list(last["scores"].values())))
    assert last["score"] == last["best"]


def test_what_was_validated_is_written_down_and_drawn(learnt):
    best, rows = learnt
    remaining = json.loads((best.parent / "validation.jsonl").read_text().splitlines()[-1])
    assert remaining["scores"] == rows[-1]["scores"]
    assert (best.parent / "best.png").read_bytes().startswith(b"\x89PNG")


def test_the_checkpoint_says_which_channels_are_whose(learnt, volume):
    best, rows = learnt
    header = read_header(best)
    assert {name: list(place) for name, (_, place) in header.named.items()} == {
        "affinity": [0, 1, 2], "foreground": [3], "organ": [4, 5]
    }  # fmt: skip
    network, _ = load_checkpoint(best)
    with h5py.File(volume) as file:
        image, balls = (file["raw"][()] - 60.0) / 85 - 1, file["balls"][()]
    created = predicted(Inference(network, header, [4], precision="fp32"), image.astype(np.float32))
    thresholds = training(volume, "nowhere").validation.mask_thresholds
    actual = best_f1(created[0], (balls > 0).astype(np.uint8), thresholds)
    assert actual == pytest.approx(rows[-1]["more"]["other"]["f1_ball"])


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("kind", ["resunet3d", "mnet"])
def test_with_everything_switched_on_an_interruption_leaves_no_trace(volume, tmp_path, kind):
    def plug(row):
        if row["step"] >= 3:
            raise Interrupted

    plain = training(volume, tmp_path)
    everything = {
        "steps": 4, "save_every": 2, "precision": "bf16", "descriptors": {"sigma_nm": 20},
        "sources": [
            {**plain.sources[0].model_dump(), "flat": True, "eroded": 1, "sections": (1, 1)},
            {**plain.sources[1].model_dump(), "rare": 0.5, "voxel_size_nm": (10, 12, 12)},
            {"synthetic": {"bounds": "0:24,0:32,0:32", "synapses": True}, "sections": (1, 2),
             "zero": "background"},
        ],
        "masks": {"organ": {"channels": ["ball", "ball.contour"]},
                  "synapse": {"channels": ["cleft", "pre", "post"]}},
        "validation": {"source": plain.sources[1], "every": 3},
        "mixing": {"frequency": 0.5, "cutmix": 0.5, "window": 9},
        "augmentation": {"rotation": 20, "scaling": 0.1, "misaligned": 0.5, "missing": 0.1,
                         "volume_end_fraction": 0.5},
    }  # fmt: skip
    if kind == "mnet":
        everything["network"] = {"kind": "mnet", "widths": [2, 2, 2, 2, 2]}
        everything["tiles"] = {"input_tile": [16, 64, 64], "halo": [4, 16, 16]}
    train(training(volume, tmp_path / "whole", **everything), lambda row: None)
    with pytest.raises(Interrupted):
        train(training(volume, tmp_path / "parts", **everything), plug)
    train(training(volume, tmp_path / "parts", **everything), lambda row: None)
    for name in ("state.safetensors", "last.safetensors"):
        whole, parts = (tmp_path / run / name for run in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes()


def test_the_header_of_a_mesh_is_the_networks(volume, tmp_path):
    for sections in (4, 8, 16, 20, 64, 400):
        network = {"kind": "mnet", "widths": [2] * 5, "sections": sections}
        tiles = {"input_tile": [64, 64, 64], "halo": [16, 16, 16]}
        how = training(volume, tmp_path, network=network, tiles=tiles, crop=[16, 16, 16])
        created = build(header_of(how))
        assert how.network.stride == created.total_stride == header_of(how).total_stride
        assert list(header_of(how).heads) == ["affinity", "foreground", "organ"]
        assert header_of(how).arguments["out_channels"] == [3, 3]
    alone = training(volume, tmp_path, network=network, tiles=tiles, crop=[16, 16, 16], offsets=[])
    assert header_of(alone).arguments["out_channels"] == [3]


def seen(network, header, image):
    with torch.no_grad():
        created = network.eval()(image)
    return {name: created[:, list(place)] for name, (_, place) in header.named.items()}


def test_a_widened_network_says_at_first_what_the_narrow_one_says(learnt, volume, tmp_path):
    best, _ = learnt
    narrow = build(read_header(best))
    narrow.load_state_dict(load_file(best))
    how = training(
        volume, tmp_path, network={"widths": [6, 11], "pools": [[1, 2, 2]]},
        masks={"other": {"channels": ["ball"]}, "organ": {"channels": ["ball", "ball.contour"]}},
    )  # fmt: skip
    header = header_of(how)
    wide = load_initial_weights(str(best), build(header), header)
    image = torch.randn(1, 1, 8, 16, 16)
    old, new = seen(narrow, read_header(best), image), seen(wide, header, image)
    for name in ("affinity", "foreground", "organ"):
        torch.testing.assert_close(new[name], old[name])
    own = wide.state_dict()["head.weight"]
    assert (own[4] != 0).any()  # the new head is fresh


def test_a_narrower_network_is_refused(learnt, volume, tmp_path):
    best, _ = learnt
    how = training(volume, tmp_path, network={"widths": [4, 7], "pools": [[1, 2, 2]]})
    header = header_of(how)
    with pytest.raises(PlanError, match=r"another shape .* does not fit into it"):
        load_initial_weights(str(best), build(header), header)


def mesh(volume, out, widths=(2, 2, 2, 2, 2)):
    return training(
        volume, out, network={"kind": "mnet", "widths": widths},
        tiles={"input_tile": [16, 64, 64], "halo": [4, 16, 16]},
    )  # fmt: skip


def test_a_training_begins_with_a_pretrained_encoder(volume, tmp_path):
    header = header_of(mesh(volume, tmp_path))
    torch.manual_seed(1)
    first = {n: t for n, t in build(header).state_dict().items() if n.startswith("encoder.")}
    save_file(first, tmp_path / "encoder.safetensors", {"pretraining": "{}"})
    torch.manual_seed(2)
    fresh = build(header).state_dict()
    torch.manual_seed(2)
    started = load_encoder(str(tmp_path / "encoder.safetensors"), build(header)).state_dict()
    for name, tensor in started.items():
        assert torch.equal(tensor, first.get(name, fresh[name]))
    assert any(not torch.equal(tensor, fresh[name]) for name, tensor in first.items())


@pytest.mark.parametrize(
    ("reported", "widths", "words"),
    [
        ({"pretraining": "{}"}, (3, 2, 2, 2, 2), "does not fit the network to be trained"),
        ({}, (2, 2, 2, 2, 2), "start_encoder: expected a file written by `volflow pretrain`"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused(volume, tmp_path, reported, widths, words):
    stored = build(header_of(mesh(volume, tmp_path, widths))).state_dict()
    save_file(stored, tmp_path / "encoder.safetensors", reported)
    network = build(header_of(mesh(volume, tmp_path)))
    with pytest.raises(PlanError, match=words):
        load_encoder(str(tmp_path / "encoder.safetensors"), network)
    with pytest.raises(PlanError, match="start_encoder: checkpoint"):
        load_encoder(str(tmp_path / "nowhere.safetensors"), network)


def test_a_validation_that_knows_nothing_of_what_is_learnt_is_refused(volume, tmp_path):
    how = training(volume, tmp_path, offsets=[[0, 0, -1]], foreground=None)
    with pytest.raises(PlanError, match="source 'one' has no truth for any head that is trained"):
        train(how, lambda row: None)


def test_curves_are_written_where_tensorboard_is(volume, tmp_path, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            self.place = folder, purge_step

        def add_scalar(self, name, number, step):
            written.append((*self.place, name, step, number))

        def flush(self):
            pass

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    rows = []
    train(training(volume, tmp_path, steps=1), rows.append)
    folder = str(tmp_path / "tensorboard")
    assert {entry[:2] for entry in written} == {(folder, 0)}
    actual = {name: number for _, _, name, step, number in written if step == 1}
    assert actual["scores/other.organ"] == rows[-1]["scores"]["other.organ"]
    assert actual["learning_rate"] == pytest.approx(0.03 / 5)
    assert {"loss", "score", "more/one/vi", "scores/flat.vi"} <= set(actual)


def test_without_tensorboard_nothing_is_written(volume, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    train(training(volume, tmp_path, steps=1), lambda row: None)
    assert not (tmp_path / "tensorboard").exists()
