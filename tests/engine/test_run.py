"""The driver: what is run, what is not run again, what stops a run."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.engine.runs import BOUNDS, expected_index, files, layer, planned, toy
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.engine.driver import execute, failures, gaps, run_one
from volflow.engine.monitor.observer import RunObserver
from volflow.engine.monitor.status import status
from volflow.errors import BlockError, PlanError
from volflow.io.volume import Volume


def test_steps_write_what_their_stages_return(tmp_path):
    result = execute(planned(tmp_path, toy("Index"), toy("Double"), toy("Blur")))
    assert result.ok
    assert [step.done for step in result.steps] == [48, 48, 48]
    index = expected_index()
    np.testing.assert_array_equal(layer(tmp_path, "index"), index)
    np.testing.assert_array_equal(layer(tmp_path, "double"), 2 * index)
    padded = np.pad(index, 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3, 3))
    np.testing.assert_array_equal(layer(tmp_path, "blur"), windows.sum((3, 4, 5)))


@pytest.mark.parametrize(
    "block", [[8, 8, 8], [5, 24, 7], [32, 24, 32], [100, 100, 100], [1, 8, 16]]
)
def test_a_reduction_gives_the_same_whatever_the_blocks(tmp_path, block):
    result = execute(planned(tmp_path, toy("Index"), toy("Total"), block=block))
    assert result.ok
    # the second round adds what each leaf did not see itself: n - 1 times the sum of all
    blocks = int(np.prod([-(-a // b) for a, b in zip(BOUNDS.shape, block, strict=True)]))
    total = int(expected_index().sum(dtype="int64"))
    assert result.results["total"] == {"sum": total * (blocks - 1)}
    assert json.loads((tmp_path / "results" / "total.json").read_text()) == result.results["total"]


def test_finished_blocks_are_not_run_again(tmp_path):
    trace = tmp_path / "trace"
    trace.mkdir()
    plan = planned(tmp_path / "run", toy("Index", **{"with": {"trace": str(trace)}}))
    execute(plan)
    assert len(list(trace.iterdir())) == 48
    before = files(tmp_path / "run")
    again = execute(plan)
    assert again.ok
    assert again.steps[0].already == 48
    assert len(list(trace.iterdir())) == 48
    after = files(tmp_path / "run")
    assert {k: v for k, v in after.items() if not k.startswith("events/")} == {
        k: v for k, v in before.items() if not k.startswith("events/")
    }


def test_a_finished_run_opens_no_cluster(tmp_path):
    plan = planned(tmp_path / "run", toy("Index"))
    assert execute(plan).ok
    assert execute(plan, cluster="tcp://127.0.0.1:9").ok  # where no scheduler listens


def test_a_changed_parameter_redoes_what_depends_on_it_and_nothing_else(tmp_path):
    def steps(times):
        return toy("Index"), toy("Double", **{"with": {"times": times}}), toy("Blur")

    first = execute(planned(tmp_path, *steps(2)))
    assert first.ok
    three = execute(planned(tmp_path, *steps(3)))
    assert [step.already for step in three.steps] == [48, 0, 48]
    np.testing.assert_array_equal(layer(tmp_path, "double"), 3 * expected_index())
    back = execute(planned(tmp_path, *steps(2)))
    assert [step.already for step in back.steps] == [48, 0, 48]
    np.testing.assert_array_equal(layer(tmp_path, "double"), 2 * expected_index())


def test_a_second_parameter_that_was_interrupted_does_not_shine_through(tmp_path):
    """0.4, then half of 0.5, then 0.4 again gives 0.4's bytes."""
    two = planned(tmp_path, toy("Index"), toy("Double", **{"with": {"times": 2}}))
    execute(two)
    wanted = layer(tmp_path, "double")

    class Impatient(RunObserver):
        def progress(self, step, result, phase):
            if step.name == "double" and result.done > 20:
                raise KeyboardInterrupt

    three = planned(tmp_path, toy("Index"), toy("Double", **{"with": {"times": 3}}))
    result = execute(three, observer=Impatient())
    assert result.interrupted
    assert 0 < status(str(tmp_path)).steps[1].done < 48
    assert (layer(tmp_path, "double") != wanted).any()
    assert execute(two).ok
    np.testing.assert_array_equal(layer(tmp_path, "double"), wanted)


