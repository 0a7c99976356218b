from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.engine.plan.plan_cases import (
    BOUNDS,
    GOOD,
    STAGES,
    planned,
    problems,
)
from volflow.config.pipeline import load
from volflow.engine.plan.plan import plan
from volflow.errors import PlanError

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
            "p.yaml:14: steps[1].with.threshold: expected less than or equal to 1; got 3",
        ),
        (
            "threshold: 0.3",
            "treshold: 0.3\n      threshold: 0.3",
            "p.yaml:14: steps[1].with.treshold: unknown key 'treshold'; did you mean 'threshold'?",
        ),
        ("threshold: 0.3", "{}", "p.yaml:13: steps[1].with.threshold: missing, and has no default"),
        (
            "threshold: 0.3",
            "threshold: 0.99",
            "p.yaml:14: steps[1].with.threshold: step 'table': threshold",
        ),
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
            "p.yaml:4: volumes.affinity: step 'pieces' reads 'affinity': expected uint8, got "
            "float32; volumes.affinity.scale: 255 converts",
        ),
        (
            "affinity.zarr",
            "two.zarr",
            "p.yaml:4: volumes.affinity: step 'pieces' reads 'affinity': expected 3 channels, got "
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
            "p.yaml:8: volumes.em: resolution [10, 16, 16] nm; expected that of the "
            "run, [10, 8, 8] nm",
        ),
        (
            "em.zarr",
            "small.zarr",
            f"p.yaml:8: volumes.em: bounds {BOUNDS} extend beyond volume 'em'",
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
            "'pieces' wrote it, so both need the same block; got [16, 16, 32] and [16, 16, 16]",
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
            "p.yaml:10: volumes.pieces.offset_sign: a step writes 'pieces', but 'offset_sign' is",
        ),
        (
            "steps:\n",
            "  pieces: {resolution: [9, 9, 9]}\nsteps:\n",
            "p.yaml:10: volumes.pieces: resolution [9, 9, 9] nm; expected that of the "
            "run, [10, 8, 8] nm",
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
def test_a_mistake_is_reported_with_file_line_and_path(folder, old, new, message):
    assert old in GOOD
    text = GOOD.replace(old, new)
    if message is None:
        planned(text)
        return
    actual = problems(text)
    assert [line for line in actual if line.startswith(message)], actual
    assert len(actual) == 1, actual


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["volumes.mask.path=odd.zarr"], "volumes.mask.path=odd.zarr"),
        (["volumes.mask.path=far.zarr"], "covers 4:44,500:570,10:60, no part of 4:44,0:70,10:60"),
    ],
)
def test_a_mask_that_does_not_fit_is_a_mistake(folder, overrides, message):
    actual = problems(GOOD, "mask=mask", *overrides)
    assert len(actual) == 1
    assert "mask: 'mask' " in actual[0]
    if "far" in overrides[0]:
        assert message in actual[0]
    else:
        assert "has [10, 12, 8] nm, which is not a whole multiple" in actual[0]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("steps.sizes.out={sizes: records}", "steps[4]: step 'sizes' would write 'records' where "),
        ("volumes.sizes.path=precomputed://out", "where 'the run' is: precomputed://"),
        ("volumes.sizes.path=precomputed://out/pieces", "where 'pieces' is: precomputed://"),
    ],
)
def test_a_volume_where_something_else_is_kept_is_a_mistake(folder, option, message):
    (actual,) = problems(GOOD, option)
    assert message in actual


def test_bounds_beyond_the_inputs_are_a_mistake_for_each_of_them(folder):
    actual = problems(GOOD.replace("block: [16, 16, 16]", "bounds: 0:44,0:70,10:60"))
    start = "p.yaml:2: bounds: bounds 0:44,0:70,10:60 extend beyond volume"
    assert actual == [f"{start} '{name}', which is {BOUNDS}" for name in ("affinity", "em")]


def test_a_mistake_made_by_an_option_names_the_option(folder):
    (actual,) = problems(GOOD, "steps.table.treshold=0.4")
    start = (
        "--set steps.table.treshold=0.4: steps[1].with.treshold: unknown key 'treshold'; did you"
    )
    assert actual.startswith(start)
    (actual,) = problems(GOOD, "volumes.emm.path=em.zarr")
    assert actual.startswith("--set volumes.emm.path=em.zarr: volumes.emm.path: no step reads")


