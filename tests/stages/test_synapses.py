"""The laws of the table of synapses: the same whatever the blocks, partners as they are."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import volflow
from tests.stages.contract import Case, StageContract, filled
from tests.strategies import triples
from volflow.cli import main
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.core.stage import Layer, Record, find_stage
from volflow.engine.phases.group import partition
from volflow.io.tables.partners import NEURONS as NEURON_COLUMNS
from volflow.io.tables.partners import SITES, read_partners
from volflow.io.volume import Volume
from volflow.segment.synapses.pairing import TABLE, choose_partners, merge_duplicates
from volflow.stages.synapses import Synapses
from volflow.synth import Neuropil
from volflow.synth.synapses import CLEFT, POST, PRE

BOUNDS = Box((2, -3, 5), (12, 9, 19))
RESOLUTION = (20.0, 8.0, 10.0)
RANDOM = np.random.default_rng(3)
NEURONS = np.kron(RANDOM.integers(0, 5, (5, 4, 5)), np.ones((2, 3, 3)))[:, :, :14].astype("u8")
CLEFTS = np.zeros(BOUNDS.shape, np.uint64)
for number, (z, y, x) in enumerate([(1, 1, 1), (4, 5, 4), (4, 5, 9), (8, 9, 11), (2, 8, 3)]):
    CLEFTS[z : z + 2, y : y + 2, x : x + 3] = (1 << 60) + 7 * number
PROBABILITY = RANDOM.integers(0, 256, (3, *BOUNDS.shape)).astype(np.uint8)
PROBABILITY[1:][RANDOM.random((2, *BOUNDS.shape)) < 0.3] = 0
VOLUMES = {"clefts": CLEFTS, "probability": PROBABILITY, "segmentation": NEURONS}
NEAR = {"resolution": RESOLUTION, "reach_nm": 41.0}


class TestSynapses(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        return Case(Synapses(**NEAR), BOUNDS, VOLUMES)


def run(
    shape: Triple,
    parts: int = 3,
    volumes: Mapping[str, np.ndarray] = VOLUMES,
    bounds: Box = BOUNDS,
    stored: Box | None = None,
    **parameters: Any,
) -> tuple[dict[str, Any], Record]:
    """Result and table over blocks of a shape, rows parted as the engine parts them."""
    stage = Synapses(**{**NEAR, **parameters})
    actual: dict[str, list[Record]] = {}
    waiting = []
    for block in BlockGrid(bounds, shape, stage.halo):
        waiting.append(
            stage.rows(
                block, **{n: filled(a, stored or bounds, block.read) for n, a in volumes.items()}
            )
        )
    for name in stage.rounds:
        if not waiting:
            actual[name] = []
            continue
        rows = {key: np.concatenate([part[key] for part in waiting]) for key in waiting[0]}
        where = partition(rows, stage.key(name), parts)
        split = [{k: c[where == number] for k, c in rows.items()} for number in range(parts)]
        filled_ones = [part for part in split if len(next(iter(part.values())))]
        created = [stage.group(name, stage.combine(name, part)) for part in filled_ones]
        actual[name] = [group.partial for group in created]
        waiting = [group.rows for group in created if group.rows]
    return stage.result(actual), stage.table(actual)


def brute(least: float = 1.0) -> dict[int, dict[str, Any]]:
    """Each cleft's sums, voxel by voxel: by neuron, what is pre and post, and how much of each."""
    side = np.array(RESOLUTION)
    places = {int(c): np.argwhere(c == CLEFTS) for c in np.unique(CLEFTS[CLEFTS > 0])}
    actual = {
        c: {"size": len(p), "sums": defaultdict(lambda: [0, 0, 0])} for c, p in places.items()
    }
    for voxel in np.ndindex(BOUNDS.shape):
        away = {c: np.linalg.norm((p - voxel) * side, axis=1).min() for c, p in places.items()}
        nearest = min(away, key=lambda c: (round(away[c], 6), c))
        if NEURONS[voxel] and away[nearest] <= 41.0 + 1e-6:
            sums = actual[nearest]["sums"][int(NEURONS[voxel])]
            sums[0] += int(PROBABILITY[1][voxel])
            sums[1] += int(PROBABILITY[2][voxel])
            sums[2] += int(PROBABILITY[1][voxel]) * (np.array(voxel) + BOUNDS.start)
    for entry in actual.values():
        able = [
            (entry["sums"][i][0] + entry["sums"][j][1], i, j)
            for i in entry["sums"]
            for j in entry["sums"]
            if i != j and min(entry["sums"][i][0], entry["sums"][j][1]) >= 255 * least
        ]
        entry["pair"] = max(able)[1:] if able else None
    return actual


