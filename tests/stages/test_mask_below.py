"""Labels masked by a foreground at the end: `mask_below` of relabel, sweep and multicut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.stages.contract import Case, StageContract
from tests.stages.contract import run as run_stage
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import BlockGrid, Box
from volflow.core.stage import Layer, Phase, Stage
from volflow.engine.api import make_plan
from volflow.errors import PlanError
from volflow.io.volume import Volume
from volflow.segment.restrict import masked
from volflow.stages.relabel import Relabel
from volflow.stages.sweep import Sweep
from volflow.stages.sweep_skeletons import SweepSkeletons

BOUNDS = Box((0, 0, 0), (6, 7, 8))
BLOCK = BlockGrid(BOUNDS, BOUNDS.shape)[0]


def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Labels 1 to 9, and a foreground."""
    rng = np.random.default_rng(0)
    labels = rng.integers(1, 10, BOUNDS.shape, dtype=np.uint64)
    return labels, rng.integers(0, 256, BOUNDS.shape, dtype=np.uint8)


TABLE = {
    "piece": np.arange(1, 10, dtype=np.uint64),
    "segment": np.array([3, 3, 3, 6, 6, 6, 9, 9, 9], np.uint64),
}


class Masked(Relabel):
    """The stage relabel as a function of volumes alone, for the contract of stages."""

    def run(self, block, *, fragments, foreground):
        return super().run(block, fragments=fragments, table=TABLE, foreground=foreground)


class TestMasked(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        labels, foreground = drawn()
        volumes = {"fragments": labels, "foreground": foreground}
        return Case(Masked(mask_below=0.5), BOUNDS, volumes)


def test_voxels_below_the_mask_are_background_and_ids_stay():
    labels, foreground = drawn()
    segments = 3 * ((labels + np.uint64(2)) // np.uint64(3))
    volumes = {"fragments": labels, "foreground": foreground}
    for mask_below, least in [(0.0, 0), (0.5, 128), (1.0, 255)]:
        case = Case(Masked(mask_below=mask_below), BOUNDS, volumes)
        actual = run_stage(case, BOUNDS.shape)["segmentation@0"]
        np.testing.assert_array_equal(actual, np.where(foreground >= least, segments, 0))
        assert np.count_nonzero(actual) > 0


def test_a_foreground_of_another_shape_is_an_error():
    labels, foreground = drawn()
    with pytest.raises(
        ValueError, match=r"foreground of the shape of the labels, \(6, 7, 8\); got \(6, 7, 7\)"
    ):
        masked(labels, foreground[:, :, 1:], 0.5)


@pytest.mark.parametrize("kind", [Relabel, Sweep, SweepSkeletons])
def test_without_a_mask_the_foreground_is_not_read_and_older_runs_keep_their_digests(kind):
    phase = Phase("map", "map", BlockGrid(BOUNDS, BOUNDS.shape))
    plain: Stage = kind()
    assert "foreground" in plain.inputs()
    assert "foreground" not in plain.reads(phase)
    assert "mask_below" not in plain.identity()
    with_mask: Stage = kind(mask_below=0.5)
    assert with_mask.reads(phase) == plain.reads(phase) | {"foreground"}
    assert with_mask.identity() == {**plain.identity(), "mask_below": 0.5}


def test_a_mask_without_a_foreground_is_a_problem_of_the_plan(tmp_path: Path):
    address, layer = f"zarr://{tmp_path}/affinity.zarr", Layer("uint8", 3)
    Volume.create(VolumeSpec(path=address), layer, BOUNDS, (30, 8, 8), (6, 7, 8))
    document = {
        "run": f"{tmp_path}/run",
        "block": [6, 7, 8],
        "volumes": {"affinity": {"path": address}},
        "steps": [
            {"use": "fragments"},
            {"use": "agglomerate", "with": {"threshold": 0.3}},
            {"use": "relabel", "with": {"mask_below": 0.4}},
        ],
    }
    reported = (
        "step 'relabel': mask_below: expected a volume `foreground` to mask with; got none. "
        "Connect one with `in: {foreground: NAME}`, or leave out mask_below: 0.4"
    )
    with pytest.raises(PlanError) as problem:
        make_plan(document)
    assert reported in str(problem.value)
