from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import boxes, triples
from volflow.core.geometry import BlockGrid, Box, triple
from volflow.core.mistakes import Mistakes, Where
from volflow.core.pipeline import VolumeSpec, load, read
from volflow.core.shipped import shipped
from volflow.core.stage import Layer, installed_stages
from volflow.core.wiring import WiredStep, wire
from volflow.engine.checks import check_fit, chunk_of
from volflow.engine.job import Job, Plan, RecordSource, Source
from volflow.engine.plan import plan, plan_draft
from volflow.errors import PlanError
from volflow.io.volume import Volume

BOUNDS = Box((4, 0, 10), (44, 70, 60))
STAGES = "tests.engine.plan_stages"

GOOD = f"""\
run: out
block: [16, 16, 16]
volumes:
  affinity:
    path: affinity.zarr
  mask:
    path: mask.zarr
  em:
    path: em.zarr
steps:
  - use: {STAGES}:Pieces
  - use: {STAGES}:Table
    with:
      threshold: 0.3
  - use: {STAGES}:Segments
  - use: pyramid
    in: {{labels: segmentation}}
    with: {{levels: 2}}
  - use: {STAGES}:Sizes
"""


def stored(path: Path, dtype: str, channels: int, bounds: Box, resolution: Any) -> None:
    layer = Layer(dtype, channels)
    volume, _ = Volume.create(VolumeSpec(path=str(path)), layer, bounds, resolution, (64, 64, 64))
    leading = (channels,) if channels else ()
    volume.write(bounds, np.ones((*leading, *bounds.shape), dtype))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    stored(folder / "affinity.zarr", "uint8", 3, BOUNDS, (10, 8, 8))
    stored(folder / "mask.zarr", "uint8", 0, BOUNDS.zoom_out((2, 4, 4)), (20, 32, 32))
    stored(folder / "em.zarr", "uint8", 0, BOUNDS, (10, 8, 8))
    stored(folder / "float.zarr", "float32", 3, BOUNDS, (10, 8, 8))
    stored(folder / "two.zarr", "uint8", 2, BOUNDS, (10, 8, 8))
    stored(folder / "signed.zarr", "int32", 0, BOUNDS, (10, 8, 8))
    stored(folder / "coarse.zarr", "uint8", 0, BOUNDS, (10, 16, 16))
    stored(folder / "odd.zarr", "uint8", 0, BOUNDS, (10, 12, 8))
    stored(folder / "far.zarr", "uint8", 0, BOUNDS.shift((0, 500, 0)), (10, 8, 8))
    stored(folder / "small.zarr", "uint8", 0, Box((4, 0, 10), (44, 70, 50)), (10, 8, 8))
    tifffile.imwrite(folder / "plain.tif", np.ones((40, 70, 50), "uint8"))
    (folder / "broken.zarr").mkdir()
    (folder / "broken.zarr" / ".zarray").write_text("{")
    return folder