def test_a_block_that_raises_is_named_and_later_steps_do_not_start(tmp_path):
    poison = toy("Poison", out={"index": "index"}, **{"with": {"raises": [[1, 2, 3], [0, 0, 1]]}})
    result = execute(planned(tmp_path, poison, toy("Double")))
    assert not result.ok
    assert result.steps[0].done == 46
    assert not result.steps[1].started
    assert sorted(failure.index for failure in result.failures) == [(0, 0, 1), (1, 2, 3)]
    assert "block (1, 2, 3) is poison" in result.failures[1].error
    assert "misbehave" in result.failures[0].traceback
    assert [(s.done, s.failed, s.blocked + s.left) for s in status(str(tmp_path)).steps] == [
        (46, 2, 0),
        (0, 0, 48),
    ]


def test_a_failed_block_is_tried_again_by_the_next_run_and_forgotten_when_done(tmp_path):
    cure = tmp_path / "cure"
    settings = {"raises": [[1, 2, 3]], "cured_by": str(cure)}
    plan = planned(tmp_path / "run", toy("Poison", **{"with": settings}), toy("Double"))
    assert len(execute(plan).failures) == 1
    assert len(failures(plan)["poison"]) == 1
    cure.touch()
    result = execute(plan)
    assert result.ok
    assert [step.already for step in result.steps] == [47, 0]
    assert failures(plan) == {"poison": [], "double": []}


def test_a_block_that_fails_every_attempt_is_counted_once(tmp_path):
    plan = planned(tmp_path, toy("Poison", attempts=3, **{"with": {"raises": [[0, 0, 0]]}}))
    result = execute(plan)
    assert [failure.index for failure in result.failures] == [(0, 0, 0)]


def test_one_block_alone_lets_its_exception_out(tmp_path):
    plan = planned(tmp_path, toy("Poison", **{"with": {"raises": [[1, 2, 3]]}}))
    with pytest.raises(ArithmeticError, match="is poison"):
        run_one(plan, "poison", (1, 2, 3))
    assert run_one(plan, "poison", (1, 2, 2)).done == 1
    with pytest.raises(PlanError, match="outside the grid"):
        run_one(plan, "poison", (9, 0, 0))


@pytest.mark.parametrize(
    ("lie", "words"),
    [("shape", "expected the write box"), ("dtype", "returned int64"), ("name", "returned")],
)
def test_outputs_other_than_declared_are_refused(tmp_path, lie, words):
    plan = planned(tmp_path, toy("Liar", **{"with": {"lie": lie}}))
    with pytest.raises(BlockError, match=words):
        run_one(plan, "liar", (0, 0, 0))


def test_a_step_that_is_needed_but_not_done_is_asked_for(tmp_path):
    steps = (toy("Index"), toy("Double"))
    with pytest.raises(PlanError, match=r"step 'index' has to be run first: 48 of its 48 blocks"):
        execute(planned(tmp_path, *steps, only="double"))
    assert execute(planned(tmp_path, *steps, only="index")).ok
    assert execute(planned(tmp_path, *steps, only="double")).ok


def test_a_folder_without_a_run_has_no_status(tmp_path):
    with pytest.raises(PlanError, match="holds no run"):
        status(str(tmp_path))


def test_gaps_are_what_ranges_leave():
    assert gaps([], 5) == [(0, 5)]
    assert gaps([(0, 5)], 5) == []
    assert gaps([(1, 2), (3, 4)], 5) == [(0, 1), (2, 3), (4, 5)]


