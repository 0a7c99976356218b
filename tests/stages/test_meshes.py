"""Meshes of segments: the same bytes whatever the blocks, closed at every level, true surfaces."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.spatial import cKDTree

import volflow
from tests.engine.runs import wait_for
from tests.shape.closed import euler_characteristic, is_closed, pieces, volume_of
from tests.shape.tubes import tube
from tests.stages.contract import Case, StageContract
from tests.stages.test_skeletons import files, stored
from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.engine.result import RunResult
from volflow.errors import PlanError, StorageError
from volflow.io.meshes import MeshSet, Surface
from volflow.io.meshes.surfaces import decode_fragment
from volflow.stages.meshes import Meshes

pytest.importorskip("zmesh")
pytest.importorskip("DracoPy")

RESOLUTION = (8.0, 8.0, 8.0)
BOUNDS = Box((5, -9, 20), (101, 87, 116))
MIDDLE = (np.array(BOUNDS.start) + 48) * 8.0
BALL, TUBE, TORUS = 1 << 60, 7, (1 << 64) - 1
SHAPES: tuple[Triple, ...] = ((96, 96, 96), (32, 32, 32), (64, 32, 100))
CELL = 32


def torus(bounds: Box, middle: np.ndarray, large: float, small: float) -> np.ndarray:
    """A mask of the voxels in a torus about the x axis."""
    places = np.moveaxis(np.indices(bounds.shape), 0, -1) + bounds.start + 0.5
    z, y, x = np.moveaxis(places * 8.0 - middle, -1, 0)
    return (np.hypot(z, y) - large) ** 2 + x**2 < small**2


def painted() -> np.ndarray:
    labels = np.zeros(BOUNDS.shape, np.uint64)
    ends = np.array([[-340.0, -300, 20], [340, 300, 320]])
    labels[tube(BOUNDS, MIDDLE + ends, 48, RESOLUTION)] = TUBE
    aside = MIDDLE + np.array([0, 0, -200])
    labels[torus(BOUNDS, aside, 300, 60)] = np.uint64(TORUS)
    labels[tube(BOUNDS, aside + np.array([[0, 0, 0], [0, 0, 1]]), 120, RESOLUTION)] = BALL
    labels[:4, :4, :4] = 9  # in the corner of the bounds
    return labels


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
        "steps": [{"use": "meshes", "with": {"min_size": 1, "cell": CELL, **parameters}}],
    }


def table(run: Path) -> list[dict[str, str]]:
    with open(run / "results" / "meshes.csv", newline="") as file:
        return list(csv.DictReader(file))


def meshes_of(run: Path) -> MeshSet:
    return MeshSet.open(str(run / "results/meshes/precomputed"))


class TestMeshes(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        labels = np.random.default_rng(0).integers(0, 4, (9, 11, 13)).astype(np.uint64)
        bounds = Box((2, -3, 5), (11, 8, 18))
        return Case(Meshes(resolution=(40.0, 16.0, 16.0)), bounds, {"labels": labels})


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> str:
    return stored(tmp_path_factory.mktemp("shapes"), painted(), BOUNDS)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, shapes) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run(folder, shapes).ok
    return folder


def test_every_level_is_closed_and_has_its_euler_characteristic(undisturbed) -> None:
    meshes = meshes_of(undisturbed)
    assert meshes.names == sorted([9, TUBE, BALL, TORUS])
    for name in meshes.names:
        mesh = meshes.read(name)
        assert len(mesh.levels) >= 2 or name == 9
        for level in range(len(mesh.levels)):
            surface = meshes.surface(name, level)
            assert is_closed(surface)
            assert euler_characteristic(surface) == (0 if name == TORUS else 2)
            assert pieces(surface) == 1


@pytest.mark.parametrize("block", SHAPES[:2])
def test_a_tube_through_all_blocks_is_one_closed_mesh(tmp_path, block) -> None:
    centres = [
        (z, y if z % 2 == 0 else 2 - y, x if (y + z) % 2 == 0 else 2 - x)
        for z in range(3)
        for y in range(3)
        for x in range(3)
    ]
    line = (np.array(centres) * 32 + 16 + np.array(BOUNDS.start)) * 8.0
    assert (np.abs(np.diff(line, axis=0)).sum(axis=1) == 256).all()  # from block to block
    labels = np.where(tube(BOUNDS, line, 60, RESOLUTION), np.uint64(5), np.uint64(0))
    assert run(tmp_path / "run", stored(tmp_path, labels, BOUNDS), block).ok
    meshes = meshes_of(tmp_path / "run")
    assert len(meshes.read(5).levels[0].cells) >= 27
    for level in range(len(meshes.read(5).levels)):
        surface = meshes.surface(5, level)
        assert is_closed(surface)
        assert (pieces(surface), euler_characteristic(surface)) == (1, 2)


def test_surfaces_are_where_the_labels_end(undisturbed) -> None:
    labels, meshes = painted(), meshes_of(undisturbed)
    for name in meshes.names:
        surface = meshes.surface(name, 0)
        places = np.argwhere(labels == np.uint64(name)) + BOUNDS.start
        low, high = places.min(axis=0), places.max(axis=0) + 1
        for end, actual in ((low, surface.position.min(0)), (high, surface.position.max(0))):
            assert np.abs(actual - end * 8.0).max() <= 8
        if name == 9:
            continue  # marching cubes cut off the corners of so small a cube
        assert volume_of(surface) == pytest.approx(len(places) * 8.0**3, rel=0.12)


@pytest.mark.parametrize("error", [4.0, 20.0])
def test_the_error_is_at_most_the_stated_one(tmp_path, shapes, undisturbed, error) -> None:
    assert run(tmp_path / "raw", shapes, error_nm=0, levels=1).ok
    assert run(tmp_path / "run", shapes, error_nm=error, levels=1).ok
    raw, simple = meshes_of(tmp_path / "raw"), meshes_of(tmp_path / "run")
    for name in (TUBE, BALL, TORUS):
        exact, reduced = raw.surface(name, 0), simple.surface(name, 0)
        assert len(reduced.triangles) < 0.6 * len(exact.triangles)
        corners = exact.position[exact.triangles]
        places = np.concatenate([exact.position, corners.mean(axis=1)])
        samples = reduced.position[reduced.triangles].mean(axis=1)
        distance, _ = cKDTree(places).query(np.concatenate([samples, reduced.position]))
        assert np.quantile(distance, 0.99) <= error + 2  # nearest of samples 4 nm apart


@pytest.mark.parametrize("block", SHAPES)
def test_the_same_bytes_whatever_the_blocks(tmp_path, shapes, undisturbed, block) -> None:
    assert run(tmp_path / "run", shapes, block).ok
    assert files(tmp_path / "run") == files(undisturbed)


@pytest.mark.cluster
def test_the_same_bytes_with_two_workers(tmp_path, shapes, undisturbed) -> None:
    options = {"cluster": "local", "workers": 2}
    assert run(tmp_path / "run", shapes, (32, 32, 32), options).ok
    assert files(tmp_path / "run") == files(undisturbed)


@pytest.mark.parametrize("block", SHAPES)
def test_anisotropic_voxels_are_combined_in_the_same_way(tmp_path, block) -> None:
    bounds = Box((3, 7, -5), (43, 108, 90))
    random = np.random.default_rng(1)
    labels = np.kron(random.integers(0, 5, (10, 26, 24)), np.ones((4, 4, 4), int))
    labels = labels[: bounds.shape[0], : bounds.shape[1], : bounds.shape[2]].astype(np.uint64)
    address = stored(tmp_path, labels, bounds, (40.0, 16.0, 16.0))
    assert run(tmp_path / "run", address, block, cell=16).ok
    assert run(tmp_path / "whole", address, (160, 160, 160), cell=16).ok
    assert files(tmp_path / "run") == files(tmp_path / "whole")
    rows = table(tmp_path / "run")
    counts = [np.count_nonzero(labels == label) for label in range(1, 5)]
    assert [int(row["voxels"]) for row in rows] == counts


@pytest.mark.parametrize("sharded", [True, False])
def test_cloud_volume_reads_what_was_written(tmp_path, shapes, undisturbed, sharded) -> None:
    folder = undisturbed
    if not sharded:
        folder = tmp_path / "run"
        assert run(folder, shapes, sharded=False).ok
        assert not list(folder.rglob("*.shard"))
    volume, ours = cloud_volume(tmp_path, folder), meshes_of(folder)
    for name in ours.names:
        for level in range(len(ours.read(name).levels)):
            theirs = volume.mesh.get(name, lod=level)
            theirs = theirs[name] if isinstance(theirs, dict) else theirs
            _same_surface(theirs, ours.surface(name, level))


def test_the_older_format_has_the_finest_level(tmp_path, shapes, undisturbed) -> None:
    assert run(tmp_path / "run", shapes, legacy=True).ok
    volume, ours = cloud_volume(tmp_path, tmp_path / "run"), meshes_of(undisturbed)
    for name in ours.names:
        theirs = volume.mesh.get(name)
        theirs = theirs[name] if isinstance(theirs, dict) else theirs
        _same_surface(theirs, ours.surface(name, 0))


def cloud_volume(folder: Path, run: Path) -> Any:
    cloudvolume = pytest.importorskip("cloudvolume")
    info = cloudvolume.CloudVolume.create_new_info(
        num_channels=1, layer_type="segmentation", data_type="uint64", encoding="raw",
        resolution=[8, 8, 8], voxel_offset=[0, 0, 0], chunk_size=[8, 8, 8],
        volume_size=[8, 8, 8], mesh="mesh",
    )  # fmt: skip
    address = f"file://{folder}/volume"
    cloudvolume.CloudVolume(address, info=info, progress=False).commit_info()
    shutil.copytree(run / "results/meshes/precomputed", folder / "volume/mesh")
    return cloudvolume.CloudVolume(address, progress=False)


def _same_surface(theirs: Any, ours: Surface) -> None:
    def corners(position: np.ndarray, triangles: np.ndarray) -> np.ndarray:
        places = np.rint(position[triangles.astype(np.int64)] / 0.05).astype(np.int64)
        turned = [np.roll(places, turn, axis=1).reshape(-1, 9) for turn in range(3)]
        return np.array(sorted(min(map(tuple, each)) for each in zip(*turned, strict=True)))

    a = corners(theirs.vertices[:, ::-1].astype(np.float64), theirs.faces)
    b = corners(ours.position, ours.triangles)
    degenerate = (a[:, :3] == a[:, 3:6]).all(1) | (a[:, 3:6] == a[:, 6:]).all(1)
    assert abs(len(a) - degenerate.sum() - len(b)) <= 0
    assert np.abs(a[~degenerate].sum(axis=0) - b.sum(axis=0)).max() <= len(b) * 3


def test_the_table_has_a_row_per_mesh(undisturbed) -> None:
    rows, meshes = table(undisturbed), meshes_of(undisturbed)
    labels = painted()
    assert [int(row["segment"]) for row in rows] == meshes.names
    for row in rows:
        name = int(row["segment"])
        mesh = meshes.read(name)
        bodies = [body for level in mesh.levels for body in level.fragments if body]
        assert int(row["voxels"]) == np.count_nonzero(labels == np.uint64(name))
        assert int(row["levels"]) == len(mesh.levels)
        assert int(row["fragments"]) == len(bodies)
        assert int(row["bytes"]) == sum(map(len, bodies))
        assert int(row["triangles"]) >= len(meshes.surface(name, 0).triangles)


def test_cells_are_a_tree_up_to_the_last_level(undisturbed) -> None:
    for name in meshes_of(undisturbed).names:
        levels = meshes_of(undisturbed).read(name).levels
        for finer, coarser in itertools.pairwise(levels):
            parents = {tuple(cell) for cell in (finer.cells // 2).tolist()}
            assert parents <= {tuple(cell) for cell in coarser.cells.tolist()}


def test_no_triangle_crosses_the_middle_of_a_cell_of_a_coarser_level(undisturbed) -> None:
    """Neuroglancer cuts these fragments in eight."""
    crossing, middle = 0, 1 << 15
    for name in meshes_of(undisturbed).names:
        finest, *coarser = meshes_of(undisturbed).read(name).levels
        for level in (finest, *coarser):
            for body in filter(None, level.fragments):
                places, triangles = decode_fragment(body, "")
                low, high = places[triangles].min(axis=1), places[triangles].max(axis=1)
                both = ((low < middle) & (high > middle)).any()
                assert level is finest or not both
                crossing += both
    assert crossing  # at level 0, where cells are not cut


def test_chosen_segments_alone_and_unknown_ones_are_reported(tmp_path, shapes, undisturbed) -> None:
    result = run(tmp_path / "run", shapes, ids=[7, 8, 12], sharded=False)
    assert result.unmet == [
        "step 'meshes': ids: expected segments of labels; 8, 12 have no voxel in the bounds"
    ]
    mesh, expected = meshes_of(tmp_path / "run").read(7), meshes_of(undisturbed).read(7)
    assert meshes_of(tmp_path / "run").names == [7]
    for ours, theirs in zip(mesh.levels, expected.levels, strict=True):
        assert ours.fragments == theirs.fragments


def test_other_parameters_leave_nothing_of_the_meshes_before(tmp_path, shapes) -> None:
    folder = tmp_path / "run"
    for parameters in ({"sharded": False}, {"legacy": True}, {}, {"sharded": False, "ids": [7]}):
        assert run(folder, shapes, **parameters).ok
    fresh = tmp_path / "fresh"
    assert run(fresh, shapes, ids=[7], sharded=False).ok
    assert files(folder) == files(fresh)


def test_small_segments_get_no_mesh(tmp_path, shapes) -> None:
    result = run(tmp_path / "run", shapes, min_size=65)
    assert result.results["meshes"]["too_small"] == 1
    assert sorted(int(row["segment"]) for row in table(tmp_path / "run")) == [TUBE, BALL, TORUS]


def test_levels_in_which_little_is_left_are_left_out(tmp_path) -> None:
    bounds = Box((0, 0, 0), (96, 96, 96))
    labels = np.zeros(bounds.shape, np.uint64)
    labels[10:12, 10:12, 2:90] = 1  # a thread that starts at a voxel of level 1
    labels[41, 41, 2:90] = 2  # one that no coarser voxel has
    labels[60:90, 60:90, 60:90] = 3
    assert run(tmp_path / "run", stored(tmp_path, labels, bounds), cell=16).ok
    levels = {int(row["segment"]): int(row["levels"]) for row in table(tmp_path / "run")}
    assert levels[2] == 1
    assert levels[1] == 2
    assert levels[3] >= 3


def test_an_empty_volume_has_an_empty_table(tmp_path) -> None:
    bounds = Box((0, 0, 0), (40, 40, 40))
    result = run(tmp_path / "run", stored(tmp_path, np.zeros(bounds.shape, np.uint64), bounds))
    assert result.ok
    assert result.results["meshes"]["meshes"] == 0
    assert table(tmp_path / "run") == []
    assert meshes_of(tmp_path / "run").names == []


def test_a_missing_library_is_reported_before_anything_runs(tmp_path, shapes, monkeypatch) -> None:
    monkeypatch.setattr("volflow.shape.marching_cubes.importlib.util.find_spec", lambda name: None)
    with pytest.raises(PlanError, match=r"zmesh and DracoPy, .*: pip install '\.\[meshes\]'"):
        run(tmp_path / "run", shapes)


def test_voxels_of_an_unlikely_size_are_reported(tmp_path, shapes) -> None:
    with pytest.raises(PlanError, match=r"lattice_nm: 2000 nm are \[128, 128, 128\] voxels"):
        run(tmp_path / "run", shapes, lattice_nm=2000)
    flat = Meshes(resolution=(9000.0, 8.0, 8.0)).check(BlockGrid(BOUNDS, (128, 128, 128)))
    assert "lattice_nm: 9000 nm are [1, 1024, 1024] voxels" in flat[0]


@pytest.mark.parametrize("ids", [[0], [-4], [1 << 64]])
def test_ids_that_no_segment_can_have_are_refused(ids) -> None:
    with pytest.raises(ValidationError, match="ids"):
        Meshes(ids=ids)


@pytest.mark.parametrize("cell", [7, 33, 1024])
def test_cells_that_cannot_be_halved_are_refused(cell) -> None:
    with pytest.raises(ValidationError, match="cell"):
        Meshes(cell=cell)


def test_a_target_that_cannot_be_written_is_an_error(tmp_path, shapes) -> None:
    folder = tmp_path / "run"
    (folder / "results").mkdir(parents=True)
    (folder / "results/meshes").write_text("a file in place of the folder")
    with pytest.raises(StorageError, match=r"results/meshes.*Not a directory"):
        run(folder, shapes)


def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path, shapes, undisturbed) -> None:
    """The partition's marker is lost after its shard was written in part: it is replaced."""
    folder = tmp_path / "run"
    assert run(folder, shapes).ok
    for marker in (folder / "ledger/meshes").rglob("total.group/done/*"):
        marker.unlink()
    shard = next((folder / "results/meshes/precomputed").glob("*.shard"))
    shard.write_bytes(shard.read_bytes()[:100])
    assert run(folder, shapes).ok
    assert files(folder) == files(undisturbed)


@pytest.mark.parametrize("phase", ["rows", "rows.1", "total.group"])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, shapes, undisturbed, phase) -> None:
    folder = tmp_path / "run"
    document = document_of(folder, shapes, (32, 64, 32))
    code = "import json, sys, volflow; volflow.run(json.loads(sys.argv[1]))"
    process = subprocess.Popen([sys.executable, "-c", code, json.dumps(document)])
    try:
        wait_for(lambda: list(folder.glob(f"ledger/meshes/*/{phase}")) or process.poll() == 0)
    finally:
        process.kill()
        process.wait()
    assert run(folder, shapes, (32, 64, 32)).ok
    assert files(folder) == files(undisturbed)
