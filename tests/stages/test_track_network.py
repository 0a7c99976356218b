"""The stage track with a network of a checkpoint, which was not trained."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.harness import Memory
from tests.track.runs import run_chain
from tests.track.scenes import affinities, discs, straight
from volflow.checkpoints.header import Normalisation
from volflow.checkpoints.section_header import SectionHeader
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.models import section_checkpoint
from volflow.models.detector.quasidense import QuasiDense
from volflow.models.iicats.network import IICats
from volflow.stages.followers import input_range, network_header, network_problems
from volflow.stages.track import Track

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


def test_boxes_of_a_detector_start_tracks(checkpoint, tmp_path):
    """A detector that was not trained: whatever it finds, it runs, and belongs to the digest."""
    torch.manual_seed(1)
    network = QuasiDense()
    header = network_header(str(checkpoint)).model_copy(
        update={"network": "quasidense", "arguments": {}}
    )
    path = tmp_path / "detector.safetensors"
    section_checkpoint.save_section_checkpoint(path, network.state_dict(), header)
    stage = Track(follower=str(checkpoint), detector=str(path), part=3)
    assert len(stage.identity()["networks"]) == 2
    assert stage.check_inputs({"em": LAYERS["em"]}, (10, 10, 10)) == []
    np.testing.assert_array_equal(tracks(stage), tracks(stage))
    with pytest.raises(ValueError, match="expected a network as follower"):
        Track(detector=str(path))
    with pytest.raises(ValueError, match="expected a network 'quasidense'"):
        Track(follower=str(checkpoint), detector=str(checkpoint))


def test_another_checkpoint_is_refused():
    with pytest.raises(ValueError, match="not a network of sections"):
        Track(follower="fib25-lsd")
    with pytest.raises(ValueError, match="there is no 'no_such'"):
        Track(follower="no_such")