@pytest.fixture
def folder(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path in inputs.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(text: str = GOOD, *overrides: str, bounds: str | None = None, **rest: Any) -> Plan:
    Path("p.yaml").write_text(text)
    return plan_draft(read("p.yaml", overrides, bounds), **rest)


def mistakes(text: str = GOOD, *overrides: str, **rest: Any) -> list[str]:
    with pytest.raises(PlanError) as caught:
        planned(text, *overrides, **rest)
    return caught.value.mistakes


def digests(plan: Plan) -> dict[str, str]:
    return {step.name: step.digest for step in plan.steps}


def contents(plan: Plan) -> dict[str, str]:
    return {step.name: step.content for step in plan.steps}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert set(before) == set(after)
    return {name for name in before if before[name] != after[name]}


def job(plan: Plan, step: str, sweep: str) -> Job:
    return next(job for job in plan.step(step).jobs if job.sweep.name == sweep)


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
    assert [job.sweep.name for job in result.step("table").jobs] == [
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
    assert first.sweep.grid == BlockGrid(BOUNDS, (16, 16, 16), (2, 2, 2))
    assert first.sources == {"affinity": Source(result.pipeline.volumes["affinity"])}
    target = first.targets["pieces"]
    assert target.spec.path == f"precomputed://{folder}/out/pieces"
    assert (target.bounds, target.chunk, target.scale) == (BOUNDS, (16, 16, 16), 0)

    reader = job(result, "segments", "map")
    table = result.step("table")
    assert reader.sources["table"] == RecordSource("table", table.digest, "table")
    own = VolumeSpec(path=f"precomputed://{folder}/out/pieces")
    assert reader.sources["pieces"] == Source(own, own=True)
    assert job(result, "table", "finish").columns == {"table": table.stage.outputs["table"]}
    assert job(result, "table", "total.up.0").columns == {}
    assert {each.digest for each in table.jobs} == {table.digest}


def test_an_optional_input_is_read_if_it_is_declared(folder):
    assert set(planned().step("sizes").jobs[0].sources) == {"segmentation", "em"}
    text = GOOD.replace("  em:\n    path: em.zarr\n", "")
    assert set(planned(text).step("sizes").jobs[0].sources) == {"segmentation"}


def test_a_pyramid_writes_the_coarser_scales_of_what_it_reads(folder):
    result = planned()
    step = result.step("pyramid")
    base = job(result, "segments", "map").targets["segmentation"]
    for scale, made in enumerate(step.jobs, 1):
        target = made.targets["pyramid"]
        source = made.sources["labels"]
        assert isinstance(source, Source)
        assert source == Source(base.spec.model_copy(update={"level": scale - 1}), own=True)
        assert (target.spec, target.scale) == (base.spec, scale)
        assert target.layer.dtype == "uint64"
        assert target.layer.channels == 0
        factor = (2**scale,) * 3
        assert target.bounds == BOUNDS.zoom_out(factor)
        assert target.resolution == (10 * 2**scale, 8 * 2**scale, 8 * 2**scale)
        assert set(made.targets) == {"pyramid"}
    assert [target.scale for target in step.targets] == [1, 2]


def test_steps_run_in_the_order_of_who_reads_what_else_as_the_file_says(folder):
    head, tail = GOOD.split("steps:\n")
    parts = ["  - use:" + part for part in tail.split("  - use:")[1:]]
    names = ["pieces", "table", "segments", "pyramid", "sizes"]
    turned = planned(head + "steps:\n" + "".join(reversed(parts)))
    assert [step.name for step in turned.steps] == [*names[:3], "sizes", "pyramid"]
    assert digests(turned) == digests(planned())


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
    assert result.step("pieces").memory == {"map": 10 * (16 + 4) * (16 + 4) * (50 + 4)}
    table = result.step("table").memory
    assert table["total.up.0"] == 32 * 16 * 16 * 50
    assert table["total.up.1"] == table["total.down.1"] == 3 * 32 * 32 * 50
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
    (found,) = mistakes(**chosen)
    assert message in found


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


def test_other_blocks_change_no_content_and_only_markers_of_who_has_them(folder):
    before, after = planned(), planned(GOOD, "block=[32, 32, 32]")
    assert changed(contents(before), contents(after)) == set()
    assert changed(digests(before), digests(after)) == ALL
    after = planned(GOOD, "steps.sizes.block=[32,32,32]")
    assert changed(digests(before), digests(after)) == {"sizes"}
    blocks = [f"steps.{name}.block=[32,32,32]" for name in ("pieces", "table", "segments")]
    given = "volumes.segmentation.chunk=[16,16,16]"
    before, after = planned(GOOD, given), planned(GOOD, given, *blocks)
    assert changed(digests(before), digests(after)) == {"pieces", "table", "segments"}


def test_a_layer_stored_in_another_way_is_written_anew_with_its_pyramid(folder):
    before, after = planned(), planned(GOOD, "volumes.segmentation.encoding=raw")
    assert changed(contents(before), contents(after)) == set()
    assert changed(digests(before), digests(after)) == {"segments", "pyramid"}
    after = planned(GOOD, "volumes.segmentation.path=precomputed://there")
    assert changed(digests(before), digests(after)) == {"segments", "pyramid"}


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # stages and their parameters
        (
            "use: pyramid",
            "use: pyramud",
            "p.yaml:16: steps[3].use: there is no stage 'pyramud'; did",
        ),
        (
            "use: pyramid",
            "use: no.such:Stage",
            "p.yaml:16: steps[3].use: stage 'no.such:Stage': mod",
        ),
        (
            "use: pyramid",
            "use: os:path",
            "p.yaml:16: steps[3].use: stage 'os:path': 'os' has no St",
        ),
        (
            "threshold: 0.3",
            "threshold: 3",
            "p.yaml:14: steps[1].with.threshold: wanted less than or equal to 1; got 3",
        ),
        (
            "threshold: 0.3",
            "treshold: 0.3\n      threshold: 0.3",
            "p.yaml:14: steps[1].with.treshold: unknown key 'treshold'; did you mean 'threshold'?",
        ),
        ("threshold: 0.3", "{}", "p.yaml:13: steps[1].with.threshold: missing, and has no default"),
        ("threshold: 0.3", "threshold: 0.99", "p.yaml:13: steps[1].with: step 'table': threshold"),
        # wiring
        (
            "in: {labels: segmentation}",
            "in: {labels: segmentatoin}",
            "p.yaml:17: steps[3].in.labels: step 'pyramid' reads 'segmentatoin', which is not "
            "declared under volumes and which no step writes; did you mean 'segmentation'?",
        ),
        (
            "in: {labels: segmentation}",
            "in: {lables: segmentation, labels: segmentation}",
            "p.yaml:17: steps[3].in.lables: stage 'pyramid' has no input 'lables'; did you mean "
            "'labels'? (inputs: labels)",
        ),
        (
            "    in: {labels",
            "    out: {pyramid: pieces}\n    in: {labels",
            "p.yaml:17: steps[3].out.pyramid: step 'pyramid' writes the coarser scales of",
        ),
        (
            "in: {labels: segmentation}",
            "in: {labels: em}",
            "p.yaml:16: steps[3].out.pyramid: step 'pyramid' writes the coarser scales of",
        ),
        (
            f"- use: {STAGES}:Sizes",
            f"- use: {STAGES}:Sizes\n    out: {{sizes: pieces}}",
            "p.yaml:20: steps[4].out.sizes: step 'sizes' writes 'pieces', which step 'pieces' wri",
        ),
        (
            f"- use: {STAGES}:Sizes",
            f"- use: {STAGES}:Later",
            None,
        ),
        (
            f"- use: {STAGES}:Sizes",
            f"- {{use: '{STAGES}:Sizes', name: table}}",
            "p.yaml:19: steps[4].name: step 2 is called 'table' too",
        ),
        (
            f"- use: {STAGES}:Sizes",
            f"- use: {STAGES}:Chicken\n  - use: {STAGES}:Egg",
            "p.yaml:19: steps[4]: steps wait for one another in a circle: chicken -> egg "
            "-> chicken",
        ),
        (
            "  em:\n",
            "  table:\n",
            "p.yaml:8: volumes.table: step 'table' writes a table of that na",
        ),
        # volumes
        ("affinity.zarr", "afinity.zarr", "p.yaml:5: volumes.affinity.path: cannot be opened: "),
        ("affinity.zarr", "broken.zarr", "p.yaml:5: volumes.affinity.path: cannot be opened: "),
        ("affinity.zarr", "zipp://x", "p.yaml:5: volumes.affinity.path: cannot be opened: "),
        (
            "    path: em.zarr",
            "    level: 0",
            "p.yaml:8: volumes.em: no step writes 'em', so it need",
        ),
        (
            "affinity.zarr",
            "float.zarr",
            "p.yaml:4: volumes.affinity: step 'pieces' wants 'affinity' as uint8, and it is "
            "float32; volumes.affinity.scale: 255 makes uint8",
        ),
        (
            "affinity.zarr",
            "two.zarr",
            "p.yaml:4: volumes.affinity: step 'pieces' wants 'affinity' as 3 channels, and it has "
            "2 channels",
        ),
        (
            f"- use: {STAGES}:Sizes",
            f"- use: {STAGES}:Sizes\n    in: {{segmentation: signed}}",
            "p.yaml:20: steps[4].in.segmentation: step 'sizes' reads 'signed', which is not decl",
        ),
        (
            "em.zarr",
            "coarse.zarr",
            "p.yaml:8: volumes.em: resolution [10, 16, 16] nm, and the run has [10, 8, 8] nm",
        ),
        (
            "em.zarr",
            "small.zarr",
            f"p.yaml:8: volumes.em: bounds {BOUNDS} reach beyond volume 'em'",
        ),
        # bounds, mask, sections
        (
            "run: out",
            "run: out\nmask: nothing",
            "p.yaml:2: mask: 'nothing' is not declared under vo",
        ),
        (
            "run: out",
            "run: out\nmask: pieces",
            "p.yaml:2: mask: step 'pieces' writes 'pieces'; the",
        ),
        (
            "block: [16, 16, 16]",
            "bad_sections: [44]",
            "p.yaml:2: bad_sections[0]: section 44 is outside the bounds, whose z goes "
            "from 4 to 43",
        ),
        (
            "block: [16, 16, 16]",
            "bounds: 4:44,0:70,10:55",
            None,
        ),
        # blocks, chunks, shards
        (
            "steps:\n",
            "  pieces: {chunk: [16, 16, 12]}\nsteps:\n",
            "p.yaml:2: block: step 'pieces': block [16, 16, 16] is not a multiple of the chunk "
            "[16, 16, 12] of volume 'pieces', so two workers would write one chunk; nearest block "
            "that fits: [16, 16, 12]",
        ),
        (
            "steps:\n",
            "  pieces: {chunk: [8, 8, 8], shard: [32, 32, 32]}\nsteps:\n",
            "p.yaml:2: block: step 'pieces': block [16, 16, 16] is not a multiple of the shard "
            "[32, 32, 32]",
        ),
        (
            "steps:\n",
            "  pieces: {chunk: [8, 8, 8], shard: [12, 12, 12]}\nsteps:\n",
            "p.yaml:10: volumes.pieces.shard: shard [12, 12, 12] is not a multiple of the chunk",
        ),
        (
            f"{STAGES}:Segments",
            f"{STAGES}:Segments\n    block: [16, 16, 32]",
            "p.yaml:16: steps[2].block: step 'segments' reads 'pieces' block by block as step "
            "'pieces' wrote it, so both need one block shape; got [16, 16, 32] and [16, 16, 16]",
        ),
        (
            f"{STAGES}:Sizes",
            f"{STAGES}:Sizes\n    block: [31, 33, 17]",
            None,
        ),
        # what is written
        (
            "steps:\n",
            "  pieces: {encoding: jpg}\nsteps:\n",
            "p.yaml:10: volumes.pieces: step 'pieces' cannot write 'pieces': ",
        ),
        (
            "steps:\n",
            "  pieces: {offset_sign: 1}\nsteps:\n",
            "p.yaml:10: volumes.pieces.offset_sign: a step writes 'pieces', and 'offset_sign' te",
        ),
        (
            "steps:\n",
            "  pieces: {resolution: [9, 9, 9]}\nsteps:\n",
            "p.yaml:10: volumes.pieces: resolution [9, 9, 9] nm, and the run has [10, 8, 8] nm",
        ),
        (
            "steps:\n",
            "  pieces: {path: 'tiff://x.tif'}\nsteps:\n",
            "p.yaml:10: volumes.pieces: step 'pieces' cannot write 'pieces': ",
        ),
        (
            "steps:\n",
            "  pieces: {path: 'zarr://em.zarr'}\nsteps:\n",
            "p.yaml:10: volumes.pieces.path: step 'pieces' would write 'pieces' where 'em' is: ",
        ),
        (
            f"{STAGES}:Sizes",
            f"{STAGES}:Signed",
            "p.yaml:19: steps[4]: step 'signed' cannot write 'si",
        ),
        ("run: out", "run: p.yaml/out", "p.yaml:1: run: "),
    ],
)
def test_a_mistake_is_told_with_file_line_and_path(folder, old, new, message):
    assert old in GOOD
    text = GOOD.replace(old, new)
    if message is None:
        planned(text)
        return
    found = mistakes(text)
    assert [line for line in found if line.startswith(message)], found
    assert len(found) == 1, found


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["volumes.mask.path=odd.zarr"], "volumes.mask.path=odd.zarr"),
        (["volumes.mask.path=far.zarr"], "covers 4:44,500:570,10:60, nothing of 4:44,0:70,10:60"),
    ],
)
def test_a_mask_that_does_not_fit_is_a_mistake(folder, overrides, message):
    found = mistakes(GOOD, "mask=mask", *overrides)
    assert len(found) == 1
    assert "mask: 'mask' " in found[0]
    if "far" in overrides[0]:
        assert message in found[0]
    else:
        assert "has [10, 12, 8] nm, which is no whole multiple" in found[0]