def test_partners_and_sums_are_those_of_all_voxels_counted_one_by_one() -> None:
    expected = brute()
    result, table = run((4, 5, 6), merge_nm=0)
    assert result["clefts"] == len(expected) == 5
    pairs = {
        int(c): (int(i), int(j))
        for c, i, j in zip(*(table[n] for n in ("synapse_id", "pre", "post")), strict=True)
    }
    assert pairs == {c: entry["pair"] for c, entry in expected.items() if entry["pair"]}
    assert len(pairs) >= 4
    assert result["without_partners"] == len(expected) - len(pairs)
    for row, cleft in enumerate(table["synapse_id"].tolist()):
        entry = expected[cleft]
        assert table["size_vox"][row] == entry["size"]
        pre, _ = entry["pair"]
        share = entry["sums"][pre][0] / sum(sums[0] for sums in entry["sums"].values())
        assert table["pre_score"][row] == pytest.approx(share, abs=5.1e-4)
        at = [table[f"pre_{axis}"][row] for axis in "zyx"]
        weighted = entry["sums"][pre][2] / entry["sums"][pre][0] * RESOLUTION
        np.testing.assert_allclose(at, weighted, atol=1e-3)
        middle = (np.argwhere(cleft == CLEFTS) + BOUNDS.start).mean(axis=0) * RESOLUTION
        at = [table[f"cleft_{axis}"][row] for axis in "zyx"]
        np.testing.assert_allclose(at, middle, atol=1e-3)
        low = np.argwhere(cleft == CLEFTS).min(axis=0) + BOUNDS.start
        assert [table[f"{axis}0"][row] for axis in "zyx"] == low.tolist()
        high = np.argwhere(cleft == CLEFTS).max(axis=0) + BOUNDS.start
        assert [table[f"{axis}1"][row] for axis in "zyx"] == (high + 1).tolist()
        mean = PROBABILITY[0][cleft == CLEFTS].mean() / 255
        assert table["score"][row] == pytest.approx(mean, abs=5.1e-4)


@settings(max_examples=25, deadline=None)
@given(
    triples(1, 14),
    st.integers(1, 5),
    st.sampled_from([None, 0.2]),
    st.sampled_from([0.0, 90.0, 500.0]),
)
def test_the_same_table_whatever_the_blocks(shape, parts, polyadic, merge) -> None:
    remaining = {"polyadic": polyadic, "merge_nm": merge}
    whole = run(BOUNDS.shape, 1, **remaining)
    actual = run(shape, parts, **remaining)
    assert json.dumps(actual[0]) == json.dumps(whole[0])
    assert actual[1].keys() == whole[1].keys()
    for name in actual[1]:
        assert actual[1][name].tobytes() == whole[1][name].tobytes(), name


def test_what_lies_beyond_the_bounds_says_nothing() -> None:
    inner = Box((4, 1, 8), (11, 7, 17))
    remaining = np.zeros(BOUNDS.shape, bool)
    remaining[inner.within(BOUNDS)] = True
    within = {name: array * remaining.astype(array.dtype) for name, array in VOLUMES.items()}
    expected = run((3, 4, 5), 1, within, inner, BOUNDS, merge_nm=0)
    actual = run((3, 4, 5), 1, VOLUMES, inner, BOUNDS, merge_nm=0)
    assert actual[0] == expected[0]
    assert 0 < actual[0]["synapses"] < 5
    for name in actual[1]:
        np.testing.assert_array_equal(actual[1][name], expected[1][name], err_msg=name)


