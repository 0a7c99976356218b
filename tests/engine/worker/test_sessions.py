"""Workers that outlive a driver do the blocks of the next one with nothing left of the first."""

import dataclasses
import pickle
import sys

import pytest

from tests.engine.runs import expected_index, layer, planned, toy
from volflow.engine.targets import prepare
from volflow.engine.worker.child_death import Limits
from volflow.engine.worker.child_process import _close_children, run_in_child
from volflow.io.run.lock import RunLock

STAGE = """
from tests.engine.toys import Index

class Own(Index):
    def run(self, block):
        return {"index": super().run(block)["index"] * FACTOR}
"""


@pytest.fixture(autouse=True)
def no_children():
    yield
    _close_children()


def run_on_worker(plan, search_path=()):
    """Run the first step as a worker does whose driver has just started."""
    run = plan.pipeline.run
    with RunLock(run) as lock:
        prepare(run, plan.steps[0])
        job = dataclasses.replace(plan.steps[0].jobs[0], fence=lock.token)
        place = (job.step, job.phase.name)
        blocks = len(job.phase.grid)
        arguments = (pickle.dumps(job), 0, blocks, search_path, Limits(), place, lock.token)
        outcome = run_in_child(*arguments)
    assert outcome.failures == []


def test_a_volume_of_other_blocks_is_opened_again(tmp_path):
    for block in ([8, 8, 8], [9, 7, 11]):
        run_on_worker(planned(tmp_path, toy("Index"), block=block))
        assert (layer(tmp_path, "index") == expected_index()).all()


def test_a_stage_whose_code_was_changed_is_imported_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "soak_own_stage.py"
    for factor, more in ((1, ""), (3, "# a longer file\n")):  # compiled files go by size and time
        module.write_text(STAGE.replace("FACTOR", str(factor)) + more)
        sys.modules.pop(module.stem, None)
        plan = planned(tmp_path / str(factor), {"use": f"{module.stem}:Own", "name": "own"})
        run_on_worker(plan, (str(tmp_path),))
        assert (layer(tmp_path / str(factor), "index") == factor * expected_index()).all()