def test_bounds_beyond_the_inputs_are_a_mistake_for_each_of_them(folder):
    found = mistakes(GOOD.replace("block: [16, 16, 16]", "bounds: 0:44,0:70,10:60"))
    start = "p.yaml:2: bounds: bounds 0:44,0:70,10:60 reach beyond volume"
    assert found == [f"{start} '{name}', which has {BOUNDS}" for name in ("affinity", "em")]


def test_a_mistake_made_by_an_option_names_the_option(folder):
    (found,) = mistakes(GOOD, "steps.table.treshold=0.4")
    start = (
        "--set steps.table.treshold=0.4: steps[1].with.treshold: unknown key 'treshold'; did you"
    )
    assert found.startswith(start)
    (found,) = mistakes(GOOD, "volumes.emm.path=em.zarr")
    assert found.startswith("--set volumes.emm.path=em.zarr: volumes.emm.path: no step reads")


def test_mistakes_of_all_kinds_are_told_at_once(folder):
    text = GOOD.replace("em.zarr", "coarse.zarr").replace("threshold: 0.3", "threshold: 3")
    text = text.replace("levels: 2", "levles: 2").replace("run: out", "run: out\nblok: [8, 8, 8]")
    found = mistakes(text, "bad_sections=[1000]", "steps.sizes.attempts=0")
    starts = [
        "p.yaml:2: blok",
        "p.yaml:15: steps[1].with.threshold",
        "p.yaml:19: steps[3].with.levl",
    ]
    starts += ["--set bad_sections=[1000]", "--set steps.sizes.attempts=0", "p.yaml:9: volumes.em"]
    for start in starts:
        assert sum(line.startswith(start) for line in found) == 1, found
    assert len(found) == len(starts)