def test_without_neurons_the_table_is_of_clefts_alone() -> None:
    alone = {name: array for name, array in VOLUMES.items() if name != "segmentation"}
    result, table = run((4, 5, 6), volumes=alone)
    assert result == {"clefts": 5}
    assert sorted(table["synapse_id"].tolist()) == np.unique(CLEFTS[CLEFTS > 0]).tolist()
    assert not table["pre"].any()
    np.testing.assert_array_equal(table["pre_x"], table["cleft_x"])


def test_no_clefts_make_an_empty_table() -> None:
    result, table = run((4, 5, 6), volumes={**VOLUMES, "clefts": np.zeros_like(CLEFTS)})
    assert result.get("clefts") == 0
    assert {len(column) for column in table.values()} == {0}


@pytest.mark.parametrize("block", [(32, 32, 32), (48, 96, 96), (17, 96, 20)])
def test_synthetic_truth_gives_its_own_partners_across_block_borders_too(block) -> None:
    names, volumes, table, bounds = neuropil()
    result, actual = run(
        block, 2, volumes, bounds, resolution=(10.0, 10.0, 10.0), reach_nm=100.0, merge_nm=0
    )
    columns = (actual[name].tolist() for name in ("synapse_id", "pre", "post"))
    pairs = {cleft: (pre, post) for cleft, pre, post in zip(*columns, strict=True)}
    assert pairs == {c: pair for c, pair in table.items() if c in names}
    assert len(pairs) > 15
    assert result["without_partners"] == 0
    place = np.stack([actual[f"cleft_{axis}"] for axis in "zyx"], axis=1) / 10
    cut = np.floor((place - 4) / block) != np.floor((place + 4) / block)
    assert block == (48, 96, 96) or cut.any(axis=1).sum() > 3  # clefts that blocks cut


@lru_cache
def neuropil() -> tuple[set[int], dict[str, np.ndarray], dict[int, tuple[int, int]], Box]:
    """Clefts inside of a synthetic volume, its sides as probabilities, and its true partners."""
    bounds = Box((0, 0, 0), (48, 96, 96))
    scene = Neuropil(bounds, seed=5, cell=10, synapses=True).scene(bounds, mitochondria=False)
    names, pre, post, _ = scene.table
    sides = np.stack([np.where(scene.sides == part, 255, 0) for part in (CLEFT, PRE, POST)])
    clefts = np.where(scene.sides == CLEFT, scene.synapses, 0).astype(np.uint64)
    truth = dict(zip(names.tolist(), zip(pre.tolist(), post.tolist(), strict=True), strict=True))
    volumes = {
        "clefts": clefts,
        "probability": sides.astype(np.uint8),
        "segmentation": scene.rendered.truth,
    }
    return set(np.unique(clefts[clefts > 0]).tolist()), volumes, truth, bounds


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("slant", [0, 1, 2])
def test_the_area_of_a_flat_sheet_is_its_own_however_it_lies(axis: int, slant: int) -> None:
    bounds, side = Box((0, 0, 0), (40, 40, 40)), (10.0, 8.0, 8.0)
    z, y, x = np.moveaxis(np.indices(bounds.shape), [1, 2, 3], np.roll([1, 2, 3], axis))
    depth = slant * y // 2 + x // 2  # the sheet rises by so much
    high = (z >= depth + 1) & (z < depth + 3)
    sheet = high & (y >= 4) & (y < 28) & (x >= 4) & (x < 28)
    volumes = {
        "clefts": sheet.astype(np.uint64),
        "probability": np.zeros((3, *bounds.shape), np.uint8),
    }
    _, table = run((17, 40, 23), 1, volumes, bounds, resolution=side)
    up, across, along = np.roll(side, axis)
    rise = np.array([1, slant / 2 * up / across, up / 2 / along])
    expected = 24 * 24 * across * along * np.linalg.norm(rise)
    assert table["area_nm2"][0] == pytest.approx(expected, rel=0.15)


