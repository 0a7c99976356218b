"""The stage of the multicut: one block, and what it makes of boundaries that are easy to see."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.stages.contract import Case, StageContract
from tests.stages.contract import run as run_stage
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.core.stage import Layer
from volflow.engine.api import make_plan
from volflow.errors import PlanError
from volflow.io.volume import Volume
from volflow.stages.multicut import Multicut

pytest.importorskip("bioimage_cpp")

BOUNDS = Box((4, -2, 3), (8, 28, 43))  # 4 sections of 30 x 40


def volumes(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "affinity": rng.integers(60, 256, (3, *BOUNDS.shape), dtype=np.uint8),
        "foreground": rng.integers(100, 256, BOUNDS.shape, dtype=np.uint8),
    }


class TestMulticut(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        return Case(Multicut(), BOUNDS, volumes(0), (BOUNDS.shape, (40, 40, 40)))


def rooms() -> np.ndarray:
    """Affinities of 4 sections with two walls, which move by a pixel from section to section."""
    affinity = np.full((3, *BOUNDS.shape), 250, np.uint8)
    for z in range(BOUNDS.shape[0]):
        for x in (12 + z, 28 - z):
            affinity[:, z, :, x : x + 2] = 3
    return affinity


def segmented(stage: Multicut, **arrays: np.ndarray) -> np.ndarray:
    return run_stage(Case(stage, BOUNDS, arrays), BOUNDS.shape)["segmentation@0"]


def test_a_room_is_one_segment_in_all_sections_and_named_by_its_last_voxel():
    actual = segmented(Multicut(), affinity=rooms())
    assert (actual > 0).all()
    names = [int(name) for name in np.unique(actual)]
    assert len(names) == 3
    left, middle, right = (actual[:, :, x] for x in (5, 22, 35))
    assert len({int(part[0, 0]) for part in (left, middle, right)}) == 3
    for part in (left, middle, right):
        assert len(np.unique(part)) == 1
    for name in names:
        assert np.flatnonzero(actual == name)[-1] + 1 == name


def test_beta_joins_more_or_less():
    affinity = volumes(1)["affinity"]
    counts = [len(np.unique(segmented(Multicut(beta=b), affinity=affinity))) for b in (0.05, 0.95)]
    assert counts[0] == 1 < counts[1]


def test_what_is_no_foreground_is_no_segment_and_all_else_is_as_without():
    foreground = np.full(BOUNDS.shape, 255, np.uint8)
    foreground[1:3, 10:20] = 127
    foreground[0, :5] = 128
    plain = segmented(Multicut(), affinity=rooms())
    actual = segmented(Multicut(), affinity=rooms(), foreground=foreground)
    np.testing.assert_array_equal(actual > 0, foreground > 127)
    # no last voxel of a segment was taken away here, so the names stay
    np.testing.assert_array_equal(actual, np.where(foreground > 127, plain, 0))


def test_outside_the_mask_is_nothing_and_pairs_with_it_do_not_exist():
    block = BlockGrid(BOUNDS, BOUNDS.shape)[0]
    mask = np.ones(BOUNDS.shape, bool)
    mask[:, :, 18:21] = False  # through the middle room
    affinity = rooms()
    actual = Multicut().run(block, affinity=affinity, mask=mask)["segmentation"]
    assert isinstance(actual, np.ndarray)
    np.testing.assert_array_equal(actual > 0, mask)
    assert not np.intersect1d(actual[:, :, :18], actual[:, :, 21:]).any()
    affinity[:, ~mask] = 0
    affinity[2, :, :, 21] = 0  # joins with what is outside
    again = Multicut().run(block, affinity=affinity, mask=mask)["segmentation"]
    np.testing.assert_array_equal(again, actual)


# --- problems before anything starts -------------------------------------------------------------


def mistake(tmp_path, block: Triple) -> str:
    """Problems of the stage on blocks of a shape; empty if there are none."""
    layer, box = Layer("uint8", 3), Box((0, 0, 0), (8, 32, 32))
    address = f"zarr://{tmp_path}/affinity.zarr"
    Volume.create(VolumeSpec(path=address), layer, box, (30, 8, 8), (8, 32, 32))
    document = {
        "run": f"{tmp_path}/run",
        "block": [8, 16, 16],
        "volumes": {"affinity": {"path": address}},
        "steps": [{"use": "multicut", "block": list(block)}],
    }
    try:
        make_plan(document)
    except PlanError as error:
        (actual,) = error.problems
        return actual
    return ""


def test_more_than_one_block_is_reported_with_the_block_that_does(tmp_path):
    reported = mistake(tmp_path, (8, 32, 16))
    assert "needs one block that covers the bounds of [8, 32, 32] voxels; got blocks of" in reported
    assert "block: [8, 32, 32]" in reported
    assert "use fragments, agglomerate and relabel" in reported


@pytest.mark.parametrize("block", [(8, 32, 32), (100, 1000, 1000)])
def test_a_block_that_covers_the_bounds_is_well(tmp_path, block):
    assert not mistake(tmp_path, block)


def test_without_the_library_it_is_reported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bioimage_cpp.graph", None)
    assert "pip install '.[multicut]'" in mistake(tmp_path, (8, 32, 32))
