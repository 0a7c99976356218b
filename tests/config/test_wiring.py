"""One wrong stage is one problem: what would follow from it is not reported."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest
import yaml

from volflow.config.bundled import bundled
from volflow.config.pipeline import from_dict
from volflow.config.problems import Problems
from volflow.config.wiring import wire
from volflow.engine.api import make_plan
from volflow.errors import PlanError


@pytest.fixture
def address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File("em.h5", "w") as file:
        file["raw"] = np.random.default_rng(0).integers(0, 255, (64, 64, 64)).astype(np.uint8)
    return f"hdf5://{tmp_path}/em.h5?dataset=raw"


def changed(name: str, use: str, address: str) -> dict:
    """A bundled pipeline with a misspelt stage in place of one of its own."""
    data = yaml.safe_load(bundled("pipelines")[name].read_text())
    for step in data["steps"]:
        if step["use"] == use:
            step["use"] = use[:-1]
    for volume in data["volumes"].values():
        volume |= {"path": address, "resolution": [10, 10, 10]}
    return data


STEPS = ["intensity", "predict", "fragments", "agglomerate", "relabel", "borders", "pyramid"]


@pytest.mark.parametrize("use", STEPS)
def test_a_misspelt_stage_is_the_only_problem(address, use):
    with pytest.raises(PlanError) as caught:
        make_plan(changed("fib25", use, address))
    (problem,) = caught.value.problems
    assert f"there is no stage '{use[:-1]}'; did you mean '{use}'?" in problem


def test_a_pipeline_of_one_misspelt_stage_has_one_problem(address):
    with pytest.raises(PlanError) as caught:
        make_plan({"run": "out", "steps": [{"use": "synt"}]})
    assert len(caught.value.problems) == 1


def test_two_independent_problems_are_both_reported(address):
    data = changed("fib25", "intensity", address)
    data["steps"][3]["with"]["threshold"] = 3
    with pytest.raises(PlanError) as caught:
        make_plan(data)
    assert len(caught.value.problems) == 2


def test_wiring_knows_whether_all_steps_were_built(address):
    data = changed("fib25", "predict", address)
    pipeline = from_dict(data)
    problems = Problems(pipeline.where)
    wiring = problems.collect(wire(pipeline))
    assert not wiring.complete
    assert len(wiring.steps) == len(data["steps"]) - 1
    assert {step.name for step in wiring.steps if step.incomplete} == {
        "fragments",
        "agglomerate",
        "relabel",  # its foreground, which is optional, could be an output of the step
        "borders",
    }
    assert len(problems.found) == 1
    shutil.rmtree("out", ignore_errors=True)
