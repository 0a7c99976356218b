"""Training of the tracker: resumed or not, the same bytes; the published network trains a step."""

import json

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch

from volflow.config.bundled import bundled
from volflow.errors import PlanError
from volflow.models.detector.inference import BoxDetector
from volflow.models.detector.quasidense import PRESETS, QuasiDense
from volflow.track.detection.quasidense import Detections
from volflow.train.config.tracker import SampleSpec, TrackerTraining, load_tracker
from volflow.train.data.samples import Source
from volflow.train.kinds import kind_of
from volflow.train.loop import optimise
from volflow.train.state import State
from volflow.train.tracker import training as module
from volflow.train.tracker.objective import tracker_losses
from volflow.train.tracker.objects import Objects
from volflow.train.tracker.pairs import Pairs, draw_pairs
from volflow.train.tracker.training import (
    TrackerTask,
    header_of,
    optimizer_of,
    scale_of,
    tracker_problems,
    train_tracker,
)
from volflow.train.tracker.validation import Counts, _box_counts, link_counts, matched_boxes

TINY = {"channels": 8, "hidden": 8, "embedding": 4, "convolutions": 1}
SMALL = {
    "kind": "tracker",
    "sources": [{"synthetic": {"bounds": "0:6,0:48,0:48"}}],
    "validation": {"sources": [{"synthetic": {"bounds": "0:2,0:32,0:32"}}], "every": 2},
    "voxel_size_nm": [10, 10, 10],
    "samples": {"anchors": 32, "boxes": 16, "keys": 8, "references": 8},
    "augmentation": {"transposed_axes": [1, 2], "planar": True},
    "crop": [32, 32],
    "batch": 1,
    "steps": 3,
    "save_every": 2,
}


def stored(folder, name, sections, **changes):
    """A volume of squares that move, as files."""
    labels = np.zeros((sections, 48, 48), np.uint16)
    for z in range(sections):
        labels[z, 4 : 18 + z, 6:20] = 3
        labels[z, 26:40, 8 + z : 24 + z] = 5
        labels[z, 10:20, 30:44] = 8
    noise = np.random.default_rng(0).integers(0, 40, labels.shape)
    image = (np.where(labels > 0, 180, 60) + noise).astype(np.uint8)
    source = {"name": name, "zero": "background", "voxel_size_nm": [10, 10, 10], **changes}
    for part, array in (("image", image), ("labels", labels)):
        tifffile.imwrite(folder / f"{name}_{part}.tif", array, photometric="minisblack")
        source[part] = {"path": str(folder / f"{name}_{part}.tif")}
    return source


def stored_training(folder, out, **changes):
    """The small training on stored volumes."""
    held_out = {"sources": [stored(folder, "other", 3, bounds="0:3,0:32,0:32")], "every": 2}
    sources = [stored(folder, "squares", 6)]
    return small(folder / out, sources=sources, validation=held_out, **changes)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(PRESETS, "light", {**PRESETS["light"], **TINY})


def small(out, **changes):
    return TrackerTraining.model_validate({**SMALL, "out": str(out), **changes})


