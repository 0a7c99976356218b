"""The stage track with a network of a checkpoint, which was not trained."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from tests.harness import Memory
from tests.track.runs import run_chain
from tests.track.scenes import affinities, discs, straight
from volflow.checkpoints.header import Normalisation
from volflow.checkpoints.section_header import SectionHeader
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.models import section_checkpoint
from volflow.models.detector.quasidense import QuasiDense
from volflow.models.iicats.follower import NetworkFollower
from volflow.models.iicats.network import IICats
from volflow.stages.followers import input_range, network_header, network_problems
from volflow.stages.track import Track
from volflow.track.detection.quasidense import Detections

SHAPE = (6, 40, 48)
BOUNDS = Box((3, 0, 0), (9, 40, 48))
ARGUMENTS = {"memory": 2, "last_masks": 2}
LAYERS = {"em": Layer("uint8", 0), "affinity": Layer("uint8", 3)}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("network") / "net.safetensors"
    torch.manual_seed(0)
    header = SectionHeader(
        network="iicats",
        arguments=ARGUMENTS,
        voxel_size_nm=(10, 10, 10),
        normalisation=Normalisation(kind="fixed", low=64, high=192),
    )
    section_checkpoint.SECTION_NETWORKS.setdefault("iicats", IICats)
    section_checkpoint.save_section_checkpoint(path, IICats(**ARGUMENTS).state_dict(), header)
    return path


def tracks(stage: Track) -> np.ndarray:
    scene = discs(SHAPE, [straight((14, 12), (0.5, 1), 6), straight((26, 36), (0, -1), 6)], 7)
    image = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
    memory = Memory({"affinity": (affinities(scene), BOUNDS.start), "em": (image, BOUNDS.start)})
    run_chain(stage, memory, BOUNDS, {"affinity": "affinity", "em": "em"}, {})
    return memory.arrays["tracks"][0]


def test_a_network_follows_part_by_part_with_the_same_bytes_twice(checkpoint):
    stage = Track(follower=str(checkpoint), part=2, low=100, threshold=0.5)
    assert stage.halo[0] == 2  # its memory
    once = tracks(stage)
    assert len(np.unique(once)) > 2
    np.testing.assert_array_equal(tracks(stage), once)


def test_the_digest_depends_on_weights_and_not_on_where_they_are(checkpoint, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(checkpoint.read_bytes())
    one, other = Track(follower=str(checkpoint)), Track(follower=str(copy))
    assert one.identity() == other.identity()
    assert one.identity() != Track().identity()
    assert one.identity() != Track(follower=str(copy), types=("p",)).identity()


def test_variants_of_the_paper_are_settings(checkpoint):
    """With and without our additions, other tracks; and something always marks the object."""
    settings = {"follower": str(checkpoint), "part": 2, "low": 100, "threshold": 0.5}
    ours, paper = Track(**settings), Track(**settings, additions=False)
    assert ours.identity() != paper.identity()
    assert not np.array_equal(tracks(ours), tracks(paper))
    with pytest.raises(ValueError, match="nothing marks an object"):
        Track(**settings, additions=False, types=("d",))


def test_problems_of_a_network_with_a_volume(checkpoint, caplog):
    stage = Track(follower=str(checkpoint))
    with caplog.at_level(logging.WARNING):
        assert stage.check_inputs(LAYERS, (10, 10, 10)) == []
    assert "there is no 'mitochondria'" in caplog.text
    assert "there is no 'clefts'" in caplog.text
    (problem,) = stage.check_inputs(LAYERS, (40, 4, 4))
    assert "was trained at 10 x 10 x 10 nm; the volume has 40 x 4 x 4 nm" in problem
    (problem,) = stage.check_inputs({"affinity": LAYERS["affinity"]}, (10, 10, 10))
    assert problem.startswith("em: missing")


def test_the_range_of_intensities_is_of_the_volume_or_of_the_training(checkpoint):
    fixed = network_header(str(checkpoint))
    by_volume = fixed.model_copy(update={"normalisation": Normalisation(low=0.1, high=0.9)})
    quantiles = {"quantiles": np.arange(1001) // 4}
    assert input_range(fixed, None, None) == (64, 192)
    assert input_range(by_volume, (3, 5), quantiles) == (3, 5)
    assert input_range(by_volume, None, None) is None
    assert input_range(by_volume, None, quantiles) == (25, 225)
    problems = network_problems("net", by_volume, (10, 10, 10), 0.2, ranged=False)
    assert "out: {intensity: quantiles}" in problems[0]


@pytest.fixture(scope="module")
def detector(checkpoint) -> Path:
    """A detector that was not trained: whatever it finds, it runs."""
    torch.manual_seed(1)
    header = network_header(str(checkpoint)).model_copy(
        update={"network": "quasidense", "arguments": {}}
    )
    path = checkpoint.with_name("detector.safetensors")
    section_checkpoint.save_section_checkpoint(path, QuasiDense().state_dict(), header)
    return path


def test_boxes_of_a_detector_start_tracks(checkpoint, detector):
    """They belong to the digest."""
    path = detector
    stage = Track(follower=str(checkpoint), detector=str(path), part=3)
    assert len(stage.identity()["networks"]) == 2
    assert stage.check_inputs({"em": LAYERS["em"]}, (10, 10, 10)) == []
    np.testing.assert_array_equal(tracks(stage), tracks(stage))
    with pytest.raises(ValueError, match="expected a network as follower"):
        Track(detector=str(path))
    with pytest.raises(ValueError, match="expected a network 'quasidense'"):
        Track(follower=str(checkpoint), detector=str(checkpoint))


def squares(image):
    """Detections of bright squares, with embeddings by their row."""
    boxes = [b for b in ndimage.find_objects(ndimage.label(image > 200)[0]) if b is not None]
    rows = [(y.start, x.start, y.stop, x.stop) for y, x in boxes]
    vectors = np.eye(4)[[(y.start // 20) for y, _ in boxes]].reshape(-1, 4) * 8
    corners = np.array(rows, np.float32).reshape(-1, 4)
    return Detections(corners, np.full(len(rows), 0.9, np.float32), vectors.astype(np.float32))


@pytest.mark.parametrize("part", [2, 3, 6])
def test_linked_boxes_are_tracks_whatever_the_parts(checkpoint, detector, part, monkeypatch):
    """Two squares, one of which moves: the labels of their first voxels, in every part."""
    image = np.full(SHAPE, 20, np.uint8)
    for z in range(6):
        image[z, 4:14, 4 + 2 * z : 16 + 2 * z] = 250
        image[z, 24:34, 20:30] = 250
    monkeypatch.setattr("volflow.stages.track.make_detector", lambda *_: squares)
    monkeypatch.setattr(
        NetworkFollower, "first_masks", lambda self, boxes: [filled(box) for box in boxes]
    )
    stage = Track(follower=str(checkpoint), detector=str(detector), linked="boxes", part=part)
    assert stage.check_inputs({"em": LAYERS["em"]}, (10, 10, 10)) == []
    memory = Memory({"em": (image, BOUNDS.start)})
    run_chain(stage, memory, BOUNDS, {"em": "em"}, {})
    labels = memory.arrays["tracks"][0]
    np.testing.assert_array_equal(labels > 0, image == 250)
    assert np.unique(labels[:, :20][image[:, :20] == 250]).tolist() == [1 + 4 * 48 + 4]
    assert np.unique(labels[:, 20:][image[:, 20:] == 250]).tolist() == [1 + 24 * 48 + 20]


def filled(box):
    mask = np.zeros(SHAPE[1:], np.float32)
    mask[box[0] : box[2], box[1] : box[3]] = 0.9
    return mask


def test_linked_boxes_need_a_detector_and_follow_everything(checkpoint, detector):
    with pytest.raises(ValueError, match="linked: boxes; expected a detector"):
        Track(follower=str(checkpoint), linked="boxes")
    stage = Track(
        follower=str(checkpoint), detector=str(detector), linked="boxes", points=((4, 5, 6),)
    )
    (problem,) = stage.check_inputs(LAYERS, (10, 10, 10))
    assert problem == "linked: boxes are of all objects; expected masks to follow points"


def test_the_bundled_network_is_taken_by_its_name():
    stage = Track(follower="iicats", voxel_tolerance=0.7)
    ranged = {**LAYERS, "quantiles": None}
    assert stage.check_inputs(ranged, (10, 10, 10)) == []
    (problem,) = stage.check_inputs(LAYERS, (10, 10, 10))
    assert "needs quantiles of the volume" in problem
    (problem,) = stage.check_inputs(ranged, (40, 10, 30))
    assert "was trained at 30 x 10 x 10 nm" in problem


def test_another_checkpoint_is_refused():
    with pytest.raises(ValueError, match="not a network of sections"):
        Track(follower="fib25-lsd")
    with pytest.raises(ValueError, match="there is no 'no_such'"):
        Track(follower="no_such")
