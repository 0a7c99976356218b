"""Skeletons of segments: the same bytes whatever the blocks, one tree for a piece, true lengths."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import volflow
from tests.engine.runs import wait_for
from tests.shape.tubes import helix, length_of, tube
from tests.stages.contract import Case, StageContract
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box, Resolution, Triple
from volflow.core.stage import Layer
from volflow.engine.result import RunResult
from volflow.errors import PlanError
from volflow.io.skeletons import SkeletonSet
from volflow.io.volume import Volume
from volflow.stages.skeletons import Skeletons

pytest.importorskip("bioimage_cpp")

RESOLUTION = (8.0, 8.0, 8.0)
BOUNDS = Box((5, -9, 20), (133, 119, 148))
MIDDLE = (np.array(BOUNDS.start) + 64) * 8.0
LINES = {
    1 << 60: MIDDLE + np.array([[-440, -440, -430], [-440, -440, 430]]),  # along x
    7: MIDDLE + np.array([[-440, -150, -140], [440, 150, 140]]),  # oblique
    (1 << 64) - 1: helix(1.5, 340, 500, MIDDLE - np.array([380, 0, 0])),
}
RADIUS = 48.0
SHAPES: tuple[Triple, ...] = ((128, 128, 128), (64, 64, 64), (33, 50, 41))


def painted() -> np.ndarray:
    labels = np.zeros(BOUNDS.shape, np.uint64)
    for name, line in LINES.items():
        labels[tube(BOUNDS, line, RADIUS, RESOLUTION)] = name
    return labels


def stored(
    folder: Path, labels: np.ndarray, bounds: Box = BOUNDS, side: Resolution = RESOLUTION
) -> str:
    address = f"zarr3://{folder / 'labels.zarr'}"
    layer = Layer(labels.dtype.name, 0, "segmentation")
    volume, _ = Volume.create(VolumeSpec(path=address), layer, bounds, side, (64, 64, 64))
    volume.write(bounds, labels)
    return address


def run(
    folder: Path, labels: str, block: Triple = (64, 64, 64), options: Any = None, **parameters: Any
) -> RunResult:
    return volflow.run(document_of(folder, labels, block, **parameters), **(options or {}))


def document_of(folder: Path, labels: str, block: Triple, **parameters: Any) -> dict[str, Any]:
    """A pipeline of the one step."""
    return {
        "run": str(folder),
        "block": list(block),
        "volumes": {"labels": {"path": labels}},
        "steps": [{"use": "skeletons", "with": {"min_size": 1, **parameters}}],
    }


def files(run: Path) -> dict[str, bytes]:
    """The files that the step left under `results`, by their paths."""
    paths = sorted(path for path in (run / "results").rglob("*") if path.is_file())
    return {str(path.relative_to(run)): path.read_bytes() for path in paths}


def table(run: Path) -> list[dict[str, str]]:
    with open(run / "results" / "skeletons.csv", newline="") as file:
        return list(csv.DictReader(file))


class TestSkeletons(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        labels = np.random.default_rng(0).integers(0, 4, (9, 11, 13)).astype(np.uint64)
        bounds = Box((2, -3, 5), (11, 8, 18))
        return Case(Skeletons(resolution=(40.0, 16.0, 16.0)), bounds, {"labels": labels})


@pytest.fixture(scope="module")
def tubes(tmp_path_factory) -> str:
    return stored(tmp_path_factory.mktemp("tubes"), painted())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tubes) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run(folder, tubes, swc=True).ok
    return folder


def test_tubes_have_their_lengths_and_radii_in_one_tree(undisturbed) -> None:
    skeletons = SkeletonSet.open(str(undisturbed / "results/skeletons/precomputed"))
    assert list(skeletons.titles) == sorted(LINES)
    for name, line in LINES.items():
        one = skeletons.read(name)
        assert one.lengths.sum() == pytest.approx(length_of(line) + 2 * RADIUS, rel=0.03)
        assert (one.parent < 0).sum() == 1
        assert np.bincount(one.edges.ravel()).max() == 2  # no twig
        assert np.median(one.radius) == pytest.approx(RADIUS, rel=0.1)


@pytest.mark.parametrize("block", SHAPES)
def test_the_same_bytes_whatever_the_blocks(tmp_path, tubes, undisturbed, block) -> None:
    assert run(tmp_path / "run", tubes, block, swc=True).ok
    assert files(tmp_path / "run") == files(undisturbed)


@pytest.mark.cluster
def test_the_same_bytes_with_two_workers(tmp_path, tubes, undisturbed) -> None:
    options = {"cluster": "local", "workers": 2}
    assert run(tmp_path / "run", tubes, (64, 64, 64), options, swc=True).ok
    assert files(tmp_path / "run") == files(undisturbed)


def test_swc_and_precomputed_are_the_same_skeletons(undisturbed) -> None:
    folder = undisturbed / "results/skeletons"
    swc = SkeletonSet.open(f"swc://{folder}/swc?unit_nm=1")
    precomputed = SkeletonSet.open(str(folder / "precomputed"))
    assert list(swc.titles) == list(precomputed.titles) == sorted(LINES)
    for name in LINES:
        a, b = swc.read(name), precomputed.read(name)
        np.testing.assert_array_equal(a.parent, b.parent)
        np.testing.assert_allclose(a.position, b.position, rtol=1e-6)
        np.testing.assert_allclose(a.radius, b.radius, rtol=1e-6)


def test_cloud_volume_reads_what_was_written(tmp_path, undisturbed) -> None:
    cloudvolume = pytest.importorskip("cloudvolume")
    info = cloudvolume.CloudVolume.create_new_info(
        num_channels=1, layer_type="segmentation", data_type="uint64", encoding="raw",
        resolution=[8, 8, 8], voxel_offset=[0, 0, 0], chunk_size=[8, 8, 8],
        volume_size=[8, 8, 8], skeletons="skeletons",
    )  # fmt: skip
    address = f"file://{tmp_path}/volume"
    cloudvolume.CloudVolume(address, info=info, progress=False).commit_info()
    folder = undisturbed / "results/skeletons/precomputed"
    shutil.copytree(folder, tmp_path / "volume/skeletons")
    volume, ours = cloudvolume.CloudVolume(address, progress=False), SkeletonSet.open(str(folder))
    for name in LINES:
        theirs, one = volume.skeleton.get(name), ours.read(name)
        np.testing.assert_array_equal(theirs.vertices[:, ::-1], one.position)
        np.testing.assert_array_equal(theirs.radius, one.radius)
        assert len(theirs.edges) == len(one.edges) > 20


def test_the_table_has_a_row_per_skeleton(undisturbed) -> None:
    rows = table(undisturbed)
    labels = painted()
    assert [int(row["segment"]) for row in rows] == sorted(LINES)
    for row in rows:
        name = int(row["segment"])
        assert int(row["voxels"]) == np.count_nonzero(labels == np.uint64(name))
        assert (row["trees"], row["tips"], row["branches"]) == ("1", "2", "0")
        expected = length_of(LINES[name]) + 2 * RADIUS
        assert float(row["length_nm"]) == pytest.approx(expected, rel=0.03)
        assert float(row["lattice_nm"]) == 32


def test_chosen_segments_alone_and_unknown_ones_are_reported(tmp_path, tubes, undisturbed) -> None:
    result = run(tmp_path / "run", tubes, ids=[7, 8, 12], swc=True)
    assert result.unmet == [
        "step 'skeletons': ids: expected segments of labels; 8, 12 have no voxel in the bounds"
    ]
    actual = files(tmp_path / "run")
    path = "results/skeletons/swc/7.swc"
    assert [name for name in actual if name.endswith(".swc")] == [path]
    assert actual[path] == files(undisturbed)[path]


def test_other_parameters_leave_nothing_of_the_skeletons_before(tmp_path, tubes) -> None:
    folder = tmp_path / "run"
    assert run(folder, tubes, swc=True).ok
    assert run(folder, tubes, ids=[7], swc=True).ok
    fresh = tmp_path / "fresh"
    assert run(fresh, tubes, ids=[7], swc=True).ok
    assert files(folder) == files(fresh)
    assert run(folder, tubes, ids=[7]).ok
    assert not list(folder.rglob("*.swc"))


def test_small_segments_get_no_skeleton(tmp_path, tubes) -> None:
    sizes = sorted(np.count_nonzero(painted() == np.uint64(name)) for name in LINES)
    result = run(tmp_path / "run", tubes, min_size=sizes[1])
    assert result.results["skeletons"]["too_small"] == 1
    assert sorted(int(row["voxels"]) for row in table(tmp_path / "run")) == sizes[1:]


@pytest.mark.parametrize("block", SHAPES[1:])
def test_tiles_are_joined_to_one_tree_with_the_same_bytes(tmp_path, tubes, block) -> None:
    parameters = {"lattice_nm": 8, "coarsest_nm": 8, "budget": 43**3}
    result = run(tmp_path / "run", tubes, block, **parameters)
    assert result.results["skeletons"]["tiled"] == 2
    assert run(tmp_path / "whole", tubes, **parameters).ok
    assert files(tmp_path / "run") == files(tmp_path / "whole")
    for row in table(tmp_path / "run"):
        assert (row["trees"], row["tips"]) == ("1", "2")
        expected = length_of(LINES[int(row["segment"])]) + 2 * RADIUS
        assert float(row["length_nm"]) == pytest.approx(expected, rel=0.03)
        assert int(row["tiled"]) == (int(row["segment"]) != 1 << 60)


def test_a_segment_beyond_the_budget_is_computed_on_a_coarser_lattice(tmp_path, tubes) -> None:
    result = run(tmp_path / "run", tubes, budget=4096)
    assert result.results["skeletons"]["coarser"] == 2
    rows = {int(row["segment"]): row for row in table(tmp_path / "run")}
    assert float(rows[1 << 60]["lattice_nm"]) == 32  # 32 x 3 x 3 voxels of it
    assert [float(rows[name]["lattice_nm"]) for name in (7, (1 << 64) - 1)] == [64, 64]
    expected = length_of(LINES[7]) + 2 * RADIUS
    assert float(rows[7]["length_nm"]) == pytest.approx(expected, rel=0.05)


def test_a_thread_one_voxel_wide_stays_in_one_piece(tmp_path) -> None:
    bounds = Box((0, 0, 0), (64, 64, 64))
    labels = np.zeros(bounds.shape, np.uint64)
    at = np.arange(60)
    labels[at, at, at] = 5  # its voxels touch at corners alone
    assert run(tmp_path / "run", stored(tmp_path, labels, bounds), lattice_nm=32).ok
    (row,) = table(tmp_path / "run")
    assert (row["trees"], row["tips"]) == ("1", "2")


@pytest.mark.parametrize("block", [(64, 64, 64), (29, 40, 33)])
def test_a_cell_body_is_one_node_the_root_and_its_neurites_stay(tmp_path, block) -> None:
    bounds, side = Box((0, 0, 0), (96, 96, 96)), (50.0, 50.0, 50.0)
    middle = np.array([2400.0, 2400, 2400])
    labels = tube(bounds, np.array([middle, middle + 1]), 800, side)
    for end in ([2400, 2400, 4700], [300, 2400, 900], [2400, 4700, 900]):
        labels |= tube(bounds, np.array([middle, end]), 150, side)
    address = stored(tmp_path, np.where(labels, np.uint64(9), np.uint64(0)), bounds, side)
    assert run(tmp_path / "run", address, block, swc=True, soma_nm=700).ok
    (row,) = table(tmp_path / "run")
    assert (row["trees"], row["tips"]) == ("1", "3")
    one = SkeletonSet.open(str(tmp_path / "run/results/skeletons/precomputed")).read(9)
    assert np.linalg.norm(one.position[0] - middle) < 150
    assert one.parent[0] == -1
    assert (one.parent == 0).sum() == 3
    assert one.radius[0] == pytest.approx(800, rel=0.1)
    lines = (tmp_path / "run/results/skeletons/swc/9.swc").read_text().splitlines()
    assert [line.split()[1] for line in lines[1:4]] == ["1", "0", "0"]
    assert run(tmp_path / "none", address, block, swc=True, soma_nm=0).ok
    text = (tmp_path / "none/results/skeletons/swc/9.swc").read_text()
    assert {line.split()[1] for line in text.splitlines()[1:]} == {"0"}


@pytest.mark.parametrize("block", [(64, 64, 64), (128, 50, 33)])
def test_a_nucleus_says_where_the_cell_body_is(tmp_path, tubes, block) -> None:
    line = LINES[7]
    centre = line[0] + 0.3 * (line[1] - line[0])
    (tmp_path / "nuclei").mkdir()
    inside = tube(BOUNDS, np.array([centre, centre + 1]), 40, RESOLUTION)
    nuclei = stored(tmp_path / "nuclei", inside.astype(np.uint8), BOUNDS)
    document = {
        "run": str(tmp_path / "run"),
        "block": list(block),
        "volumes": {"labels": {"path": tubes}, "nuclei": {"path": nuclei}},
        "steps": [{"use": "skeletons", "with": {"min_size": 1}}],
    }
    assert volflow.run(document).ok
    one = SkeletonSet.open(str(tmp_path / "run/results/skeletons/precomputed")).read(7)
    assert np.linalg.norm(one.position[0] - centre) < 40
    assert (one.parent == 0).sum() == 2


def test_an_empty_volume_has_an_empty_table(tmp_path) -> None:
    bounds = Box((0, 0, 0), (40, 40, 40))
    labels = stored(tmp_path, np.zeros(bounds.shape, np.uint64), bounds)
    result = run(tmp_path / "run", labels, swc=True)
    assert result.ok
    assert result.results["skeletons"]["skeletons"] == 0
    assert table(tmp_path / "run") == []
    assert SkeletonSet.open(str(tmp_path / "run/results/skeletons/precomputed")).titles == {}


def test_a_missing_library_is_reported_before_anything_runs(tmp_path, tubes, monkeypatch) -> None:
    monkeypatch.setattr("volflow.shape.skeletonize.importlib.util.find_spec", lambda name: None)
    with pytest.raises(PlanError, match=r"not installed: pip install '\.\[skeletons\]'"):
        run(tmp_path / "run", tubes)


def test_voxels_of_an_unlikely_size_are_reported(tmp_path, tubes) -> None:
    with pytest.raises(PlanError, match=r"lattice_nm: 2000 nm are \[128, 128, 128\] voxels"):
        run(tmp_path / "run", tubes, lattice_nm=2000)


@pytest.mark.parametrize("ids", [[0], [-4], [1 << 64]])
def test_ids_that_no_segment_can_have_are_refused(ids) -> None:
    with pytest.raises(ValidationError, match="ids"):
        Skeletons(ids=ids)


def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path, tubes, undisturbed) -> None:
    """The partition's marker is lost after its files were written in part: they are replaced."""
    folder = tmp_path / "run"
    assert run(folder, tubes, swc=True).ok
    for marker in (folder / "ledger/skeletons").rglob("total.group/done/*"):
        marker.unlink()
    shard = next((folder / "results/skeletons/precomputed").glob("*.shard"))
    shard.write_bytes(shard.read_bytes()[:100])
    (folder / "results/skeletons/swc/7.swc").unlink()
    assert run(folder, tubes, swc=True).ok
    assert files(folder) == files(undisturbed)


@pytest.mark.parametrize("phase", ["rows", "total.group"])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, tubes, undisturbed, phase) -> None:
    folder = tmp_path / "run"
    document = document_of(folder, tubes, (33, 50, 41), swc=True)
    code = "import json, sys, volflow; volflow.run(json.loads(sys.argv[1]))"
    process = subprocess.Popen([sys.executable, "-c", code, json.dumps(document)])
    try:
        wait_for(lambda: list(folder.glob(f"ledger/skeletons/*/{phase}")) or process.poll() == 0)
    finally:
        process.kill()
        process.wait()
    assert run(folder, tubes, (33, 50, 41), swc=True).ok
    assert files(folder) == files(undisturbed)