# --- who with whom -------------------------------------------------------------------------------


def test_a_pair_is_of_two_neurons_and_the_best_such() -> None:
    alone = np.array([500.0, 0.0]), np.array([900.0, 0.0])
    assert choose_partners(*alone) == []
    strong = np.array([500.0, 300.0, 40.0]), np.array([900.0, 100.0, 90.0])
    assert choose_partners(*strong) == [(1, 0)]  # 300 + 900 beats 500 + 100
    equal = np.array([10.0, 10.0, 10.0]), np.array([10.0, 10.0, 10.0])
    assert choose_partners(*equal) == [(0, 1)]
    assert (
        choose_partners(*strong, least=301) == [(0, 1)] or choose_partners(*strong, least=301) == []
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=6), st.integers(1, 4))
def test_the_chosen_pair_is_the_best_of_all_that_are_allowed(sums, least) -> None:
    pre, post = (np.array([s[n] for s in sums], float) for n in (0, 1))
    able = [
        (pre[i] + post[j], pre[i], -i, -j)
        for i in range(len(sums))
        for j in range(len(sums))
        if i != j and pre[i] >= least and post[j] >= least
    ]
    chosen = choose_partners(pre, post, least)
    assert len(chosen) == bool(able)
    if able:
        i, j = chosen[0]
        assert pre[i] + post[j] == max(able)[0]
        assert i != j
        many = choose_partners(pre, post, least, polyadic=0.3)
        total = post.sum() - post[i]
        assert many[0] == chosen[0] or post[many[0][1]] >= post[j]
        expected = {k for k in range(len(sums)) if k != i and post[k] >= max(least, 0.3 * total)}
        assert {k for _, k in many} == expected | {j}
        assert {k for k, _ in many} == {i}


def table_of(rows: list[tuple[int, int, int, float, int]]) -> Record:
    """A table of id, pre, post, place along x and size."""
    actual = {name: np.zeros(len(rows)) for name in TABLE}
    for at, name in enumerate(("synapse_id", "pre", "post")):
        actual[name] = np.array([row[at] for row in rows], np.uint64)
    actual["cleft_x"] = np.array([row[3] for row in rows])
    actual["size_vox"] = np.array([row[4] for row in rows])
    actual["clefts"] = np.ones(len(rows), np.int64)
    for name in ("x0", "x1"):
        actual[name] = actual["cleft_x"].astype(np.int64) + (name == "x1")
    return actual


def test_duplicates_are_near_and_of_the_same_neurons_in_the_same_direction() -> None:
    rows = [
        (1, 7, 8, 0.0, 50),
        (2, 7, 8, 500.0, 60),  # just near enough, and larger
        (3, 8, 7, 100.0, 10),  # the other way round
        (4, 7, 9, 100.0, 10),
        (5, 7, 8, 1000.5, 20),  # too far from 2, and 1 is taken
    ]
    for order in (rows, rows[::-1]):
        actual = merge_duplicates(table_of(order), 500.0)
        assert actual["synapse_id"].tolist() == [2, 5, 4, 3]
        assert actual["size_vox"].tolist() == [110, 20, 10, 10]
        assert actual["clefts"].tolist() == [2, 1, 1, 1]
        assert (actual["x0"][0], actual["x1"][0]) == (0, 501)
    assert len(merge_duplicates(table_of(rows), 0.0)["pre"]) == 5
    assert len(merge_duplicates(table_of(rows), 499.9)["pre"]) == 5


# --- through the engine --------------------------------------------------------------------------


