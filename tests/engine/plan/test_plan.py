from __future__ import annotations

import shutil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.plan.plan_cases import (
    BOUNDS,
    GOOD,
    STAGES,
    changed,
    contents,
    digests,
    job,
    planned,
    problems,
)
from tests.strategies import boxes, triples
from volflow.config.bundled import bundled
from volflow.config.pipeline import VolumeSpec, load
from volflow.config.problems import Problems
from volflow.config.wired_step import WiredStep
from volflow.config.wiring import wire
from volflow.core.geometry import BlockGrid, Box, zyx
from volflow.core.stage import installed_stages
from volflow.engine.phases.sources import RecordSource, VolumeSource
from volflow.engine.plan.chunks import check_fit, chunk_of, nearest
from volflow.engine.plan.planner import PROCESS_MEMORY
from volflow.io.run.owners import set_owner

# --- a plan --------------------------------------------------------------------------------------


def test_a_plan_has_a_job_for_each_pass_with_everything_decided(folder):
    result = planned()
    assert result.bounds == BOUNDS
    assert result.resolution == (10, 8, 8)
    assert str(folder) in result.search_path
    assert [step.name for step in result.steps] == [
        "pieces",
        "table",
        "segments",
        "pyramid",
        "sizes",
    ]
    assert [job.phase.name for job in result.step("table").jobs] == [
        "total.up.0",
        "total.up.1",
        "total.up.2",
        "total.up.3",
        "total.down.3",
        "total.down.2",
        "total.down.1",
        "finish",
    ]
    assert result.step("table").after == ("pieces",)
    assert result.step("segments").after == ("pieces", "table")
    assert result.step("sizes").after == ("segments",)

    first = job(result, "pieces", "map")
    assert first.phase.grid == BlockGrid(BOUNDS, (16, 16, 16), (2, 2, 2))
    assert first.sources == {"affinity": VolumeSource(result.pipeline.volumes["affinity"])}
    target = first.targets["pieces"]
    assert target.spec.path == f"precomputed://{folder}/out/pieces"
    assert (target.bounds, target.chunk, target.scale) == (BOUNDS, (16, 16, 16), 0)

    reader = job(result, "segments", "map")
    table = result.step("table")
    assert reader.sources["table"] == RecordSource("table", table.digest, "table")
    own = VolumeSpec(path=f"precomputed://{folder}/out/pieces")
    assert reader.sources["pieces"] == VolumeSource(own, own=True)
    assert {each.digest for each in table.jobs} == {table.digest}


def test_an_optional_input_is_read_if_it_is_declared(folder):
    assert set(planned().step("sizes").jobs[0].sources) == {"segmentation", "em"}
    text = GOOD.replace("  em:\n    path: em.zarr\n", "")
    assert set(planned(text).step("sizes").jobs[0].sources) == {"segmentation"}


def test_a_pyramid_writes_the_coarser_scales_of_what_it_reads(folder):
    result = planned()
    step = result.step("pyramid")
    base = job(result, "segments", "map").targets["segmentation"]
    for scale, created in enumerate(step.jobs, 1):
        target = created.targets["pyramid"]
        source = created.sources["labels"]
        assert isinstance(source, VolumeSource)
        assert source == VolumeSource(base.spec.model_copy(update={"level": scale - 1}), own=True)
        assert (target.spec, target.scale) == (base.spec, scale)
        assert target.layer.dtype == "uint64"
        assert target.layer.channels == 0
        factor = (2**scale,) * 3
        assert target.bounds == BOUNDS.zoom_out(factor)
        assert target.resolution == (10 * 2**scale, 8 * 2**scale, 8 * 2**scale)
        assert set(created.targets) == {"pyramid"}
    assert [target.scale for target in step.targets] == [1, 2]


def test_a_volume_too_small_for_a_pyramid_has_none(folder):
    result = planned(GOOD.replace("{levels: 2}", "{}"), bounds="4:44,0:64,10:60")
    step = result.step("pyramid")
    assert (step.jobs, step.targets, step.blocks, step.bytes_out) == ((), (), 0, 0)


def test_steps_run_in_the_order_of_who_reads_what_else_as_the_file_says(folder):
    head, tail = GOOD.split("steps:\n")
    parts = ["  - use:" + part for part in tail.split("  - use:")[1:]]
    names = ["pieces", "table", "segments", "pyramid", "sizes"]
    turned = planned(head + "steps:\n" + "".join(reversed(parts)))
    assert [step.name for step in turned.steps] == [*names[:3], "sizes", "pyramid"]
    assert digests(turned) == digests(planned())
    use = f"  - use: {STAGES}:"
    freed = planned(
        f"{head}steps:\n{use}Sizes\n    in: {{segmentation: pieces}}\n{use}Pieces\n{use}Later\n"
    )
    assert [step.name for step in freed.steps] == ["pieces", "sizes", "later"]


