"""A sweep's scores are those of the segmentations at its thresholds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import volflow
from tests.harness import Memory, run_stage
from tests.stages.contract import filled
from tests.stages.test_thresholds import segmentations, smooth
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.core.skeleton import Skeleton
from volflow.core.stage import Columns, Layer, Record
from volflow.engine.api import make_plan
from volflow.engine.phases.group import partition
from volflow.errors import PlanError
from volflow.io.skeletons.sets import write_skeletons
from volflow.io.volume import Volume
from volflow.metrics.voxels.contingency import contingency, scores
from volflow.segment.restrict import masked
from volflow.stages.agglomerate import Agglomerate
from volflow.stages.fragments import Fragments
from volflow.stages.sweep import Sweep

BOUNDS = Box((3, 0, 5), (23, 18, 26))
AFFINITY = smooth(BOUNDS.shape, 16)
THRESHOLDS = (0.45, 0.5, 0.55, 0.6, 0.7)
MASK = np.ones(BOUNDS.shape, bool)
MASK[:4, 5:9] = False
SINGLE = Columns((("piece", "uint64"), ("segment", "uint64")))


def truth_of(threshold: float = 0.57) -> np.ndarray:
    """Something like one of the segmentations, and partly unlabelled."""
    grid = BlockGrid(BOUNDS, BOUNDS.shape)
    actual = segmentations(Fragments(), Agglomerate(threshold=(threshold,)), grid, AFFINITY)
    truth = np.unique(actual[threshold], return_inverse=True)[1].reshape(BOUNDS.shape)
    truth = np.roll(truth, 1, axis=2).astype(np.uint32) + 1
    truth[:, :3, :7] = 0
    return truth


TRUTH = truth_of()


FOREGROUND = np.random.default_rng(7).integers(0, 256, BOUNDS.shape, dtype=np.uint8)


def swept(block: Triple, parts: int = 3, **parameters: Any) -> dict[str, Any]:
    """The result of a sweep by blocks, its rows parted as the engine parts them."""
    memory = Memory({"affinity": (AFFINITY, BOUNDS.start)})
    grid = BlockGrid(BOUNDS, block)
    where = (MASK.astype(np.uint8), BOUNDS.start)
    for stage in (Fragments(), Agglomerate(threshold=THRESHOLDS, min_size=10)):
        run_stage(stage, grid, memory, {}, where)
    sweep = Sweep.model_validate(parameters)
    waiting = [
        sweep.rows(
            place,
            fragments=memory.read("fragments", place.read),
            truth=filled(TRUTH, BOUNDS, place.read),
            table=memory.records["table", place.index],
            foreground=filled(FOREGROUND, BOUNDS, place.read),
            mask=filled(MASK, BOUNDS, place.read),
        )
        for place in BlockGrid(BOUNDS, block, sweep.halo)
    ]
    actual: dict[str, list[Record]] = {}
    for name in sweep.rounds:
        rows = {key: np.concatenate([part[key] for part in waiting]) for key in waiting[0]}
        at = partition(rows, sweep.key(name), parts)
        split = [{key: c[at == number] for key, c in rows.items()} for number in range(parts)]
        created = [sweep.group(name, sweep.combine(name, part)) for part in split]
        actual[name] = [group.partial for group in created]
        waiting = [group.rows for group in created if group.rows]
    return sweep.result(actual)


def alone(threshold: float, mask_below: float = 0.0) -> dict[str, Any]:
    """The scores of the segmentation at one threshold, as arrays in one piece."""
    grid = BlockGrid(BOUNDS, BOUNDS.shape)
    stage = Agglomerate(threshold=(threshold,), min_size=10)
    actual = segmentations(Fragments(), stage, grid, AFFINITY, BOUNDS.start, MASK)
    segments = masked(actual[threshold], FOREGROUND, mask_below)
    return scores(contingency(TRUTH, segments, MASK))


def test_each_threshold_has_the_scores_of_its_segmentation():
    result = swept((7, 8, 9))
    assert [entry["threshold"] for entry in result["thresholds"]] == list(THRESHOLDS)
    for entry in result["thresholds"]:
        assert entry == {"threshold": entry["threshold"], **alone(entry["threshold"])}
    assert len({entry["vi"] for entry in result["thresholds"]}) == len(THRESHOLDS)


def test_masked_segments_have_the_scores_of_the_masked_segmentation():
    result, plain = swept((7, 8, 9), mask_below=0.4), swept((7, 8, 9))
    for entry, without in zip(result["thresholds"], plain["thresholds"], strict=True):
        assert entry == {"threshold": entry["threshold"], **alone(entry["threshold"], 0.4)}
        assert entry["vi"] != without["vi"]


def test_the_same_json_whatever_the_blocks_and_partitions():
    whole = swept(BOUNDS.shape, 1)
    for block, parts in [((7, 8, 9), 5), ((20, 3, 21), 40)]:
        assert json.dumps(swept(block, parts)) == json.dumps(whole)
    bordered = swept(BOUNDS.shape, 1, border=1.5)
    assert bordered != whole
    assert swept((7, 8, 9), border=1.5) == bordered


@pytest.mark.parametrize(("by", "best"), [("vi", 0.7), ("arand", 0.45)])
def test_the_best_is_the_lowest_and_comes_with_its_worst_offenders(by, best):
    result = swept((9, 9, 9), by=by, worst=10_000)
    lowest = min(entry[by] for entry in result["thresholds"])
    assert result["by"] == by
    assert result["best"][by] == lowest
    assert result["best"]["threshold"] == best
    bits = sum(entry["merge_bits"] for entry in result["best"]["worst"]["mergers"])
    assert bits == pytest.approx(result["best"]["vi_merge"], abs=1e-12)


def test_what_is_required_is_asked_of_the_best():
    stage = Sweep.model_validate({"require": {"vi": {"max": 1.0}}})
    assert stage.unmet({"best": {"vi": 0.5}, "thresholds": [{"vi": 2.0}]}) == []
    assert stage.unmet({"best": {"vi": 1.5}}) == ["vi is 1.5, and at most 1 is required"]
    reported = "vi could not be computed, but a limit is set for it"
    assert stage.unmet({"best": None}) == [reported]


def test_nothing_counted_is_a_result_too():
    none = Sweep.model_validate({}).result({"truth": [{}, {}], "segment": [{}]})
    assert none == {"by": "vi", "best": None, "thresholds": []}


def test_a_table_at_one_threshold_is_reported():
    stage = Sweep.model_validate({})
    (reported,) = stage.check_tables({"table": SINGLE})
    assert reported.startswith(
        "table: expected segments at several thresholds, got those at one; give agglomerate a list"
    )
    stage_of_many = Agglomerate(threshold=(0.2, 0.3))
    assert stage.check_tables({"table": stage_of_many.outputs["table"]}) == []


# --- through the engine --------------------------------------------------------------------------


def stored(path: Path, array: np.ndarray) -> None:
    layer = Layer(str(array.dtype), array.shape[0] if array.ndim == 4 else 0)
    spec = VolumeSpec(path=str(path))
    volume, _ = Volume.create(spec, layer, BOUNDS, (10, 8, 8), (8, 8, 8))
    volume.write(BOUNDS, array)


def pipeline(folder: Path, wanted: Any, run: str = "run", **painted: Any) -> dict[str, Any]:
    """A run that paints and scores one threshold; of a list, all are swept too."""
    sweep = {"use": "volflow.stages.sweep:Sweep", "name": "sweep"}
    for name, array in (("affinity", AFFINITY), ("truth", TRUTH)):
        if not (folder / f"{name}.zarr").exists():
            stored(folder / f"{name}.zarr", array)
    return {
        "run": str(folder / run),
        "block": [8, 8, 8],
        "volumes": {name: {"path": str(folder / f"{name}.zarr")} for name in ("affinity", "truth")},
        "steps": [
            {"use": "fragments"},
            {"use": "agglomerate", "with": {"threshold": wanted, "min_size": 10}},
            *([sweep] if isinstance(wanted, list) else []),
            {"use": "relabel", "with": painted},
            {"use": "score"},
        ],
    }


def painted(folder: Path) -> bytes:
    spec = VolumeSpec(path=f"precomputed://{folder}/segmentation")
    return Volume.open(spec, own=True).read(BOUNDS).tobytes()


def test_a_run_sweeps_and_paints_any_of_its_thresholds(tmp_path: Path):
    for threshold in (0.5, 0.6):
        many = volflow.run(pipeline(tmp_path, [0.6, 0.5], threshold=threshold))
        one = volflow.run(pipeline(tmp_path, threshold, "alone"))
        assert many.ok
        assert one.ok
        assert painted(tmp_path / "run") == painted(tmp_path / "alone")
        assert many.results["score"] == one.results["score"]
        entries = {e["threshold"]: e for e in many.results["sweep"]["thresholds"]}
        assert list(entries) == [0.5, 0.6]
        own = {name: value for name, value in entries[threshold].items() if name != "threshold"}
        assert own == {n: v for n, v in one.results["score"].items() if n != "worst"}


def test_what_the_table_does_not_hold_is_reported_at_planning(tmp_path: Path):
    def reported(*thresholds: Any, **painted: Any) -> str:
        with pytest.raises(PlanError) as caught:
            make_plan(pipeline(tmp_path, *thresholds, **painted))
        (mistake,) = caught.value.problems
        return mistake

    assert reported([0.3, 0.5]).endswith(
        "step 'relabel': threshold is not given; the table has segments at 0.3, 0.5"
    )
    mistake = reported([0.5, 0.3], threshold=0.4)
    assert "steps[3].with.threshold: " in mistake
    assert mistake.endswith("threshold 0.4 is not in the table; the table has segments at 0.3, 0.5")
    assert "threshold 0.3 selects one of several" in reported(0.3, threshold=0.3)
    make_plan(pipeline(tmp_path, [0.3]))
    document = pipeline(tmp_path, [0.3])
    document["steps"][1]["with"]["threshold"] = 0.3
    with pytest.raises(
        PlanError, match="step 'sweep': table: expected segments at several thresholds"
    ):
        make_plan(document)


# --- along skeletons -----------------------------------------------------------------------------


def traced(folder: Path, owner: np.ndarray) -> None:
    """A line of nodes along x through the middle of each of the largest labels, as SWC."""
    names, sizes = np.unique(owner[owner > 0], return_counts=True)
    lines = []
    for name in names[np.argsort(-sizes, kind="stable")][:12]:
        z, y, _ = np.argwhere(owner == name)[(owner == name).sum() // 2]
        x = np.flatnonzero(owner[z, y] == name)
        place = np.stack([np.full_like(x, z), np.full_like(x, y), x], 1) + BOUNDS.start
        parent = np.arange(len(x)) - 1
        lines.append(Skeleton(int(name), place * [10.0, 8.0, 8.0], parent, np.full(len(x), 9.0)))
    write_skeletons(f"swc://{folder}/traced", lines)


def test_run_lengths_at_each_threshold_are_those_of_its_segmentation(tmp_path: Path):
    traced(tmp_path, TRUTH)
    skeletons = {"path": f"swc://{tmp_path}/traced"}
    sweep = {"use": "volflow.stages.sweep_skeletons:SweepSkeletons", "name": "swept"}

    def actual(wanted: Any, run: str, step: dict[str, Any]) -> Any:
        document = pipeline(tmp_path, wanted, run, threshold=wanted[0] if sweep is step else None)
        document["volumes"]["skeletons"] = skeletons
        document["steps"] = [s for s in document["steps"] if s.get("name") != "sweep"]
        document["steps"].append(step)
        return volflow.run(document)

    result = actual([0.6, 0.45, 0.7], "run", sweep)
    assert result.ok
    many = result.results["swept"]
    assert [entry["threshold"] for entry in many["thresholds"]] == [0.45, 0.6, 0.7]
    for entry in many["thresholds"]:
        one = actual(entry["threshold"], "alone", {"use": "score_skeletons"})
        own = one.results["score_skeletons"]
        assert {n: own[n] for n in entry if n != "threshold"} == {
            n: v for n, v in entry.items() if n != "threshold"
        }
        if entry["threshold"] == many["best"]["threshold"]:
            assert {n: v for n, v in many["best"].items() if n != "threshold"} == own
    lengths = [entry["erl"] for entry in many["thresholds"]]
    assert len(set(lengths)) > 1
    assert many["best"]["erl"] == max(lengths)
