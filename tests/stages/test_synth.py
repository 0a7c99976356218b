from __future__ import annotations

import pytest

from tests.stages.contract import Case, StageContract
from volflow.core.geometry import BlockGrid, Box
from volflow.core.stage import find_stage
from volflow.stages.synth import Synth

BOUNDS = Box((2, -3, 5), (34, 37, 55))


class TestSynth(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        return Case(Synth(seed=3, cell=12), BOUNDS, blocks=((16, 20, 50), (32, 7, 33)))


def test_reads_nothing_and_is_found_by_its_name() -> None:
    assert find_stage("synth") is Synth
    assert Synth.inputs() == {}


def test_bounds_too_thin_for_a_neurite_are_a_mistake() -> None:
    assert Synth().check(BlockGrid(Box((0, 0, 0), (64, 64, 64)), (8, 8, 8))) == []
    (mistake,) = Synth().check(BlockGrid(Box((0, 0, 0), (20, 64, 64)), (8, 8, 8)))
    assert mistake == (
        "neurites 14 voxels wide need bounds of 28 voxels along each axis; got (20, 64, 64)"
    )