def test_voxels_outside_the_mask_are_zero_and_empty_blocks_are_marked(tmp_path):
    coarse = Box((0, 0, 0), (10, 15, 20))  # voxels of 4 x 2 x 2 of ours
    mask = np.random.default_rng(0).random(coarse.shape) < 0.4
    mask[:, :, :6] = False
    spec = VolumeSpec(path=f"precomputed://{tmp_path}/mask")
    volume, _ = Volume.create(
        spec, Layer("uint8", 0, "image"), coarse, (40.0, 16.0, 16.0), coarse.shape
    )
    volume.write(coarse, mask.astype("uint8"))
    trace = tmp_path / "trace"
    trace.mkdir()
    plan = planned(
        tmp_path / "run",
        toy("Index", **{"with": {"trace": str(trace)}}),
        volumes={"mask": {"path": spec.path}},
        mask="mask",
        bad_sections=[5, 6],
    )
    assert execute(plan).ok
    fine = mask.repeat(4, 0).repeat(2, 1).repeat(2, 2)[BOUNDS.slices]
    fine[[3, 4]] = False  # sections 5 and 6, bounds start at 2
    np.testing.assert_array_equal(layer(tmp_path / "run", "index"), expected_index() * fine)
    # x 4..12 is empty in every block: 12 of the 48
    assert len(list(trace.iterdir())) == 36


def test_a_second_driver_is_reported_who_holds_the_run(tmp_path):
    plan = planned(tmp_path, toy("Index"))
    reported = []

    class Second(RunObserver):
        def step_begins(self, step, result):
            script = f"""
import sys
from pathlib import Path
from tests.engine.runs import planned, toy
from volflow.core.geometry import Box
from volflow.config.pipeline import VolumeSpec
from volflow.core.stage import Layer
from volflow.engine.driver import execute
execute(planned(Path({str(tmp_path)!r}), toy("Index")))
"""
            reported.append(
                subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
            )

    assert execute(plan, observer=Second()).ok
    assert reported[0].returncode == 1
    assert f"RunHeld: run {tmp_path} is held by process {os.getpid()} on" in reported[0].stderr


@pytest.mark.parametrize("damage", ["delete", "truncate"])
def test_a_damaged_chunk_of_our_own_is_an_error_and_never_zeros(tmp_path, damage):
    execute(planned(tmp_path, toy("Index")))
    chunk = next(path for path in (tmp_path / "index").rglob("12-20_11-19_10-18"))
    if damage == "delete":
        chunk.unlink()
    else:
        chunk.write_bytes(chunk.read_bytes()[:-7])
    result = execute(planned(tmp_path, toy("Index"), toy("Double")))
    assert [failure.reason for failure in result.failures] == ["storage"]
    assert [failure.index for failure in result.failures] == [(1, 1, 1)]
    assert "index" in result.failures[0].error
    assert result.steps[1].done == 47


def test_a_layer_deleted_by_hand_is_written_again(tmp_path):
    plan = planned(tmp_path, toy("Index"), toy("Double"))
    execute(plan)
    shutil.rmtree(tmp_path / "double")
    result = execute(plan)
    assert [step.already for step in result.steps] == [48, 0]
    np.testing.assert_array_equal(layer(tmp_path, "double"), 2 * expected_index())


def test_other_blocks_redo_the_steps_laid_on_them_and_not_what_reads_their_result(tmp_path):
    def steps(block):
        return toy("Index", block=block), toy("Double", block=[8, 8, 8])

    chunk = {"index": {"chunk": [8, 8, 8]}}
    execute(planned(tmp_path, *steps([8, 8, 8]), volumes=chunk))
    result = execute(planned(tmp_path, *steps([16, 24, 8]), volumes=chunk))
    assert [step.already for step in result.steps] == [0, 48]
    assert result.ok
    np.testing.assert_array_equal(layer(tmp_path, "index"), expected_index())