def test_a_block_that_needs_more_than_a_worker_has_is_a_mistake(folder):
    found = mistakes(memory=50_000)
    assert found[0].startswith(
        "p.yaml:2: block: step 'pieces': a block of [16, 16, 16] needs about 78.1 KiB in pass "
        "'map', and a worker has 48.8 KiB"
    )
    assert planned(memory=10**9).steps


def test_a_full_disk_is_a_mistake_unless_the_volume_is_there(folder, monkeypatch):
    def full(path: object) -> Any:
        return shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000)

    monkeypatch.setattr(shutil, "disk_usage", full)
    (found,) = mistakes()
    assert found.startswith("p.yaml:1: run: no space: the volumes take at least ")
    for name in ("pieces", "segmentation", "sizes"):
        (folder / "out" / name).mkdir(parents=True)
    assert planned().steps


def test_a_foreign_volume_in_the_place_of_an_output_is_a_mistake(folder):
    import tensorstore

    spec = {
        "driver": "zarr",
        "kvstore": {"driver": "file", "path": str(folder / "theirs.zarr")},
        "metadata": {"shape": [4, 4, 4], "dtype": "|u1"},
        "create": True,
    }
    tensorstore.open(spec).result()
    (found,) = mistakes(GOOD, "volumes.pieces.path=zarr://theirs.zarr")
    assert "was not written by volflow and will not be replaced" in found