def pipeline_run(folder: Path, name: str, block: Triple, neurons: bool) -> tuple[Any, Path]:
    """The shipped pipeline on the synthetic volume, stored; its result and the file it leaves."""
    _, volumes, _, bounds = neuropil()
    stored = {"synapse": volumes["probability"], "segmentation": volumes["segmentation"]}
    overrides = [f"run={folder / name}", f"block={list(block)}"]
    overrides += ["steps.objects.min_size=8", "steps.synapses.resolution=[10,10,10]"]
    overrides += ["steps.synapses.merge_nm=2000"]
    for volume, array in stored.items():
        address = f"zarr3://{folder / volume}.zarr"
        kind = "image" if volume == "synapse" else "segmentation"
        layer = Layer(array.dtype.name, 3 if volume == "synapse" else 0, kind)
        created, fresh = Volume.create(
            VolumeSpec(path=address), layer, bounds, (10, 10, 10), (48, 48, 48)
        )
        if fresh:
            created.write(bounds, array)
        if neurons or volume == "synapse":
            overrides.append(f"volumes.{volume}.path={address}")
    result = volflow.run("synapse_table", overrides=overrides)
    assert result.ok
    return result.results["synapses"], folder / name / "results" / "synapses.csv"


def true_table(path: Path) -> Path:
    """A line to each pair of neurons: the middles of both sides of its largest synapse."""
    names, volumes, truth, _ = neuropil()
    size = {name: int((volumes["clefts"] == name).sum()) for name in names}
    best = {truth[name]: name for name in sorted(names, key=lambda n: size[n])}
    lines = [",".join([*SITES, *NEURON_COLUMNS])]
    for pair, name in best.items():
        near = np.argwhere(volumes["clefts"] == name).mean(axis=0)
        line = [*(10 * near).tolist(), *(10 * near).tolist(), *pair]
        lines.append(",".join(map(str, line)))
    path.write_text("\n".join(lines))
    return path


def test_the_bundled_pipeline_finds_true_partners_and_its_table_is_scored(tmp_path) -> None:
    names, _, truth, _ = neuropil()
    result, file = pipeline_run(tmp_path, "one", (48, 48, 48), neurons=True)
    _, other = pipeline_run(tmp_path, "other", (30, 96, 41), neurons=True)
    assert file.read_bytes() == other.read_bytes()
    with file.open() as text:
        rows = list(csv.DictReader(text))
    assert tuple(rows[0]) == TABLE
    pairs = {truth[name] for name in names}
    assert len(rows) == result["synapses"] == len(pairs) > 20
    assert {(int(row["pre"]), int(row["post"])) for row in rows} == pairs
    assert len(read_partners(str(file))) == len(rows)
    reported = ["--partners", str(file), "--true-partners", str(true_table(tmp_path / "true.csv"))]
    reported += ["--truth", f"zarr3://{tmp_path}/segmentation.zarr", "--json"]
    scored = CliRunner().invoke(main, ["score", *reported], catch_exceptions=False)
    assert scored.exit_code == 0, scored.output
    actual = json.loads(scored.stdout)["partners"]
    assert (actual["neurons"], actual["truth_partners"]) == (True, len(pairs))
    assert actual["f1"] == 1  # neurons are looked up at the sites, so these are inside of them


def test_the_bundled_pipeline_makes_a_table_of_clefts_where_there_are_no_neurons(tmp_path) -> None:
    result, file = pipeline_run(tmp_path, "alone", (48, 48, 96), neurons=False)
    assert list(result) == ["clefts"]
    with file.open() as text:
        assert len(list(csv.DictReader(text))) == result["clefts"] > 20


def test_mistakes_are_reported_before_anything_starts() -> None:
    assert find_stage("synapses") is Synapses
    stage = Synapses(resolution=(8, 8, 8), channels=(0, 1, 3))
    reported = stage.check_inputs({"probability": Layer("uint8", 3)}, (10, 8, 8))
    assert reported == [
        "resolution: expected that of the run, [10, 8, 8] nm (z, y, x); got [8.0, 8.0, 8.0]",
        "channels: expected three channels of probability, 0 to 2; got [0, 1, 3]",
    ]
    for wrong in ({"polyadic": 1.5}, {"reach_nm": 0}, {"merge_nm": -1}, {"least": 0}):
        with pytest.raises(ValidationError):
            Synapses(resolution=(8, 8, 8), **wrong)
