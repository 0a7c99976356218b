"""A segmentation with a horizon by the engine: neighbours' records, resumed, tried."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.engine.runs import BOUNDS, expected_index, planned, toy
from tests.harness import run_in_memory
from volflow.core.geometry import BlockGrid, Box
from volflow.engine.api import make_plan
from volflow.engine.driver import execute
from volflow.engine.estimate import trial
from volflow.engine.estimate.trial import middle, run_trial
from volflow.io.volume import Volume
from volflow.stages import agglomerate
from volflow.stages.agglomerate import Agglomerate
from volflow.stages.fragments import Fragments

SHAPE = (36, 48, 40)


def test_a_leaf_is_given_the_round_before_of_whom_it_asks_for(tmp_path):
    neighbour_records = {"use": "tests.engine.phases.neighbour_records:Beside", "name": "total"}
    result = execute(planned(tmp_path, toy("Index"), neighbour_records, block=[8, 8, 8]))
    assert result.ok, result.failures
    blocks = int(np.prod([side // 8 for side in BOUNDS.shape]))
    total = int(expected_index().sum(dtype="int64"))
    assert result.results["total"] == {"sum": total * (blocks - 1)}


@pytest.fixture
def affinity(tmp_path: Path) -> np.ndarray:
    values = np.random.default_rng(3).random((3, *SHAPE))
    for axis in (1, 2, 3) * 3:
        values += np.roll(values, 1, axis)
    affinity = (255 * (values - values.min()) / np.ptp(values)).astype("uint8")
    with h5py.File(tmp_path / "volume.h5", "w") as file:
        file["affinity"] = affinity
    return affinity


def plan_of(folder: Path, **parameters: object):
    options = [f"run={folder}/run", "block=[12,12,12]", "volumes.affinity.resolution=[8,8,8]"]
    options += [f"volumes.affinity.path=hdf5://{folder}/volume.h5?dataset=affinity"]
    options += [f"steps.agglomerate.{name}={value}" for name, value in parameters.items()]
    return make_plan("segment", overrides=options, until="relabel")


PARAMETERS = {"threshold": 0.5, "min_size": 50, "horizon": 12}


@pytest.mark.parametrize(("horizon", "nodes"), [(12, 2), (24, 0)])
def test_a_run_that_fails_at_a_plane_is_resumed_to_the_same_bytes(
    tmp_path, affinity, monkeypatch, horizon, nodes
):
    parameters = {**PARAMETERS, "horizon": horizon}
    done, join_nodes = [], agglomerate.join_nodes

    def failing(children, box):
        if len(done) == nodes:
            raise OSError("the node is gone")
        done.append(box)
        return join_nodes(children, box)

    plan = plan_of(tmp_path, **parameters)
    with monkeypatch.context() as patch:
        patch.setattr(agglomerate, "join_nodes", failing)
        result = execute(plan)
    assert {failure.phase.partition(".")[0] for failure in result.failures} == {"seams"}
    assert len(done) == nodes
    assert execute(plan_of(tmp_path, **parameters)).ok
    bounds = Box((0, 0, 0), SHAPE)
    target = plan.step("relabel").targets[0]
    actual = Volume.open(target.spec).read(bounds)
    stage = Agglomerate(**parameters)
    grid = BlockGrid(bounds, (12, 12, 12))
    expected = run_in_memory(Fragments(), stage, grid, affinity)[0]
    exact = run_in_memory(Fragments(), Agglomerate(threshold=0.5, min_size=50), grid, affinity)[0]
    assert actual.tobytes() == expected.tobytes()
    assert len(np.unique(exact)) != len(np.unique(expected)), "a horizon is another result"


def test_a_trial_has_boxes_that_are_whole_and_others_that_are_not(tmp_path, affinity, monkeypatch):
    monkeypatch.setattr(trial, "ENOUGH", 0)
    plan = plan_of(tmp_path, **{**PARAMETERS, "horizon": 24})
    assert middle(plan, 3).shape == (12, 12, 36), "a box and a half"
    actual = run_trial(plan, 3)
    assert [step.name for step in actual] == ["fragments", "agglomerate", "relabel"]
    assert actual[1].tried > 0
