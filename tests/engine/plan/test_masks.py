"""Masks that do not state their voxel size, or do not reach to the end of the bounds."""

import json

import numpy as np
import pytest
import tensorstore as ts

from volflow.engine.api import make_plan
from volflow.engine.phases.inputs import block_mask
from volflow.errors import PlanError


def write(folder, array, side=None):
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{folder}/"}}
    ts.open(spec, create=True, dtype=str(array.dtype), shape=array.shape).result()[...] = array
    if side is not None:
        (folder / ".zattrs").write_text(json.dumps({"voxel_size": [side] * 3}))
    return {"path": str(folder)}


def planned(tmp_path, mask, side, block=(8, 16, 16), shape=(21, 37, 36), **tissue):
    em = write(tmp_path / "em.zarr", np.ones(shape, np.uint8), 10)
    tissue = {**write(tmp_path / "tissue.zarr", mask, side), **tissue}
    return make_plan(
        {
            "run": str(tmp_path / "run"),
            "block": list(block),
            "mask": "tissue",
            "volumes": {"em": em, "tissue": tissue},
            "steps": [{"use": "intensity"}],
        }
    )


def whole_mask(plan):
    """The mask of all blocks together."""
    job = plan.steps[0].jobs[0]
    mask = np.zeros(plan.bounds.shape, bool)
    for block in job.phase.grid:
        part = block_mask(job, block)
        mask[block.write.within(plan.bounds)] = block.crop(part)
    return mask


@pytest.mark.parametrize("block", [(8, 16, 16), (5, 9, 7), (32, 64, 64)])
def test_a_mask_that_lost_its_odd_last_plane_reaches_the_end(tmp_path, block):
    coarse = np.random.default_rng(0).integers(0, 2, (10, 18, 18)).astype(np.uint8)
    plan = planned(tmp_path, coarse, 20, block)
    full = np.pad(coarse, ((0, 1), (0, 1), (0, 0)), mode="edge")
    expected = full.repeat(2, 0).repeat(2, 1).repeat(2, 2)[:21, :37, :36] != 0
    np.testing.assert_array_equal(whole_mask(plan), expected)
    assert "less than one of its voxels before the bounds" in " ".join(plan.warnings)


def test_the_rest_of_the_bounds_is_named(tmp_path):
    plan = planned(tmp_path, np.ones((9, 19, 18), np.uint8), 20)
    assert "the mask covers 0:18,0:37,0:36, 85.7% of the bounds" in " ".join(plan.warnings)
    assert whole_mask(plan)[:18].all()
    assert not whole_mask(plan)[18:].any()


def test_a_smaller_mask_needs_a_voxel_size(tmp_path):
    with pytest.raises(PlanError, match=r"no voxel size and covers .* volumes.tissue.resolution"):
        planned(tmp_path, np.ones((11, 19, 18), np.uint8), None)


def test_a_declared_voxel_size_is_that_of_the_mask(tmp_path):
    plan = planned(tmp_path, np.ones((11, 19, 18), np.uint8), None, resolution=[20, 20, 20])
    assert whole_mask(plan).all()
    assert "the mask covers" not in " ".join(plan.warnings)


def test_a_mask_of_all_voxels_without_a_voxel_size_is_named(tmp_path):
    plan = planned(tmp_path, np.ones((21, 37, 36), np.uint8), None)
    assert whole_mask(plan).all()
    assert "the mask has no voxel size; taken as that of the run" in " ".join(plan.warnings)
