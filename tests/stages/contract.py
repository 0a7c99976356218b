"""Laws of every stage, whatever it computes: inherit `StageContract` and give `case`."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from volflow.core.geometry import Block, BlockGrid, Box, Triple
from volflow.core.stage import Grouping, Layer, Phase, Reduction, Stage


@dataclass(frozen=True)
class Case:
    """A stage, and a small volume of each of its inputs over `bounds`."""

    stage: Stage
    bounds: Box
    volumes: Mapping[str, np.ndarray] = field(default_factory=dict)
    blocks: tuple[Triple, ...] = ((4, 5, 6), (3, 100, 1))


class StageContract:
    """A stage pickles, gives the same bytes twice, and what it declares."""

    @pytest.fixture
    def case(self) -> Case:
        raise NotImplementedError

    def test_pickles(self, case: Case) -> None:
        assert pickle.loads(pickle.dumps(case.stage)) == case.stage

    def test_parameters_survive_json(self, case: Case) -> None:
        assert type(case.stage).model_validate_json(case.stage.model_dump_json()) == case.stage

    def test_unknown_parameters_are_refused(self, case: Case) -> None:
        with pytest.raises(ValueError, match="Extra inputs are not permitted"):
            type(case.stage)(**{**case.stage.model_dump(), "no_such_parameter": 1})

    def test_inputs_are_those_of_the_case(self, case: Case) -> None:
        needed = {name for name, required in case.stage.inputs().items() if required}
        assert needed <= set(case.volumes) <= set(case.stage.inputs())

    def test_the_same_bytes_twice(self, case: Case) -> None:
        for shape in case.blocks:
            once, again = run(case, shape), run(case, shape)
            assert once.keys() == again.keys()
            for name in once:
                assert once[name].tobytes() == again[name].tobytes()

    def test_declared_layers_and_no_others(self, case: Case) -> None:
        if isinstance(case.stage, Reduction | Grouping):
            pytest.skip("a reduction's layers are made in its finish, a grouping has none")
        actual = run(case, case.blocks[0])
        assert {name.split("@")[0] for name in actual} == set(case.stage.outputs)
        for name, array in actual.items():
            layer = case.stage.outputs[name.split("@")[0]]
            assert isinstance(layer, Layer)
            if layer.dtype:
                assert array.dtype == layer.dtype
            if layer.channels is not None:
                assert array.shape[:-3] == ((layer.channels,) if layer.channels else ())

    def test_blocks_with_their_halo_equal_one_piece(self, case: Case) -> None:
        if isinstance(case.stage, Reduction | Grouping):
            pytest.skip("a reduction is held against one block by its own tests")
        if any(getattr(layer, "blockwise", False) for layer in case.stage.outputs.values()):
            pytest.skip("the layer depends on the blocks by declaration")
        whole = run(case, case.bounds.shape)
        for shape in case.blocks:
            parts = run(case, shape)
            assert parts.keys() == whole.keys()
            for name in whole:
                np.testing.assert_array_equal(parts[name], whole[name], err_msg=f"{name} {shape}")


def run(case: Case, shape: Triple) -> dict[str, np.ndarray]:
    """Every layer of a map stage, or every block's first record of another."""
    if isinstance(case.stage, Reduction | Grouping):
        return _leaves(case, case.stage, shape)
    grid = BlockGrid(case.bounds, shape, case.stage.halo_on(case.bounds, shape))
    read = {name: (array, case.bounds) for name, array in case.volumes.items()}
    actual: dict[str, np.ndarray] = {}
    for phase in case.stage.phases(grid):
        written = _sweep(case, phase, read)
        actual.update({f"{name}@{phase.scales[1]}": array for name, array in written.items()})
        if phase.scales[1]:  # the next scale is made from this one
            layers = written.values()
            read = {
                name: (layer, phase.grid.bounds) for name, layer in zip(read, layers, strict=True)
            }
    return actual


def _sweep(
    case: Case, phase: Phase, read: Mapping[str, tuple[np.ndarray, Box]]
) -> dict[str, np.ndarray]:
    """The output of one map phase, put together from its blocks."""
    out: dict[str, np.ndarray] = {}
    for block in phase.grid:
        arguments: dict[str, Any] = dict.fromkeys(case.stage.inputs())
        box = block.read.zoom_in(phase.zoom)
        for name, (array, bounds) in read.items():
            arguments[name] = filled(
                array, bounds, box_read(case.stage, name, block).zoom_in(phase.zoom)
            )
            if case.stage.takes_mask():
                arguments["mask"] = filled(np.ones(bounds.shape, bool), bounds, box)
        for name, part in case.stage.run(block, **arguments).items():
            assert isinstance(part, np.ndarray)
            part = _written(block, part)
            whole = out.setdefault(
                name, np.zeros((*part.shape[:-3], *phase.grid.bounds.shape), part.dtype)
            )
            assert part.dtype == whole.dtype
            whole[(..., *block.write.within(phase.grid.bounds))] = part
    return out


def _leaves(case: Case, stage: Reduction | Grouping, shape: Triple) -> dict[str, np.ndarray]:
    actual = {}
    for block in BlockGrid(case.bounds, shape, stage.halo_on(case.bounds, shape)):
        inputs = {
            name: filled(array, case.bounds, box_read(stage, name, block))
            for name, array in case.volumes.items()
        }
        if isinstance(stage, Reduction):
            record = stage.leaf(block, stage.rounds[0], None, **inputs).passed
        else:
            record = stage.rows(block, **inputs)
        for name, column in record.items():
            actual[f"{block.index} {name}"] = column
    return actual


def box_read(stage: Stage, name: str, block: Block) -> Box:
    """The box of an input that is read for a block."""
    halo_region = stage.wants.get(name, Layer()).halo_region
    return block.write if halo_region == "nothing" else block.read


def _written(block: Block, part: np.ndarray) -> np.ndarray:
    """The part over the write box of an array over the write or the read box."""
    if part.shape[-3:] == block.read.shape and block.read != block.write:
        return block.crop(part)
    assert part.shape[-3:] == block.write.shape
    return part


def filled(array: np.ndarray, bounds: Box, box: Box) -> np.ndarray:
    """The array over a box that may leave its bounds; zero there."""
    inside = box.clip(bounds)
    out = np.zeros((*array.shape[:-3], *box.shape), array.dtype)
    if inside.size:
        out[(..., *inside.within(box))] = array[(..., *inside.within(bounds))]
    return out