def test_bounds_and_resolution_may_be_given(folder):
    result = planned(GOOD, bounds="10:30,0:70,20:60")
    assert result.bounds == Box((10, 0, 20), (30, 70, 60))
    tiff = (
        f"run: out\nvolumes: {{affinity: {{path: plain.tif}}}}\nsteps: [{{use: '{STAGES}:Later'}}]"
    )
    assert planned(tiff + "\nresolution: [9, 9, 9]").resolution == (9, 9, 9)
    there = tiff.replace("plain.tif", "plain.tif, resolution: [7, 7, 7], offset: [1, 2, 3]")
    result = planned(there)
    assert result.resolution == (7, 7, 7)
    assert result.bounds.start == (1, 2, 3)


def test_a_mask_may_be_coarser_and_sections_may_be_bad(folder):
    result = planned(GOOD, "mask=mask", "bad_sections=[7, 5]")
    mask = result.steps[0].jobs[0].mask
    assert mask is not None
    assert (mask.spec, mask.zoom) == (result.pipeline.volumes["mask"], (2, 4, 4))
    assert mask.bad_sections == (5, 7)
    assert planned().steps[0].jobs[0].mask is None


def test_memory_is_that_of_the_largest_block_of_each_pass(folder):
    result = planned(GOOD, "block=[16, 16, 100]")
    voxels = (16 + 4) * (16 + 4) * (50 + 4)
    ahead = 3 * voxels  # what the next block reads of `affinity`
    assert result.step("pieces").memory == {"map": PROCESS_MEMORY + 10 * voxels + ahead}
    table = result.step("table").memory
    assert table["total.up.0"] == PROCESS_MEMORY + 32 * 16 * 16 * 50
    assert table["total.up.1"] == table["total.down.1"] == PROCESS_MEMORY + 3 * 32 * 32 * 50
    assert result.step("pieces").bytes_out == 8 * BOUNDS.size
    assert result.step("table").bytes_out == 0


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ({}, ["pieces", "table", "segments", "pyramid", "sizes"]),
        ({"only": "table"}, ["table"]),
        ({"from_": "segments"}, ["segments", "pyramid", "sizes"]),
        ({"until": "table"}, ["pieces", "table"]),
        ({"from_": "table", "until": "segments"}, ["table", "segments"]),
    ],
)
def test_some_steps_may_be_chosen_and_the_others_are_still_planned(folder, chosen, names):
    result = planned(**chosen)
    assert [step.name for step in result.chosen] == names
    assert len(result.steps) == 5
    assert digests(result) == digests(planned())


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"only": "tabel"}, "--only tabel: there is no such step; did you mean 'table'? (steps: p"),
        ({"from_": "x"}, "--from x: there is no such step (steps: pieces, "),
        ({"from_": "segments", "until": "table"}, "--from segments comes after --until table"),
        ({"only": "table", "until": "table"}, "--only names one step"),
    ],
)
def test_a_choice_that_makes_no_sense_is_a_mistake(folder, chosen, message):
    (actual,) = problems(**chosen)
    assert message in actual


# --- digests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("steps:", "# a comment\nsteps:"),
        GOOD.replace("run: out", "run: elsewhere"),
        GOOD.replace("block: [16, 16, 16]\n", "").replace(
            "run: out", "block: [16,16,16]\nrun: out"
        ),
        GOOD.replace("Pieces\n", "Pieces\n    with: {low: 1}\n    attempts: 3\n"),
    ],
)
def test_what_changes_no_byte_changes_no_digest(folder, text):
    assert text != GOOD
    assert digests(planned(text)) == digests(planned())
    assert contents(planned(text)) == contents(planned())


ALL = {"pieces", "table", "segments", "pyramid", "sizes"}


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["steps.table.threshold=0.4"], ALL - {"pieces"}),
        (["steps.pieces.low=2"], ALL),
        (["steps.pyramid.levels=1"], {"pyramid"}),
        (["volumes.affinity.version=2"], ALL),
        (["volumes.affinity.channels=[2, 1, 0]"], ALL),
        (["volumes.em.version=2"], {"sizes"}),
        (["bounds=4:44,0:70,10:58"], ALL),
        (["mask=mask"], ALL),
        (["bad_sections=[9]"], ALL),
    ],
)
def test_a_change_invalidates_what_depends_on_it_and_nothing_else(folder, overrides, names):
    before, after = planned(), planned(GOOD, *overrides)
    assert changed(contents(before), contents(after)) == names
    assert changed(digests(before), digests(after)) == names