class Stopped(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_an_interrupted_training_ends_in_the_same_bytes(tmp_path, tiny, optimizer):
    rows = []
    best = train_tracker(stored_training(tmp_path, "whole", optimizer=optimizer), rows.append)
    assert best == tmp_path / "whole" / "best.safetensors"

    def stop(row):
        if "scores" in row and row["step"] == 3:
            raise Stopped

    broken = stored_training(tmp_path, "broken", optimizer=optimizer)
    with pytest.raises(Stopped):
        train_tracker(broken, stop)
    resumed = []
    train_tracker(broken, resumed.append)
    assert [row["step"] for row in resumed if "scores" in row] == [3]  # from step 2, not from 0
    for name in ("state.safetensors", "last.safetensors", "best.safetensors", "best.png"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    lines = (tmp_path / "whole" / "validation.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert set(first["scores"]) == {"other.boxes", "other.links"}
    assert first["score"] == pytest.approx(np.mean(list(first["scores"].values())))
    picture = imagecodecs.png_decode((tmp_path / "whole" / "best.png").read_bytes())
    assert picture.shape == (32, 2 * 32 + 4, 3)
    detected = BoxDetector.load(best).detect(np.zeros((40, 40), np.float32))
    assert all(len(part) == len(detected[0]) for part in detected)


def squares(shift=0):
    """Two bright squares on a dark ground, and their boxes."""
    section = np.full((64, 64), -1, np.float32)
    boxes = np.array([[6, 8 + shift, 22, 24 + shift], [36, 30 - shift, 50, 52 - shift]])
    for y0, x0, y1, x1 in boxes:
        section[y0:y1, x0:x1] = 1
    return section, boxes.astype(np.float32)


def square_pair():
    sections, boxes = zip(squares(), squares(3), strict=True)
    return Pairs(
        torch.from_numpy(np.stack(sections))[:, None],
        [torch.from_numpy(b) for b in boxes],
        [torch.tensor([4, 9])] * 2,
        [True],
    )


def test_the_loss_of_one_pair_falls_and_every_tensor_has_a_gradient(tmp_path, tiny):
    training = small(tmp_path, crop=[64, 64], learning_rate=3e-3, warmup=0, steps=40)
    torch.manual_seed(0)
    network = QuasiDense(**PRESETS["light"])
    state = State(network, optimizer_of(training, network))
    task = TrackerTask(training, None, [], [], tmp_path)
    losses = [optimise(task, state, square_pair()) for _ in range(16)]
    assert np.mean(losses[-3:]) < 0.75 * losses[0]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_the_published_network_trains_a_step(tmp_path):
    """ResNet-50 with pyramid; hidden layers are narrow here, to save time."""
    torch.manual_seed(0)
    network = QuasiDense(
        **{**PRESETS["resnet50"], "norm": "frozen", "hidden": 16, "channels": 32, "convolutions": 1}
    )
    body = network.backbone.body
    constants = {n: t.clone() for n, t in body.named_buffers()}
    weight = body.layer3[2].conv2.weight.detach().clone()
    optimizer = torch.optim.SGD(network.parameters(), 0.02, momentum=0.9)
    losses = tracker_losses(network, square_pair(), SampleSpec(), np.random.default_rng(0))
    torch.stack(losses).sum().backward()
    optimizer.step()
    assert all(float(loss.detach()) > 0 for loss in losses)
    assert not torch.equal(body.layer3[2].conv2.weight, weight)
    assert all(torch.equal(t, constants[n]) for n, t in body.named_buffers())


def test_pairs_are_two_sections_of_a_crop_up_to_the_scope_apart(tmp_path):
    depth = 12
    truth = np.zeros((depth, 40, 40), np.int32)
    truth[:, 4:30, 6:20] = 3
    truth[:, 32:36, 30:38] = 8
    image = np.arange(depth, dtype=np.float32)[:, None, None] * np.ones((1, 40, 40), np.float32)
    plain = dict.fromkeys(("contrast", "brightness", "gamma", "section_contrast", "noise"), 0.0)
    training = small(
        tmp_path,
        batch=40,
        augmentation={**plain, "blurred": 0, "transposed_axes": []},
        crop=[32, 32],
    )
    pairs = draw_pairs([Source(image, truth)], training, 0)
    assert pairs.sections.shape == (80, 1, 32, 32)
    depths = pairs.sections[:, 0, 0, 0].round().int()
    apart = (depths[40:] - depths[:40]).tolist()
    assert set(apart) == {-3, -2, -1, 1, 2, 3}
    assert pairs.linked == [True] * 40
    again = draw_pairs([Source(image, truth)], training, 0)
    assert torch.equal(pairs.sections, again.sections)
    assert not torch.equal(draw_pairs([Source(image, truth)], training, 1).sections, again.sections)
    for boxes, identities in zip(pairs.boxes, pairs.identities, strict=True):
        assert len(boxes) == len(identities) >= 1
        assert set(identities.tolist()) <= {3, 8}
    flat = draw_pairs([Source(image, truth, flat=True)], training, 0)
    assert flat.linked == [False] * 40


def test_sizes_of_anchors_suit_the_objects(tmp_path):
    truth = np.zeros((2, 80, 80), np.int32)
    truth[:, 10:42, 10:42] = 1  # 32 pixels: sqrt(2 * 32) = 8 strides are the middle, so 4 of them
    source = Source(np.zeros(truth.shape, np.float32), truth)
    assert scale_of(small(tmp_path), [source]) == 4
    assert header_of(small(tmp_path), [source]).arguments["anchor_scale"] == 4
    fixed = small(tmp_path, network={"anchor_scale": 2.5})
    assert header_of(fixed, []).arguments["anchor_scale"] == 2.5


def test_detections_are_paired_with_objects_one_to_one():
    objects = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], float)
    boxes = np.array([[0, 0, 10, 9], [0, 0, 10, 10], [20, 20, 30, 24], [20, 20, 30, 26]], float)
    assert matched_boxes(boxes, objects).tolist() == [0, -1, -1, 1]
    assert matched_boxes(boxes[:0], objects).tolist() == []
    assert matched_boxes(boxes, objects[:0]).tolist() == [-1] * 4


def test_small_objects_count_neither_as_missed_nor_as_wrong():
    objects = Objects(np.zeros((3, 4)), np.array([1, 2, 3]), np.array([50, 5, 50]))
    shown = Detections(np.zeros((3, 4)), np.ones(3), np.zeros((3, 1)))
    counts = _box_counts(shown, objects, np.array([0, 1, -1]), 10)
    assert counts == Counts(objects=2, detections=2, agreements=1)
    assert (counts.recall, counts.precision, counts.f1) == (0.5, 0.5, 0.5)
    assert Counts().plus(counts) == counts
    assert Counts().f1 == 1


def test_links_are_counted_among_detected_objects():
    before = np.array([1, 2, 3, 0]), np.array([11, 12, 13, 14])
    after = np.array([1, 2, 4, 5]), np.array([11, 19, 13, 14])
    # true links: 1-1 and 2-2; tracks link 1-1 and 3-4; track 14 begins at no object
    assert link_counts(before, after) == Counts(objects=2, detections=2, agreements=1)


def test_bundled_files_have_the_kind_that_they_name(tmp_path):
    files = bundled("pipelines/train")
    assert kind_of(files["tracker"]) is module.KIND
    assert kind_of(files["fib25"]).run is not module.KIND.run
    training = load_tracker(files["tracker"], [f"out={tmp_path}"])
    assert [source.title for source in training.validation.sources] == ["fib25", "ac3"]
    other = tmp_path / "other.yaml"
    other.write_text("kind: traker\n")
    with pytest.raises(PlanError, match=r"kind: expected .*tracker.*'traker'; did you mean"):
        kind_of(other)
    assert kind_of(tmp_path / "missing.yaml") is kind_of(files["fib25"])


def test_files_that_do_not_fit_are_refused(tmp_path):
    for changes, message in (
        ({"crop": [40, 32]}, "multiple of 32"),
        ({"start_backbone": "a.safetensors"}, "need `network.norm: frozen`"),
        ({"samples": {"positive": 0.2}}, "negative must be at most positive"),
        ({"validation": {"sources": SMALL["sources"] * 2}}, "names that differ"),
    ):
        with pytest.raises(ValueError, match=message):
            small(tmp_path, **changes)
    masks = [{"image": {"path": "a.tif"}, "masks": {"m": {"path": "b.tif"}}}]
    with pytest.raises(ValueError, match="expected labels, of which boxes are made"):
        small(tmp_path, sources=masks)
    thin = [{"synthetic": {"bounds": "0:3,0:48,0:48"}}]
    assert tracker_problems(small(tmp_path, sources=thin))[0].startswith("sources[0]: ")
    missing = small(
        tmp_path, start_backbone=str(tmp_path / "no.safetensors"), network={"norm": "frozen"}
    )
    with pytest.raises(PlanError, match="start_backbone"):
        module.check_start(missing)
