"""The tables of supervoxels and their contacts: what a loop over all voxels finds."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import volflow
from tests.stages.contract import Case, StageContract
from volflow.config.pipeline import VolumeSpec, from_dict
from volflow.core.geometry import Box
from volflow.engine.driver import execute
from volflow.engine.plan.plan import plan
from volflow.errors import PlanError
from volflow.io.volume import Volume
from volflow.stages.agglomeration import Agglomeration
from volflow.stages.contacts import Contacts

SHAPE = (11, 13, 12)
START = (3, -4, 6)
BOUNDS = Box(START, tuple(a + n for a, n in zip(START, SHAPE, strict=True)))
RESOLUTION = (30.0, 8.0, 10.0)
RANDOM = np.random.default_rng(8)
PARTS = np.kron(RANDOM.integers(0, 9, (4, 5, 4)), np.ones((3, 3, 3)))[:11, :13, :12].astype("u8")
SUPERVOXELS = PARTS * np.uint64(1 << 57)
AFFINITY = RANDOM.integers(0, 256, (3, *SHAPE)).astype(np.uint8)
SEGMENTS = np.where(PARTS > 4, PARTS // 2, PARTS)
SEGMENTS[:, ::3, ::4] = 7  # as after `borders`, which moves single voxels
VOLUMES = {"supervoxels": SUPERVOXELS, "affinity": AFFINITY, "segmentation": SEGMENTS}


class TestContacts(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        volumes = {"supervoxels": SUPERVOXELS, "affinity": AFFINITY}
        return Case(Contacts(resolution=RESOLUTION), BOUNDS, volumes)


class TestAgglomeration(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        volumes = {"supervoxels": SUPERVOXELS, "segmentation": SEGMENTS}
        return Case(Agglomeration(), BOUNDS, volumes)


def tables(folder: Path, block: list[int], volumes: dict[str, np.ndarray] = VOLUMES) -> Any:
    """The bytes of both tables of a run, their rows as numbers, and the results."""
    for name, array in volumes.items():
        at = f"zarr://{folder}/{name}.zarr"
        volflow.write_volume(at, array, resolution=RESOLUTION, offset=START)
    document = {
        "run": str(folder / "run"),
        "block": block,
        "volumes": {name: {"path": f"{folder}/{name}.zarr"} for name in volumes},
        "steps": [{"use": "contacts"}, {"use": "agglomeration"}],
    }
    result = execute(plan(from_dict(document)))
    assert result.ok
    files = {name: folder / f"run/results/{name}.csv" for name in ("contacts", "agglomeration")}
    rows = {
        name: [{k: float(v) if "." in v else int(v) for k, v in row.items()} for row in read]
        for name, file in files.items()
        for read in [csv.DictReader(file.read_text().splitlines())]
    }
    return {name: file.read_bytes() for name, file in files.items()}, rows, result.results


def test_contacts_are_those_of_a_loop_over_voxels(tmp_path: Path) -> None:
    _, rows, results = tables(tmp_path, [5, 4, 6])
    pairs: dict[tuple[int, int], list[tuple[int, int, tuple[int, ...]]]] = defaultdict(list)
    for at in np.ndindex(*SHAPE):
        for axis in range(3):
            if at[axis]:
                before = (*at[:axis], at[axis] - 1, *at[axis + 1 :])
                a, b = int(SUPERVOXELS[at]), int(SUPERVOXELS[before])
                if a and b and a != b:
                    place = tuple(np.add(at, START).tolist())
                    value = int(AFFINITY[(axis, *at)])
                    pairs[min(a, b), max(a, b)].append((-value, axis, place))
    assert len(rows["contacts"]) == len(pairs) == results["contacts"]["contacts"]
    sides = (8 * 10, 30 * 10, 30 * 8)
    for row in rows["contacts"]:
        contact = pairs[row["supervoxel_1"], row["supervoxel_2"]]
        assert row["contact_voxels"] == len(contact)
        assert row["area_nm2"] == sum(sides[axis] for _, axis, _ in contact)
        mean = -sum(value for value, _, _ in contact) / (255 * len(contact))
        assert row["affinity"] == pytest.approx(mean, abs=1e-6)
        best, _, place = min(contact, key=lambda each: (each[0], each[2]))
        assert (row["z"], row["y"], row["x"]) == place
        assert best == min(value for value, _, _ in contact)


def test_each_supervoxel_has_the_segment_of_most_of_its_voxels(tmp_path: Path) -> None:
    _, rows, results = tables(tmp_path, [5, 4, 6])
    assert [row["supervoxel"] for row in rows["agglomeration"]] == sorted(
        int(label) for label in np.unique(SUPERVOXELS) if label
    )
    for row in rows["agglomeration"]:
        at = np.argwhere(np.uint64(row["supervoxel"]) == SUPERVOXELS)
        votes = Counter(SEGMENTS[tuple(at.T)].tolist())
        most = max(votes.values())
        assert row["segment"] == min(label for label, count in votes.items() if count == most)
        assert row["voxels"] == len(at)
        box = [row[f"{axis}{end}"] for end in (0, 1) for axis in "zyx"]
        assert box == [*(at.min(0) + START).tolist(), *(at.max(0) + START + 1).tolist()]
        assert [row["z"], row["y"], row["x"]] == (at[0] + START).tolist()
    assert results["agglomeration"]["supervoxels"] == len(rows["agglomeration"])


def test_the_same_bytes_for_three_block_shapes(tmp_path: Path) -> None:
    shapes = [[5, 4, 6], [11, 13, 12], [2, 13, 3]]
    first, *others = [tables(tmp_path / str(n), shape)[0] for n, shape in enumerate(shapes)]
    assert all(other == first for other in others)


def test_an_empty_volume_has_tables_without_rows(tmp_path: Path) -> None:
    nothing = {**VOLUMES, "supervoxels": np.zeros(SHAPE, np.uint64)}
    _, rows, results = tables(tmp_path, [5, 4, 6], nothing)
    assert rows == {"contacts": [], "agglomeration": []}
    assert results["contacts"] == {"contacts": 0}


def test_pieces_of_blocks_are_refused(tmp_path: Path) -> None:
    """Pieces end at block faces, so the tables would depend on the blocks."""
    at = f"zarr://{tmp_path}/affinity.zarr"
    volflow.write_volume(at, AFFINITY, resolution=RESOLUTION, offset=START)
    document = {
        "run": str(tmp_path / "run"),
        "block": [5, 4, 6],
        "volumes": {"affinity": {"path": f"{tmp_path}/affinity.zarr"}},
        "steps": [{"use": "fragments"}, {"use": "contacts", "in": {"supervoxels": "fragments"}}],
    }
    with pytest.raises(
        PlanError, match="supervoxels: expected labels of the whole volume; got pieces"
    ):
        plan(from_dict(document))


def test_each_supervoxel_of_the_pipeline_is_in_one_segment(tmp_path: Path) -> None:
    smooth = np.random.default_rng(5).integers(0, 256, (3, 8, 8, 8)).astype(np.uint8)
    affinity = np.kron(smooth, np.ones((1, 4, 4, 4), np.uint8))
    at = f"zarr://{tmp_path}/affinity.zarr"
    volflow.write_volume(at, affinity, resolution=RESOLUTION)
    overrides = [
        f"volumes.affinity.path={at}",
        f"run={tmp_path / 'run'}",
        "block=[16, 16, 16]",
        "steps.agglomerate.min_size=40",
    ]
    volflow.run("proofreading", overrides=overrides, progress=False)
    box = Box((0, 0, 0), (32, 32, 32))
    volumes = [
        Volume.open(VolumeSpec(path=f"precomputed://{tmp_path}/run/{name}"), own=True).read(box)
        for name in ("supervoxels", "segmentation")
    ]
    pairs = np.unique(np.stack([v[volumes[0] > 0] for v in volumes]), axis=1)
    supervoxels, counts = np.unique(pairs[0], return_counts=True)
    assert (counts == 1).all()
    assert len(supervoxels) > len(np.unique(pairs[1])) > 1
    table = (tmp_path / "run/results/agglomeration.csv").read_text()
    rows = list(csv.DictReader(table.splitlines()))
    expected = dict(zip(*pairs.tolist(), strict=True))
    assert {int(row["supervoxel"]): int(row["segment"]) for row in rows} == expected
