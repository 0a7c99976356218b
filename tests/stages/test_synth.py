from __future__ import annotations

import numpy as np
import pytest

from tests.stages.contract import Case, StageContract
from volflow.core.geometry import Block, BlockGrid, Box
from volflow.core.stage import Columns, Layer, Record, find_stage
from volflow.stages.synth import PARTNERS, Synth

BOUNDS = Box((2, -3, 5), (34, 37, 55))
LIVELY = {
    "seed": 3,
    "cell": 12,
    "mitochondria": True,
    "synapses": True,
    "section_noise": 5.0,
    "drift": 2,
    "missing": 0.1,
    "repeated": 0.1,
    "every": 2,
}


class TestSynth(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        return Case(Synth(seed=3, cell=12), BOUNDS, blocks=((16, 20, 50), (32, 7, 33)))


class TestSynthWithEverything(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        return Case(Layers(**LIVELY), BOUNDS, blocks=((16, 20, 50), (32, 7, 33)))


class Layers(Synth):
    """The stage's layers; its table is held against them below."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {k: v for k, v in super().outputs.items() if isinstance(v, Layer)}

    def run(self, block: Block) -> dict[str, np.ndarray | Record]:
        return {k: v for k, v in super().run(block).items() if isinstance(v, np.ndarray)}


def test_the_table_names_the_synapses_of_the_layer() -> None:
    stage, names = Synth(**LIVELY), []
    grid = BlockGrid(BOUNDS, (32, 20, 25))
    seen: set[int] = set()
    for block in grid:
        actual = stage.run(block)
        table = actual["partners"]
        assert {name: str(column.dtype) for name, column in table.items()} == dict(PARTNERS.dtypes)
        assert actual.keys() == stage.outputs.keys()
        names += table["synapse"].tolist()
        seen |= set(np.unique(actual["synapses"]).tolist()) - {0}
    assert len(names) > 2
    assert sorted(names) == sorted(seen)


def test_layers_are_there_when_they_are_asked_for() -> None:
    assert list(Synth().outputs) == ["em", "affinity", "truth"]
    assert list(Synth(mitochondria=True).outputs)[3:] == ["mitochondria"]
    assert list(Synth(synapses=True).outputs)[3:] == ["synapses", "synapse_sides", "partners"]
    assert list(Synth(nucleus=20).outputs)[3:] == ["nuclei"]
    with pytest.raises(ValueError, match=r"less than or equal to 0\.5"):
        Synth(missing=0.7)


def test_reads_nothing_and_is_found_by_its_name() -> None:
    assert find_stage("synth") is Synth
    assert Synth.inputs() == {}


def test_bounds_too_thin_for_a_neurite_are_a_mistake() -> None:
    assert Synth().check(BlockGrid(Box((0, 0, 0), (64, 64, 64)), (8, 8, 8))) == []
    (mistake,) = Synth().check(BlockGrid(Box((0, 0, 0), (20, 64, 64)), (8, 8, 8)))
    assert mistake == (
        "bounds: neurites 14 voxels wide need at least 28 voxels along each axis; got (20, 64, 64)"
    )


def test_a_nucleus_that_does_not_fit_is_a_mistake() -> None:
    grid = BlockGrid(Box((0, 0, 0), (96, 96, 96)), (96, 96, 96))
    assert Synth(nucleus=14).check(grid) == []
    assert Synth(nucleus=9).check(grid) == ["nucleus: expected 0, or at least `cell`, 14; got 9"]
    (mistake,) = Synth(nucleus=30).check(grid)
    assert mistake == (
        "bounds: cell bodies among neurites 14 voxels wide need at least 128 voxels along each "
        "axis; got (96, 96, 96)"
    )
    actual = Synth(nucleus=14).run(grid[0])
    assert actual.keys() == Synth(nucleus=14).outputs.keys()
    assert actual["nuclei"].any()
