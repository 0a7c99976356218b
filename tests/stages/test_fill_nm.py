"""`fill_nm` of relabel and the sweeps: background near segments filled after the mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import volflow
from tests.stages.contract import Case, StageContract
from tests.stages.test_mask_below import TABLE, drawn
from tests.stages.test_thresholds import smooth
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import BlockGrid, Box
from volflow.core.skeleton import Skeleton
from volflow.core.stage import Layer
from volflow.io.skeletons.sets import write_skeletons
from volflow.io.volume import Volume
from volflow.segment.fill import filled
from volflow.stages.relabel import Relabel
from volflow.stages.sweep import Sweep
from volflow.stages.sweep_skeletons import SweepSkeletons

BOUNDS = Box((3, 0, 5), (19, 24, 25))
VOXEL = (20.0, 8.0, 8.0)
FINISH = {"mask_below": 0.6, "fill_nm": 20}


class Filled(Relabel):
    """The stage relabel as a function of volumes alone, for the contract of stages."""

    def run(self, block, *, fragments, foreground):
        return super().run(block, fragments=fragments, table=TABLE, foreground=foreground)


class TestFilled(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        labels, foreground = drawn()
        volumes = {"fragments": labels, "foreground": foreground // 2}
        stage = Filled(mask_below=0.4, fill_nm=20, resolution=(20, 8, 8))
        return Case(stage, Box((0, 0, 0), labels.shape), volumes)


@pytest.mark.parametrize("kind", [Relabel, Sweep, SweepSkeletons])
def test_what_is_not_filled_has_no_halo_and_the_digests_of_older_runs(kind):
    plain, sized = kind(), kind(resolution=VOXEL)
    assert sized.identity() == plain.identity()
    assert not {"fill_nm", "resolution"} & plain.identity().keys()
    assert plain.halo == (0, 0, 0)
    assert not plain.tables_in_halo
    near = kind(fill_nm=20, resolution=VOXEL)
    assert near.identity() == {**plain.identity(), "fill_nm": 20, "resolution": list(VOXEL)}
    assert near.halo == (1, 2, 2)
    assert kind(fill_nm=20, resolution=(20, 8, 4)).identity() != near.identity()


def test_the_halo_of_a_sweep_is_the_larger_one():
    assert Sweep(border=3, fill_nm=20, resolution=VOXEL).halo == (3, 3, 3)


# --- through the engine --------------------------------------------------------------------------


def stored(folder: Path) -> None:
    """Affinities, foreground, truth, a mask and skeletons."""
    rng = np.random.default_rng(3)
    foreground = rng.integers(0, 256, BOUNDS.shape, dtype=np.uint8)
    foreground[5:9, 8:15, 6:14] = 0  # a gap wider than it is filled
    mask = np.ones(BOUNDS.shape, np.uint8)
    mask[:8, :, 12:] = 0
    truth = rng.integers(1, 9, BOUNDS.shape, dtype=np.uint32)
    arrays = {
        "affinity": smooth(BOUNDS.shape, 16),
        "foreground": foreground,
        "truth": truth,
        "tissue": mask,
    }
    for name, array in arrays.items():
        layer = Layer(str(array.dtype), 3 if array.ndim == 4 else 0)
        spec = VolumeSpec(path=str(folder / f"{name}.zarr"))
        volume, _ = Volume.create(spec, layer, BOUNDS, VOXEL, (8, 8, 8))
        volume.write(BOUNDS, array)
    place = np.stack([np.full(20, 9), np.full(20, 11), np.arange(20)], 1) + BOUNDS.start
    line = Skeleton(1, place * VOXEL, np.arange(20) - 1, np.full(20, 9.0))
    write_skeletons(f"swc://{folder}/traced", [line])


def run(folder: Path, name: str, block: tuple[int, ...], finish: dict[str, Any]) -> Any:
    names = ("affinity", "foreground", "truth", "tissue")
    volumes = {each: {"path": str(folder / f"{each}.zarr")} for each in names}
    result = volflow.run(
        {
            "run": str(folder / name),
            "block": list(block),
            "mask": "tissue",
            "volumes": {**volumes, "skeletons": {"path": f"swc://{folder}/traced"}},
            "steps": [
                {"use": "fragments"},
                {"use": "agglomerate", "with": {"threshold": [0.5, 0.6]}},
                {"use": "relabel", "with": {**finish, "threshold": 0.6}},
                {"use": "score"},
                {"use": "score_skeletons"},
                {"use": "sweep", "with": finish},
                {"use": "sweep_skeletons", "with": finish},
            ],
        }
    )
    assert result.ok, result.failures
    return result


def read(folder: Path, name: str) -> np.ndarray:
    return Volume.open(VolumeSpec(path=f"precomputed://{folder}/{name}/segmentation")).read(BOUNDS)


def test_a_run_fills_across_blocks_within_its_mask_and_sweeps_score_the_same(tmp_path: Path):
    stored(tmp_path)
    run(tmp_path, "masked", BOUNDS.shape, {"mask_below": 0.6})
    mask = Volume.open(VolumeSpec(path=str(tmp_path / "tissue.zarr"))).read(BOUNDS) > 0
    masked = read(tmp_path, "masked")
    expected = np.where(mask, filled(masked, 20, VOXEL), 0)
    gap = (expected == 0) & mask
    assert 0 < np.count_nonzero(gap) < np.count_nonzero((masked == 0) & mask)
    whole = run(tmp_path, "whole", BOUNDS.shape, FINISH)
    parts = run(tmp_path, "parts", (8, 8, 8), FINISH)
    np.testing.assert_array_equal(read(tmp_path, "whole"), expected)
    np.testing.assert_array_equal(read(tmp_path, "parts"), expected)
    assert whole.results == parts.results
    for score, sweep in (("score", "sweep"), ("score_skeletons", "sweep_skeletons")):
        (at,) = [e for e in parts.results[sweep]["thresholds"] if e["threshold"] == 0.6]
        own = parts.results[score]
        assert {name: own[name] for name in at if name != "threshold"} == {
            name: value for name, value in at.items() if name != "threshold"
        }


def test_blocks_touched_by_a_box():
    grid = BlockGrid(Box((2, 0, 0), (12, 9, 4)), (4, 4, 4))
    assert grid.touching(grid[1, 1, 0].write) == [(1, 1, 0)]
    everywhere = grid.touching(grid[0, 0, 0].write.grow((20, 20, 20)))
    assert everywhere == [block.index for block in grid]
    assert grid.touching(Box((6, 4, -9), (10, 5, 1))) == [(1, 1, 0)]
    assert grid.touching(Box((50, 0, 0), (60, 1, 1))) == []