def test_pipelines_without_bounds_or_resolution_say_so(folder):
    text = "run: out\nsteps: [{use: 'tests.engine.toys:Index'}]\n"
    found = mistakes(text)
    assert len(found) == 2
    assert "no step reads a volume that would tell the bounds" in found[0]
    assert "nothing tells the resolution" in found[1]
    assert planned(text + "bounds: 0:9,0:9,0:9\nresolution: [8, 8, 8]").steps


def test_more_voxels_than_ids_are_a_mistake(folder):
    side = "0:4194304"
    text = "run: out\nsteps: [{use: 'tests.engine.toys:Index'}]\nresolution: [8, 8, 8]\n"
    found = mistakes(f"{text}bounds: {side},{side},{side}\nblock: [4194304, 4194304, 4194304]\n")
    assert any("holds 73786976294838206464 voxels; ids end at 2**63" in line for line in found)


def test_planning_writes_nothing(folder):
    before = sorted(folder.rglob("*"))
    planned()
    mistakes(GOOD.replace("affinity.zarr", "float.zarr"))
    after = [path for path in sorted(folder.rglob("*")) if path.name != "p.yaml"]
    assert after == before


def test_a_module_beside_the_file_is_found(folder):
    (folder / "deeper").mkdir()
    (folder / "deeper" / "volflow_test_mine.py").write_text(
        "from tests.engine.plan_stages import Later\nclass Mine(Later):\n    pass\n"
    )
    text = (
        "run: out\nvolumes: {affinity: {path: em.zarr}}\nsteps: [{use: 'volflow_test_mine:Mine'}]\n"
    )
    (folder / "deeper" / "p.yaml").write_text(text)
    result = plan(load("deeper/p.yaml"))
    assert result.steps[0].name == "mine"
    assert result.search_path == (str(folder / "deeper"), str(folder))
    (folder / "deeper" / "volflow_test_bad.py").write_text("x = = 1\n")
    (folder / "deeper" / "p.yaml").write_text(text.replace("test_mine", "test_bad"))
    with pytest.raises(PlanError, match=r"deeper/p.yaml:3: .* does not import: SyntaxError"):
        plan(load("deeper/p.yaml"))


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
    found = Mistakes(Where())
    grid = BlockGrid(bounds, block)
    check_fit(step, "v", VolumeSpec(chunk=chunk), grid, chunk, found)
    assert bool(found) != aligned(grid, chunk)
    if found:
        fit = found.found[0].rpartition("fits: ")[2]
        better = triple([int(side) for side in fit.strip("[]").split(",")])
        assert aligned(BlockGrid(bounds, better), chunk)


# --- what is shipped -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(shipped("pipelines")))
def test_shipped_pipelines_are_right_as_they_stand(name):
    pipeline = load(shipped("pipelines")[name])
    found = Mistakes(pipeline.where)
    wiring = wire(pipeline, found)
    assert not found.found
    assert len(wiring.steps) == len(pipeline.steps)
    assert {step.use for step in pipeline.steps} <= set(installed_stages())
