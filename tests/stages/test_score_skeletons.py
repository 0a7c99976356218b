"""Scores along skeletons are the same in blocks as in one piece, whatever the blocks."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from volflow import run as run_pipeline
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.core.skeleton import Skeleton, from_edges
from volflow.core.stage import Layer, find_stage
from volflow.engine.api import make_plan
from volflow.engine.plan.planner import PROCESS_MEMORY
from volflow.errors import PlanError
from volflow.io.skeletons.placed_nodes import NODE_BYTES
from volflow.io.skeletons.sets import write_skeletons
from volflow.io.volume import Volume
from volflow.metrics.skeletons.forest import SkeletonForest
from volflow.metrics.skeletons.nerl import Nuclei
from volflow.metrics.skeletons.nodes_at_mitochondria import mito_nodes
from volflow.metrics.skeletons.nodes_at_synapses import synapse_nodes
from volflow.metrics.skeletons.scores import SkeletonOptions, skeleton_scores
from volflow.stages.score_skeletons import ScoreSkeletons
from volflow.synth import Neuropil

BOUNDS = Box((3, -5, 11), (73, 75, 101))
RESOLUTION = (10.0, 8.0, 8.0)
BLOCKS: tuple[Triple, ...] = ((70, 80, 90), (32, 24, 40), (17, 80, 9))


class Brain(NamedTuple):
    """A folder with volumes and skeletons, and what they hold."""

    folder: Path
    arrays: dict[str, np.ndarray]
    skeletons: list[Skeleton]


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    """Synthetic tissue whose segmentation splits some neurites and merges others."""
    folder = tmp_path_factory.mktemp("brain")
    tissue = Neuropil(BOUNDS, seed=1, cell=8, synapses=True, nucleus=8)
    scene = tissue.scene(BOUNDS)
    truth = scene.rendered[0]
    z = np.arange(truth.shape[0])[:, None, None]
    segments = np.where(truth % 7 == 0, truth.dtype.type(7), truth)
    segments = np.where((truth % 3 == 1) & (z > 40), segments + (1 << 33), segments)
    segments[truth == 0] = 0
    assert scene.mitochondria is not None
    arrays = {
        "segmentation": segments,
        "mito": scene.mitochondria,
        "clefts": scene.synapses,
        "nuclei": scene.nuclei,
    }
    for name, array in arrays.items():
        store(folder, name, array)
    actual = tissue.skeletons(BOUNDS)
    traced = []
    for owner in np.unique(actual.owner):
        own = actual.owner == owner
        edges = actual.edges[np.isin(actual.edges, actual.names[own]).all(axis=1)]
        pairs = np.searchsorted(actual.names[own], edges)
        place, radius = actual.places_nm(RESOLUTION)[own], actual.radii[own] * RESOLUTION[2]
        traced.append(from_edges(place, pairs, radius, int(owner)))
    # one that is partly and one that is wholly outside the volume
    first = max(traced, key=len)
    away = np.array(BOUNDS.shape) * RESOLUTION
    traced.append(dataclasses.replace(first, name=1 << 40, position=first.position + away / 2))
    traced.append(dataclasses.replace(first, name=1 << 63, position=first.position + 2 * away))
    write_skeletons(f"swc://{folder}/traced", traced)
    write_skeletons(f"precomputed-skeletons://{folder}/precomputed", traced, shard=True)
    return Brain(folder, arrays, traced)


def store(folder: Path, name: str, array: np.ndarray) -> None:
    layer = Layer(str(array.dtype), 0, "segmentation")
    spec = VolumeSpec(path=f"precomputed://{folder}/{name}")
    volume, _ = Volume.create(spec, layer, BOUNDS, RESOLUTION, (32, 32, 32))
    volume.write(BOUNDS, array)


def pipeline(
    brain: Brain,
    run: Path,
    block: Triple = (32, 32, 32),
    traced: str = "swc://{}/traced",
    inputs: tuple[str, ...] = ("segmentation", "mito", "clefts", "nuclei"),
    **parameters: Any,
) -> dict[str, Any]:
    volumes = {name: {"path": f"precomputed://{brain.folder}/{name}"} for name in inputs}
    return {
        "run": str(run),
        "block": list(block),
        "volumes": {**volumes, "skeletons": {"path": traced.format(brain.folder)}},
        "steps": [{"use": "score_skeletons", "with": parameters}],
    }


def scored(brain: Brain, run: Path, *args: Any, **rest: Any) -> dict[str, Any]:
    result = run_pipeline(pipeline(brain, run, *args, **rest))
    assert result.ok
    return result.results["score_skeletons"]


def expected(
    brain: Brain, options: SkeletonOptions | None = None, stride: Triple = (4, 5, 5)
) -> dict[str, Any]:
    """The scores from whole arrays, without blocks."""
    traced = SkeletonForest.of(brain.skeletons)
    voxel = np.floor(traced.position / RESOLUTION + 0.5).astype(int) - BOUNDS.start
    inside = ((voxel >= 0) & (voxel < BOUNDS.shape)).all(axis=1)

    def under(name: str) -> np.ndarray:
        actual = np.zeros(len(traced), np.uint64)
        actual[inside] = brain.arrays[name][tuple(voxel[inside].T)]
        return actual

    mito = np.argwhere(brain.arrays["mito"]) + BOUNDS.start
    mito = mito[(mito % stride == 0).all(axis=1)]
    clefts = np.argwhere(brain.arrays["clefts"])
    which = brain.arrays["clefts"][tuple(clefts.T)]
    clefts = (clefts + BOUNDS.start) * RESOLUTION
    nucleus = under("nuclei")
    centre = np.full((len(traced.names), 3), np.nan)
    radius = np.full(len(traced.names), np.nan)
    for number in range(len(traced.names)):
        own = nucleus[(traced.skeleton == number) & (nucleus > 0)]
        if len(own):
            names, count = np.unique(own, return_counts=True)
            voxels = np.argwhere(brain.arrays["nuclei"] == names[np.argmax(count)])
            summed = (voxels + BOUNDS.start).sum(axis=0)
            centre[number] = summed / len(voxels) * RESOLUTION
            volume = len(voxels) * np.prod(RESOLUTION)
            radius[number] = np.cbrt(3 * volume / (4 * np.pi))
    actual = skeleton_scores(
        traced,
        under("segmentation"),
        options,
        mito=mito_nodes(traced, mito * np.array(RESOLUTION)),
        synapse=synapse_nodes(traced, clefts, which),
        nuclei=Nuclei(centre, radius),
    )
    return {**actual, "outside_nodes": int((~inside).sum())}


def text(table: dict[str, Any]) -> str:
    return json.dumps(table, sort_keys=True, indent=1)


def test_blocks_of_any_shape_give_the_scores_of_the_whole(brain: Brain, tmp_path: Path) -> None:
    wanted = expected(brain)
    assert wanted["not_computed"] == {}
    assert wanted["erl"] < wanted["terl"] < wanted["terl_max"]
    assert 0 < wanted["berl"] < wanted["terl"]  # mitochondria and synapses made a difference
    assert wanted["nerl"] > 0
    assert wanted["splits"] > 20
    assert wanted["merges"] == 1
    assert wanted["outside_nodes"] > max(map(len, brain.skeletons))
    for block in BLOCKS:
        assert text(scored(brain, tmp_path / str(block), block)) == text(wanted)


def test_precomputed_skeletons_give_nearly_the_same(brain: Brain, tmp_path: Path) -> None:
    exact, rounded = expected(brain), scored(
        brain, tmp_path, traced="precomputed-skeletons://{}/precomputed"
    )  # fmt: skip
    for name in ("erl", "terl", "berl", "nerl", "nerl_norm"):
        assert rounded[name] == pytest.approx(exact[name], rel=1e-3)  # float32, other roots


def test_parameters_reach_the_scores(brain: Brain, tmp_path: Path) -> None:
    options = SkeletonOptions("nodes", 3.0, 500.0, "both", "any", 900.0, 5)
    wanted = expected(brain, options, (1, 1, 1))
    actual = scored(
        brain,
        tmp_path,
        rule="nodes",
        tau=3,
        epsilon=500,
        charge="both",
        veto="any",
        d0=900,
        worst=5,
        mito_spacing_nm=0,
    )
    assert text(actual) == text(wanted)
    assert len(actual["worst_splits"]) == 5


def test_what_is_not_given_is_not_computed(brain: Brain, tmp_path: Path) -> None:
    actual = scored(brain, tmp_path, inputs=("segmentation",))
    whole = expected(brain)
    assert actual["not_computed"] == {
        "berl": "neither mitochondria nor synapses were given",
        "nerl": "no nuclei were given",
        "nerl_norm": "no nuclei were given",
    }
    assert (actual["erl"], actual["terl"]) == (whole["erl"], whole["terl"])


def test_without_radii_neither_berl_nor_nerl(brain: Brain, tmp_path: Path) -> None:
    bare = [dataclasses.replace(s, radius=np.zeros(len(s))) for s in brain.skeletons]
    write_skeletons(f"swc://{tmp_path}/bare", bare)
    actual = scored(brain, tmp_path / "run", traced=f"swc://{tmp_path}/bare")
    assert actual["not_computed"]["berl"] == "the skeletons have no radii"
    assert actual["not_computed"]["nerl"] == "no skeleton with a nucleus has radii"


def test_thinned_clefts_are_the_same_whatever_the_blocks(brain: Brain, tmp_path: Path) -> None:
    actual = [scored(brain, tmp_path / str(b), b, cleft_thinning=5) for b in BLOCKS[:2]]
    assert text(actual[0]) == text(actual[1])
    assert actual[0]["berl"] is not None


def test_nodes_outside_the_mask_are_on_background(brain: Brain, tmp_path: Path) -> None:
    body = pipeline(brain, tmp_path, inputs=("segmentation",))
    body["bad_sections"] = list(range(20, 45))
    actual = run_pipeline(body).results["score_skeletons"]
    labels = brain.arrays["segmentation"].copy()
    labels[20 - BOUNDS.start[0] : 45 - BOUNDS.start[0]] = 0
    arrays = {**brain.arrays, "segmentation": labels}
    wanted = expected(brain._replace(arrays=arrays))
    assert actual["erl"] == wanted["erl"] < expected(brain)["erl"]
    assert actual["background_nodes"] == wanted["background_nodes"]


def test_nodes_added_along_edges_change_little(brain: Brain, tmp_path: Path) -> None:
    coarse = scored(brain, tmp_path / "a", inputs=("segmentation",))
    fine = scored(
        brain, tmp_path / "b", traced="swc://{}/traced?spacing_nm=16", inputs=("segmentation",)
    )
    assert fine["nodes"] > 1.5 * coarse["nodes"]
    assert fine["longest_edge_nm"] <= 16 < coarse["longest_edge_nm"]
    assert fine["length_nm"] == pytest.approx(coarse["length_nm"])


def test_changed_files_are_scored_again(brain: Brain, tmp_path: Path) -> None:
    write_skeletons(f"swc://{tmp_path}/s", brain.skeletons[:3])
    address = f"swc://{tmp_path}/s"
    first = make_plan(pipeline(brain, tmp_path / "run", traced=address)).steps[0].digest
    assert make_plan(pipeline(brain, tmp_path / "run", traced=address)).steps[0].digest == first
    write_skeletons(f"swc://{tmp_path}/s", brain.skeletons[3:4])
    assert make_plan(pipeline(brain, tmp_path / "run", traced=address)).steps[0].digest != first


# --- problems are reported before anything runs --------------------------------------------------


def refused(body: dict[str, Any]) -> str:
    with pytest.raises(PlanError) as actual:
        make_plan(body)
    return str(actual.value)


def test_skeletons_in_the_wrong_unit_are_refused(brain: Brain, tmp_path: Path) -> None:
    inside = brain.skeletons[:-2]
    write_skeletons(f"swc://{tmp_path}/v?unit_nm=10,8,8", inside)
    printed = refused(pipeline(brain, tmp_path / "run", traced=f"swc://{tmp_path}/v"))
    count = sum(map(len, inside))
    assert f"of {count} nodes are outside the volume: they span" in printed
    assert "as voxels of 10 x 8 x 8 nm, axes unchanged, 100% of them" in printed
    write_skeletons(f"swc://{tmp_path}/u?unit_nm=1000&axis_order=zyx", inside)
    printed = refused(pipeline(brain, tmp_path / "run", traced=f"swc://{tmp_path}/u"))
    assert "as micrometres, axes x and z swapped, 100% of them" in printed


def test_what_is_wrong_with_skeletons_is_reported_with_its_place(
    brain: Brain, tmp_path: Path
) -> None:
    body = pipeline(brain, tmp_path, traced="swc://{}/none")
    assert "volumes.skeletons.path: cannot be opened" in refused(body)
    (tmp_path / "1.swc").write_text("1 0 5 5 5 nan -1\n")
    printed = refused(pipeline(brain, tmp_path / "run", traced=f"swc://{tmp_path}"))
    assert "1.swc:1: radius is nan" in printed
    body = pipeline(brain, tmp_path / "run")
    body["volumes"]["skeletons"]["resolution"] = [8, 8, 8]
    assert "volumes.skeletons.resolution: 'skeletons' are skeletons" in refused(body)
    body = pipeline(brain, tmp_path / "run")
    body["volumes"]["nuclei"]["path"] = f"swc://{brain.folder}/traced"
    assert "'nuclei' is read as a volume, and these are skeletons" in refused(body)
    body = pipeline(brain, tmp_path / "run")
    body["steps"][0]["in"] = {"skeletons": "truth"}
    body["volumes"]["truth"] = {}
    assert "reads 'truth' as skeletons, so it needs a path under volumes" in refused(body)
    body = pipeline(brain, tmp_path / "run", rule="long")
    printed = refused(body)
    assert "steps[0].with.rule" in printed
    printed = refused(pipeline(brain, tmp_path / "run", require={"elr": {"min": 1}}))
    assert "there is no score 'elr'; did you mean 'erl'?" in printed


def test_a_limit_that_is_not_met_is_reported(brain: Brain, tmp_path: Path) -> None:
    body = pipeline(brain, tmp_path, inputs=("segmentation",))
    body["steps"][0]["with"] = {"require": {"erl_ratio": {"min": 0.99}, "splits": {"min": 1}}}
    unmet = run_pipeline(body).unmet
    assert len(unmet) == 1
    assert unmet[0].startswith("step 'score_skeletons': erl_ratio is 0.")
    assert ScoreSkeletons.model_validate(body["steps"][0]["with"]).identity() == (
        ScoreSkeletons.model_validate({}).identity()
    )


def test_the_plan_knows_the_memory_of_the_nodes(brain: Brain, tmp_path: Path) -> None:
    step = make_plan(pipeline(brain, tmp_path)).steps[0]
    few = make_plan(pipeline(brain, tmp_path, inputs=("segmentation",))).steps[0]
    assert few.memory == step.memory
    block = step.stage.memory((32, 32, 32))
    nodes = NODE_BYTES * sum(map(len, brain.skeletons))
    assert step.memory["total.up.0"] == PROCESS_MEMORY + block + nodes


def test_found_by_its_name() -> None:
    assert find_stage("score_skeletons") is ScoreSkeletons
    assert ScoreSkeletons.model_validate({}).check(BlockGrid(BOUNDS, (8, 8, 8))) == []
