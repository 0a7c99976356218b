"""The road in memory is the pipeline's; a prediction is what the header's tiles give."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import run_in_memory
from tests.models.test_checkpoint import HEADER, trained
from volflow.core.geometry import BlockGrid, Box
from volflow.models.checkpoint import fold_batchnorm
from volflow.models.inference import Inference
from volflow.stages.agglomerate import Agglomerate
from volflow.stages.fragments import Fragments
from volflow.train.validation.evaluate import InMemoryPipeline, best_score, predicted


@settings(max_examples=15)
@given(
    st.integers(0, 1000),
    st.sampled_from([4, 255]),
    st.integers(0, 2),
    st.sampled_from([0.2, 0.5]),
    st.sampled_from([0, 9]),
)
def test_the_road_in_memory_is_the_pipelines(seed, levels, rounds, threshold, min_size):
    shape = (5, 6, 7)
    affinity = np.random.default_rng(seed).integers(0, levels, (3, *shape)).astype(np.uint8)
    stage = Agglomerate(threshold=threshold, join_rounds=rounds, min_size=min_size)
    grid = BlockGrid(Box((0, 0, 0), shape), (3, 4, 4))
    wanted, _ = run_in_memory(Fragments(), stage, grid, affinity)
    road = InMemoryPipeline(affinity, rounds)
    np.testing.assert_array_equal(road.segmentation(threshold, min_size), wanted)


def test_the_best_threshold_is_found():
    # Two objects, joined by a weak plane: only above its affinity are they separate.
    truth = np.ones((4, 4, 8), np.int32)
    truth[..., 4:] = 2
    affinity = np.full((3, 4, 4, 8), 230, np.uint8)
    affinity[2, :, :, 4] = 100
    actual = best_score(affinity, truth, (0.1, 0.2, 0.6), 0)
    assert (actual.threshold, actual.vi) == (0.6, 0)
    worse = best_score(affinity, truth, (0.1,), 0)
    assert worse.vi_merge == pytest.approx(1)
    assert worse.vi_split == 0


@pytest.mark.parametrize("padding", ["reflect", "symmetric"])
def test_a_volume_that_fits_one_tile_is_what_the_network_says_of_it(padding):
    header = HEADER.model_copy(update={"padding": padding})
    network = Inference(fold_batchnorm(trained()), header, (0, 1, 2), "cpu", "fp32")
    image = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    with torch.no_grad():
        around = torch.from_numpy(np.pad(image, 4, mode=padding))[None, None]
        wanted = torch.sigmoid(fold_batchnorm(trained())(around))[0, :, 4:-4, 4:-4, 4:-4]
    np.testing.assert_array_equal(
        predicted(network, image), np.rint(255 * wanted.numpy()).astype(np.uint8)
    )
