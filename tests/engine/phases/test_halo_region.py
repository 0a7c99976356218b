"""The part of its halo that a stage receives: all, the voxels at the faces, or none."""

from __future__ import annotations

import numpy as np

from tests.engine.runs import BOUNDS, expected_index, layer, planned, toy
from tests.engine.toys import Cross
from volflow.core.geometry import BlockGrid
from volflow.engine.driver import execute
from volflow.io.volume import Volume

ON_INDEX = {"in": dict.fromkeys(("faces", "before", "after", "alone"), "index")}


def crossed(index: np.ndarray) -> np.ndarray:
    """The output of `Cross` for a whole volume, zero outside."""
    total = 7 * index
    for axis, reach in enumerate(Cross().halo):
        widths = [(reach, reach) if other == axis else (0, 0) for other in range(3)]
        padded = np.pad(index, widths)
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis)
        total = total + windows.sum(-1)
    return total.astype("uint32")


def test_faces_are_read_and_corners_are_zero(tmp_path):
    result = execute(planned(tmp_path, toy("Index"), toy("Cross", **ON_INDEX)))
    assert result.ok, result.failures
    np.testing.assert_array_equal(layer(tmp_path, "cross"), crossed(expected_index()))


def test_no_more_is_read_than_was_asked_for(tmp_path, monkeypatch):
    plan = planned(tmp_path, toy("Index"), toy("Cross", **ON_INDEX))
    asked = []
    read = Volume.read

    def noted(volume, box, fill=0, out=None):
        asked.append(box)
        return read(volume, box, fill, out)

    monkeypatch.setattr(Volume, "read", noted)
    assert execute(plan).ok
    grid = BlockGrid(BOUNDS, (8, 8, 8), Cross().halo)
    wanted = []
    for block in grid:
        parts = [*block.star(), *block.star(after=False), *block.star(before=False), block.write]
        wanted += [part.clip(BOUNDS) for part in parts]
    assert sorted(map(str, asked)) == sorted(str(box) for box in wanted if box.size)


def test_a_mask_is_laid_over_what_is_read(tmp_path):
    result = execute(planned(tmp_path, toy("Index"), toy("Alone"), bad_sections=[6, 9]))
    assert result.ok, result.failures
    index = expected_index()
    index[[6 - BOUNDS.start[0], 9 - BOUNDS.start[0]]] = 0
    others = 47  # `Total` ends with what each of 48 blocks learnt of the other ones
    assert result.results["alone"]["sum"] == others * index.sum(dtype="int64")