@pytest.mark.parametrize(("length", "same"), [(50, True), (80, True), (49, False)])
def test_blocks_as_long_as_the_bounds_are_the_same(folder, length, same):
    """Segments reads pieces block by block; the bounds have 50 voxels along x."""
    text = GOOD.replace("block: [16, 16, 16]", "block: [16, 16, 64]")
    text = text.replace("Segments\n", f"Segments\n    block: [16, 16, {length}]\n")
    if same:
        pieces, segments = (
            {len(job.phase.grid) for step in planned(text).steps if step.name == name
             for job in step.jobs if job.targets}
            for name in ("pieces", "segments")
        )  # fmt: skip
        assert pieces == segments
    else:
        (problem,) = problems(text)
        assert "so both need the same block; got [16, 16, 49] and [16, 16, 64]" in problem


def test_mistakes_of_all_kinds_are_reported_at_once(folder):
    text = GOOD.replace("em.zarr", "coarse.zarr").replace("threshold: 0.3", "threshold: 3")
    text = text.replace("levels: 2", "levles: 2").replace("run: out", "run: out\nblok: [8, 8, 8]")
    actual = problems(text, "bad_sections=[1000]", "steps.sizes.attempts=0")
    starts = [
        "p.yaml:2: blok",
        "p.yaml:15: steps[1].with.threshold",
        "p.yaml:19: steps[3].with.levl",
    ]
    starts += ["--set bad_sections=[1000]", "--set steps.sizes.attempts=0", "p.yaml:9: volumes.em"]
    for start in starts:
        assert sum(line.startswith(start) for line in actual) == 1, actual
    assert len(actual) == len(starts)


def test_a_block_that_needs_more_than_a_worker_has_is_a_mistake(folder):
    actual = problems(memory=256 << 20)
    assert actual[0].startswith(
        "p.yaml:2: block: step 'pieces': a block of [16, 16, 16] needs about 268.5 MB in "
        "phase 'map', and a worker has 268.4 MB"
    )
    assert planned(memory=10**9).steps


def test_a_full_disk_is_a_mistake_unless_the_volume_is_there(folder, monkeypatch):
    def full(path: object) -> Any:
        return shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000)

    monkeypatch.setattr(shutil, "disk_usage", full)
    (actual,) = problems()
    assert actual.startswith("p.yaml:1: run: no space: the volumes take at least ")
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
    (actual,) = problems(GOOD, "volumes.pieces.path=zarr://theirs.zarr")
    assert "was not written by volflow and will not be replaced" in actual


def test_pipelines_without_bounds_or_resolution_say_so(folder):
    text = "run: out\nsteps: [{use: 'tests.engine.toys:Index'}]\n"
    actual = problems(text)
    assert len(actual) == 2
    assert "the bounds are unknown, as no step reads a volume" in actual[0]
    assert "the resolution is unknown" in actual[1]
    assert planned(text + "bounds: 0:9,0:9,0:9\nresolution: [8, 8, 8]").steps


def test_more_voxels_than_ids_are_a_mistake(folder):
    side = "0:4194304"
    text = "run: out\nsteps: [{use: 'tests.engine.toys:Index'}]\nresolution: [8, 8, 8]\n"
    actual = problems(f"{text}bounds: {side},{side},{side}\nblock: [4194304, 4194304, 4194304]\n")
    assert any("has 73786976294838206464 voxels; ids end at 2**63" in line for line in actual)


@pytest.mark.parametrize("stage", ["Pieces", "Table", "Segments", "Sizes"])
def test_a_stage_that_does_not_exist_is_the_only_problem(folder, stage):
    declared = GOOD.replace("volumes:\n", "volumes:\n  pieces: {encoding: raw}\n")
    (problem,) = problems(declared.replace(f"{STAGES}:{stage}", f"{STAGES}:Missing"))
    assert "'tests.engine.plan.plan_stages' has no Stage called 'Missing'" in problem


def test_an_input_that_is_not_connected_is_the_only_problem(folder):
    text = "run: out\nvolumes: {em: {path: em.zarr}}\nsteps: [{use: convert}]\n"
    (problem,) = problems(text)
    assert "reads 'volume', which is not declared" in problem


def test_planning_writes_nothing(folder):
    before = sorted(folder.rglob("*"))
    planned()
    problems(GOOD.replace("affinity.zarr", "float.zarr"))
    after = [path for path in sorted(folder.rglob("*")) if path.name != "p.yaml"]
    assert after == before


def test_a_module_next_to_the_file_is_found(folder):
    (folder / "deeper").mkdir()
    (folder / "deeper" / "volflow_test_mine.py").write_text(
        "from tests.engine.plan.plan_stages import Later\nclass Mine(Later):\n    pass\n"
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