def test_a_volume_of_another_run_is_another_one_when_that_run_changed_it(folder):
    shutil.copytree(folder / "em.zarr", folder / "copy.zarr")
    before = planned(GOOD, "volumes.em.path=copy.zarr")
    set_owner(str(folder / "copy.zarr"), "0123456789abcdef")
    after = planned(GOOD, "volumes.em.path=copy.zarr")
    assert changed(digests(before), digests(after)) == {"sizes"}


def test_other_blocks_change_no_content_and_only_markers_of_who_has_them(folder):
    before, after = planned(), planned(GOOD, "block=[32, 32, 32]")
    assert changed(contents(before), contents(after)) == set()
    assert changed(digests(before), digests(after)) == ALL
    chunk = "volumes.sizes.chunk=[16,16,16]"
    before, after = planned(GOOD, chunk), planned(GOOD, chunk, "steps.sizes.block=[32,32,32]")
    assert changed(digests(before), digests(after)) == {"sizes"}
    blocks = [f"steps.{name}.block=[32,32,32]" for name in ("pieces", "table", "segments")]
    assert changed(digests(planned()), digests(planned(GOOD, *blocks))) == ALL - {"sizes"}
    given = "volumes.segmentation.chunk=[16,16,16]"
    before, after = planned(GOOD, given), planned(GOOD, given, *blocks)
    assert changed(digests(before), digests(after)) == {"pieces", "table", "segments"}


def test_a_layer_stored_in_another_way_is_written_again_with_its_pyramid(folder):
    before, after = planned(), planned(GOOD, "volumes.segmentation.encoding=raw")
    assert changed(contents(before), contents(after)) == set()
    assert changed(digests(before), digests(after)) == {"segments", "pyramid"}
    after = planned(GOOD, "volumes.segmentation.path=precomputed://there")
    assert changed(digests(before), digests(after)) == {"segments", "pyramid"}


# --- laws of blocks and chunks -------------------------------------------------------------------


def aligned(grid: BlockGrid, unit: Any) -> bool:
    """Whether every block starts and stops on borders of units or at the end of the bounds."""
    begin, end = grid.bounds.start, grid.bounds.stop
    return all(
        (a - first) % step == 0 and ((b - first) % step == 0 or b == last)
        for block in grid
        for a, b, first, last, step in zip(
            block.write.start, block.write.stop, begin, end, unit, strict=True
        )
    )


@given(boxes(1, 30), triples(1, 40))
def test_the_default_chunk_fits_any_block(bounds, block):
    chunk = chunk_of(None, block, bounds)
    assert aligned(BlockGrid(bounds, block), chunk)


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_the_default_chunk_is_the_largest_that_fits(side, extent):
    (chunk, *_) = chunk_of(None, (side, 1, 1), Box((0, 0, 0), (extent, 1, 1)))
    assert 1 <= chunk <= 128
    if side < extent:
        assert side % chunk == 0
        assert not any(side % larger == 0 for larger in range(chunk + 1, min(side, 128) + 1))


@given(boxes(1, 30), triples(1, 12), triples(1, 7))
def test_a_block_passes_the_check_exactly_if_it_is_whole_chunks(bounds, block, chunk):
    step = WiredStep(0, "s", None, None, block)  # type: ignore[arg-type]
    step.spec = type("Spec", (), {"block": block})()
    grid = BlockGrid(bounds, block)
    problems = list(check_fit(step, "v", VolumeSpec(chunk=chunk), grid, chunk))
    assert bool(problems) != aligned(grid, chunk)
    if problems:
        fit = problems[0].text.rpartition("fits: ")[2]
        better = zyx([int(side) for side in fit.strip("[]").split(",")])
        assert aligned(BlockGrid(bounds, better), chunk)


@pytest.mark.parametrize(("block", "fit"), [(1, 12), (17, 12), (18, 24), (23, 24), (36, 36)])
def test_the_block_that_is_offered_is_the_nearest(block, fit):
    assert nearest((block, 1, 1), (12, 1, 1)) == (fit, 1, 1)


# --- what is shipped -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(bundled("pipelines")))
def test_bundled_pipelines_are_right_as_they_stand(name):
    pipeline = load(bundled("pipelines")[name])
    problems = Problems(pipeline.where)
    wiring = problems.collect(wire(pipeline))
    assert not problems.found
    assert len(wiring.steps) == len(pipeline.steps)
    assert {step.use for step in pipeline.steps} <= set(installed_stages())
