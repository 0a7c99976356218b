"""A chain: the same as a plain loop, whatever is killed, and in whatever order slabs are made."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.engine.chains import Follow, plain_loop
from tests.engine.runs import BOUNDS, expected_index, files, layer, planned, toy
from volflow.cli import main
from volflow.core.stage import ChainGrid
from volflow.engine.driver import execute
from volflow.engine.estimate import trial
from volflow.engine.estimate.scaling import efforts
from volflow.engine.estimate.trial import run_trial
from volflow.engine.monitor.status import status
from volflow.engine.phases.registry import kind_of
from volflow.engine.phases.step_records import records_of
from volflow.errors import PlanError
from volflow.io.store import Store
from volflow.io.volume import Volume

CHAINS = "tests.engine.chains"
SLABS = {"slab": 12, "part": 4, "slab_overlap": 3, "tile": [8, 16]}
ALONG = {**SLABS, "sections_before": 2, "margin": 1}


def follow(name: str = "Follow", **parameters: Any) -> dict[str, Any]:
    return {"use": f"{CHAINS}:{name}", "name": "follow", "with": parameters}


def overlap_rows(plan) -> list[tuple[int, int]]:
    """The rows of the table `overlaps` of all parts, sorted."""
    step = plan.step("follow")
    records = records_of(plan.pipeline.run, "follow", step.digest, "overlaps")
    table = []
    for job in step.jobs:
        for block in job.phase.grid:
            record = records.read(block.index)
            table += zip(record["voxel"].tolist(), record["label"].tolist(), strict=True)
    return sorted(table)


def results(run: Path) -> dict[str, bytes]:
    """All files that the step wrote, but for those about the run itself."""
    return {
        f"{folder}/{name}": body
        for folder in ("tracks", "records")
        for name, body in files(run / folder).items()
        if "owner" not in name
    }


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"part": 5, "tile": [24, 9]},
        SLABS,
        ALONG,
        {**ALONG, "reverse": True},
        {**ALONG, "slab": 4, "slab_overlap": 4, "sections_before": 6},
    ],
)
def test_a_chain_equals_a_plain_loop_over_its_slabs(tmp_path, parameters):
    plan = planned(tmp_path, toy("Index"), follow(**parameters))
    assert execute(plan).ok
    tracks, rows = plain_loop(Follow(**parameters), expected_index(), BOUNDS)
    np.testing.assert_array_equal(layer(tmp_path, "tracks"), tracks)
    assert len(np.unique(tracks)) > 10
    assert overlap_rows(plan) == rows
    assert bool(rows) == ("slab_overlap" in parameters)


def test_a_reversed_chain_is_the_chain_on_the_mirrored_volume(tmp_path):
    index = expected_index()
    forward, _ = plain_loop(Follow(), index[::-1], BOUNDS)
    assert execute(planned(tmp_path, toy("Index"), follow(reverse=True, part=8))).ok
    np.testing.assert_array_equal(layer(tmp_path, "tracks"), forward[::-1])


def test_the_blocks_of_the_pipeline_have_no_influence(tmp_path):
    digests = []
    for number, block in enumerate(([8, 8, 8], [16, 24, 32])):
        run = tmp_path / str(number)
        plan = planned(run, toy("Index", block=[8, 8, 8]), follow(**ALONG), block=block)
        digests.append(plan.step("follow").digest)
        assert execute(plan).ok
    assert digests[0] == digests[1]
    assert results(tmp_path / "0") == results(tmp_path / "1")


@pytest.mark.parametrize(
    "changed",
    [{"slab": 8}, {"part": 6}, {"slab_overlap": 2}, {"tile": [8, 8]}, {"reverse": True}],
)
def test_slab_part_overlap_tile_and_direction_belong_to_the_digest(tmp_path, changed):
    contents = {
        planned(tmp_path, toy("Index"), follow(**parameters)).step("follow").content
        for parameters in (SLABS, {**SLABS, **changed})
    }
    assert len(contents) == 2


def kill_at(monkeypatch, moment: int) -> list[int]:
    """End the process at a write, before it or, every other time, after it; the writes so far."""
    writes = [0]

    def dying(method):
        def write(self, *arguments, **more):
            writes[0] += 1
            if writes[0] == moment and moment % 2:
                raise KeyboardInterrupt
            method(self, *arguments, **more)
            if writes[0] == moment:
                raise KeyboardInterrupt

        return write

    monkeypatch.setattr(Store, "write", dying(Store.write))
    monkeypatch.setattr(Volume, "write", dying(Volume.write))
    return writes


def test_a_chain_killed_at_any_write_and_resumed_has_the_bytes_of_an_undisturbed_one(
    tmp_path, monkeypatch
):
    """Every write of voxels, states and tables of three slabs is met, before and after it."""
    steps = toy("Index", block=[32, 24, 32]), follow(slab=16, part=8, slab_overlap=2, tile=[24, 16])
    undisturbed = tmp_path / "undisturbed"
    assert execute(planned(undisturbed, *steps)).ok
    expected, killed = results(undisturbed), 0
    for moment in range(8, 40, 3):
        run = tmp_path / str(moment)
        with monkeypatch.context() as context, contextlib.suppress(KeyboardInterrupt):
            writes = kill_at(context, moment)
            execute(planned(run, *steps))
        killed += writes[0] >= moment
        assert execute(planned(run, *steps)).ok
        assert results(run) == expected
    assert killed == len(range(8, 40, 3))


def test_slabs_in_any_order_write_the_same_bytes(tmp_path, monkeypatch):
    from volflow.engine.executors.in_process import InProcessExecutor

    steps = toy("Index"), follow(**ALONG)
    assert execute(planned(tmp_path / "forward", *steps)).ok
    in_order = InProcessExecutor.run

    def backwards(self, job, ranges, report):
        numbers = [number for start, stop in ranges for number in range(start, stop)]
        in_order(self, job, [(number, number + 1) for number in numbers[::-1]], report)

    monkeypatch.setattr(InProcessExecutor, "run", backwards)
    assert execute(planned(tmp_path / "backwards", *steps)).ok
    assert results(tmp_path / "forward") == results(tmp_path / "backwards")


def test_a_missing_or_damaged_state_fails_the_part_and_is_never_an_empty_one(tmp_path):
    steps = toy("Index"), follow(slab=16, part=8)
    plan = planned(tmp_path, *steps)
    assert execute(plan).ok
    store, prefix = Store(str(tmp_path)), "records/follow/"
    state = next(f"{prefix}{key}" for key in store.list(prefix) if key.endswith("state/2_0_0"))
    body = store.read(state)
    for damaged in (body[:-3], None):
        if damaged is None:
            store.delete(state)
        else:
            store.write(state, damaged)
        for key in store.list("ledger/follow/"):
            if "/chain.1/" in key:
                store.delete(f"ledger/follow/{key}")
        result = execute(planned(tmp_path, *steps))
        assert [(each.phase, each.index) for each in result.failures] == [("chain.1", (3, 0, 0))]
        assert result.failures[0].reason == "storage"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (
            {"slab": 8, "part": 4, "slab_overlap": 9},
            "slab_overlap: a slab of 8 sections is thinner than its overlap; expected at most 8, "
            "got 9",
        ),
        (
            {"slab": 10, "part": 4},
            "slab: expected a multiple of part, which is 4 sections, as no two blocks may write "
            "one chunk; got 10; nearest slab that fits: 8",
        ),
        ({"tile": [0, 8]}, "greater than or equal to 1"),
    ],
)
def test_slabs_that_do_not_fit_are_refused_before_anything_starts(tmp_path, parameters, words):
    with pytest.raises(PlanError) as caught:
        planned(tmp_path, toy("Index"), follow(**parameters))
    assert words in str(caught.value)


def test_chunks_of_the_outputs_divide_the_part(tmp_path):
    plan = planned(tmp_path, toy("Index"), follow(part=6, tile=[8, 16]))
    assert [target.chunk for target in plan.step("follow").targets] == [(6, 8, 16)]
    volumes = {"tracks": {"chunk": [4, 8, 8]}}
    with pytest.raises(PlanError, match="two workers would write one chunk"):
        planned(tmp_path, toy("Index"), follow(part=6, tile=[8, 16]), volumes=volumes)


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ("onward", r"Careless.step returned a tuple; expected Onward\(outputs, state\)"),
        ("state", "Careless.step returned a state of type list; expected a dict of arrays"),
        ("column", "a state that cannot be stored: column 'names': expected a 1D array of bytes"),
        ("output", r"declares the outputs \['overlaps', 'tracks'\] and returned \[\]"),
    ],
)
def test_a_step_that_returns_something_else_fails_its_block(tmp_path, lie, words):
    result = execute(planned(tmp_path, toy("Index"), follow("Careless", lie=lie)))
    assert [failure.index for failure in result.failures] == [(0, 0, 0)]
    assert re.search(words, result.failures[0].error)


def test_a_table_of_parts_is_read_by_a_step_with_their_blocks_and_no_others(tmp_path):
    rows = {"use": f"{CHAINS}:CountRows", "name": "rows"}
    with pytest.raises(PlanError, match=r"need the same block; got \[8, 8, 8\] and \[4, 8, 16\]"):
        planned(tmp_path, toy("Index"), follow(**SLABS), rows)
    plan = planned(tmp_path, toy("Index"), follow(**SLABS), {**rows, "block": [4, 8, 16]})
    assert execute(plan).ok
    counts = layer(tmp_path, "rows")[::4, ::8, ::16]
    assert counts.sum() == len(overlap_rows(plan)) > 0
    np.testing.assert_array_equal(np.flatnonzero(counts.any(axis=(1, 2))), [2, 5])


def test_sections_outside_the_mask_are_zero_for_a_chain(tmp_path):
    steps = toy("Index"), follow(part=4)
    assert execute(planned(tmp_path, *steps, bad_sections=[9, 14, 15, 16, 17])).ok
    index = expected_index()
    index[[7, 12, 13, 14, 15]] = 0  # the bounds begin at section 2; the last four are one part
    tracks, _ = plain_loop(Follow(part=4), index, BOUNDS)
    np.testing.assert_array_equal(layer(tmp_path, "tracks"), tracks)


def test_one_part_is_run_alone_and_a_step_is_invalidated(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[3])
    run = tmp_path / "run"
    assert execute(planned(run, toy("Index"), follow(**SLABS))).ok
    expected = results(run)
    assert [step.done for step in status(str(run)).steps] == [48, 8 * 6]
    alone = ["block", str(run), "follow", "4", "1", "0"]
    outcome = CliRunner().invoke(main, [*alone, "--phase", "chain.1"])
    assert outcome.exit_code == 0, outcome.output
    wrong = CliRunner().invoke(main, [*alone, "--phase", "chain.2"])
    assert wrong.exit_code == 2
    assert "block (4, 1, 0) belongs to another phase of the chain" in " ".join(wrong.output.split())
    assert results(run) == expected
    invalidated = CliRunner().invoke(main, ["invalidate", str(run), "follow", "--yes"])
    assert invalidated.exit_code == 0, invalidated.output
    assert [step.done for step in status(str(run)).steps] == [48, 0]
    assert [
        step.already for step in execute(planned(run, toy("Index"), follow(**SLABS))).steps
    ] == [
        48,
        0,
    ]
    assert results(run) == expected


def test_the_memory_and_effort_of_a_part_include_context_and_overlap(tmp_path):
    plan = planned(tmp_path, toy("Index"), follow(**ALONG))
    total = 0.0
    for job in plan.step("follow").jobs:
        grid = job.phase.grid
        assert isinstance(grid, ChainGrid)
        boxes = [block.read for block in grid]
        most = max(job.stage.memory(box.shape) for box in boxes)
        assert kind_of(job.phase).memory(job, plan.bounds, None) == most
        effort, stored = efforts(job, plan.bounds, plan.bounds)
        depths = [len(job.stage.sections(block)) for block in grid]
        assert effort == sum(
            n * np.prod(box.shape[1:]) for n, box in zip(depths, boxes, strict=True)
        )
        assert stored == sum(block.write.size for block in grid)
        total += stored
    assert total == plan.bounds.size
    alone = [kind_of(job.phase).memory(job, plan.bounds, None) for job in plan.steps[1].jobs]
    assert alone == [32 * n * 10 * 18 for n in (4, 6, 9)]  # 4, with 2 before, with 3 behind


def test_a_trial_measures_the_parts_and_scales_them(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "OFTEN", 1)
    steps = toy("Index"), follow(slab=16, part=8, tile=[8, 8])
    plan = planned(tmp_path / "run", *steps)
    _, estimate = run_trial(plan, 3)
    assert estimate.unknown == []
    assert estimate.work > 0
    assert execute(plan).ok
    stored = sum(map(len, results(tmp_path / "run").values()))
    assert estimate.stored == pytest.approx(stored, rel=0.25)


@pytest.mark.cluster
def test_a_chain_on_a_cluster_killed_once_has_the_bytes_of_an_undisturbed_one(tmp_path):
    killed = {"killed_at": [4, 2, 1], "killed_once": str(tmp_path / "flag")}
    (tmp_path / "flag").touch()
    steps = toy("Index"), follow(**ALONG, **killed)
    assert execute(planned(tmp_path / "here", *steps)).ok
    (tmp_path / "flag").unlink()
    assert execute(planned(tmp_path / "there", *steps), cluster="local", workers=2).ok
    assert (tmp_path / "flag").exists(), "a process was killed within a part"
    assert results(tmp_path / "here") == results(tmp_path / "there")
