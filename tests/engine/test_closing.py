"""Closed sections: a run is that of the volume without them, and labels get them back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import volflow
from tests.engine.runs import BOUNDS, expected_index, layer, planned, toy
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Block, Box, Gaps
from volflow.core.stage import Columns, Layer, Record, Stage
from volflow.engine.driver import execute
from volflow.engine.estimate import trial
from volflow.engine.estimate.trial import run_trial
from volflow.errors import PlanError
from volflow.io.volume import Volume

SECTIONS = (9, 10, 11, 25, 33)  # within a block, at the border of one, and the last
BLUR = toy("Blur", block=[8, 8, 8])


class Bright(Stage):
    """Its input as an image."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"bright": Layer("uint32", 0, "image")}

    def run(self, block: Block, *, index: np.ndarray) -> dict[str, Any]:
        return {"bright": index}


class Everywhere(Stage):
    """Works on all sections."""

    on_all_sections: ClassVar[bool] = True

    def run(self, block: Block, *, bright: np.ndarray) -> dict[str, Any]:
        return {}


class Nodes(Stage):
    """Reads skeletons."""

    wants: ClassVar[dict[str, Layer]] = {"nodes": Layer(kind="skeletons")}

    def run(self, block: Block, *, nodes: Record, index: np.ndarray) -> dict[str, Any]:
        return {}


def stored(folder: Path, name: str, array: np.ndarray, bounds: Box, kind: str = "") -> str:
    """The address of a volume with this array."""
    leading = array.shape[0] if array.ndim == 4 else 0
    path = f"zarr://{folder}/{name}.zarr"
    volume, _ = Volume.create(
        VolumeSpec(path=path), Layer(str(array.dtype), leading, kind or "segmentation"),
        bounds, (10.0, 8.0, 8.0), (16, 16, 16),
    )  # fmt: skip
    volume.write(bounds, array)
    return path


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The volume `index` with all sections, and one without some, moved together."""
    folder = tmp_path_factory.mktemp("index")
    left = np.delete(expected_index(), [z - BOUNDS.start[0] for z in SECTIONS], axis=0)
    return {
        "all": {"path": stored(folder, "all", expected_index(), BOUNDS)},
        "left": {"path": stored(folder, "left", left, Gaps(SECTIONS).close(BOUNDS))},
    }


def opened(closed: np.ndarray) -> np.ndarray:
    """An array of the sections that are left, with the others as copies of the nearest."""
    first, stop = BOUNDS.start[0], BOUNDS.stop[0]
    left = [z for z in range(first, stop) if z not in SECTIONS]
    nearest = [min(left, key=lambda other: (abs(other - z), other)) for z in range(first, stop)]
    return closed[[left.index(z) for z in nearest]]


@pytest.mark.parametrize("block", [[8, 8, 8], [6, 24, 7], [64, 64, 64]])
def test_a_closed_run_is_that_of_the_volume_without_the_sections_and_they_are_put_back(
    tmp_path, index, block
):
    blur = {**BLUR, "block": block}
    whole = planned(
        tmp_path / "closed", blur, volumes={"index": index["all"]}, closed_sections=SECTIONS
    )
    assert [step.name for step in whole.steps] == ["blur", "put_back_blur"]
    assert execute(whole).ok
    bounds = Gaps(SECTIONS).close(BOUNDS)
    assert [step.bounds for step in whole.steps] == [bounds, BOUNDS]
    left = planned(tmp_path / "left", blur, volumes={"index": index["left"]}, bounds=str(bounds))
    assert execute(left).ok
    expected = volflow.open_volume(str(tmp_path / "left" / "blur"))[...]
    np.testing.assert_array_equal(
        volflow.open_volume(str(tmp_path / "closed" / "blur_closed"))[...], expected
    )
    np.testing.assert_array_equal(layer(tmp_path / "closed", "blur"), opened(expected))


def test_the_mask_is_closed_up_as_well(tmp_path, index):
    coarse = Box((0, 0, 0), (10, 15, 20))  # voxels of 4 x 2 x 2 of the run
    mask = np.random.default_rng(0).random(coarse.shape) < 0.5
    spec = VolumeSpec(path=f"precomputed://{tmp_path}/mask")
    volume, _ = Volume.create(
        spec, Layer("uint8", 0, "image"), coarse, (40.0, 16.0, 16.0), coarse.shape
    )
    volume.write(coarse, mask.astype("uint8"))
    double = toy("Double", block=[7, 24, 9])
    volumes = {"index": index["all"], "mask": {"path": spec.path}}
    plan = planned(
        tmp_path / "run", double, volumes=volumes, mask="mask", bad_sections=[12, 25],
        closed_sections=SECTIONS,
    )  # fmt: skip
    assert execute(plan).ok
    fine = mask.repeat(4, 0).repeat(2, 1).repeat(2, 2)[BOUNDS.slices].copy()
    fine[12 - 2] = False
    left = [z - 2 for z in range(2, 34) if z not in SECTIONS]
    expected = opened((2 * expected_index() * fine)[left])
    np.testing.assert_array_equal(layer(tmp_path / "run", "double"), expected)


def test_closed_sections_belong_to_the_digest_and_masked_ones_are_others(tmp_path, index):
    volumes = {"index": index["all"]}
    contents = {
        planned(tmp_path, BLUR, volumes=volumes, **sections).step("blur").content
        for sections in (
            {},
            {"closed_sections": [9]},
            {"closed_sections": [10]},
            {"closed_sections": [9, 10]},
            {"closed_sections": [10, 9, 9]},
            {"bad_sections": [9]},
        )
    }
    assert len(contents) == 5


@pytest.mark.parametrize(
    ("names", "sections", "words"),
    [
        (["Bright"], [34], "closed_sections[0]: section 34 is outside the bounds"),
        (["Bright"], [*range(2, 34)], "closed_sections: no section is left of 32"),
        (
            ["Bright", "Everywhere"],
            [9],
            "step 'everywhere' reads 'bright' of step 'bright': 'everywhere' works on all "
            "sections, and 'bright' without the closed ones; bad_sections masks sections instead",
        ),
    ],
)
def test_sections_that_cannot_be_closed_are_reported(tmp_path, index, names, sections, words):
    steps = [{"use": f"{__name__}:{name}", "name": name.lower()} for name in names]
    volumes = {"index": index["all"]}
    with pytest.raises(PlanError) as caught:
        planned(tmp_path, *steps, volumes=volumes, closed_sections=sections)
    assert words in str(caught.value)


def test_skeletons_are_refused_by_a_step_without_the_closed_sections(tmp_path, index):
    (tmp_path / "one.swc").write_text("1 0 40 40 40 10 -1\n")
    volumes = {"index": index["all"], "nodes": {"path": f"swc://{tmp_path}/one.swc"}}
    steps = [{"use": f"{__name__}:Nodes", "name": "nodes"}]
    with pytest.raises(PlanError, match="skeletons 'nodes' have all sections; bad_sections masks"):
        planned(tmp_path, *steps, volumes=volumes, closed_sections=[9])


def test_a_trial_closes_the_sections_of_its_part(tmp_path, index, monkeypatch):
    monkeypatch.setattr(trial, "OFTEN", 1)
    plan = planned(
        tmp_path / "run", BLUR, volumes={"index": index["all"]}, closed_sections=[*range(15, 20)]
    )
    assert [step.name for step in run_trial(plan, 8)] == ["blur", "put_back_blur"]


def test_a_segmentation_with_closed_sections_does_not_depend_on_the_blocks(tmp_path):
    rng = np.random.default_rng(5)
    values = rng.random((3, 26, 24, 24))
    for axis in (1, 2, 3) * 3:
        values += np.roll(values, 1, axis)
    affinity = (255 * (values - values.min()) / np.ptp(values)).astype("uint8")
    path = stored(tmp_path, "affinity", affinity, Box((0, 0, 0), (26, 24, 24)), "affinity")
    arrays = []
    for block in ([8, 12, 12], [11, 24, 24]):
        run = tmp_path / str(block[0])
        overrides = [
            f"run={run}", f"volumes.affinity.path={path}", f"block={block}",
            "closed_sections=[7,8,9,16,17,18,19]", "steps.agglomerate.min_size=20",
            "steps.pyramid.levels=1",
            "steps.agglomerate.threshold=0.5",
        ]  # fmt: skip
        result = volflow.run("segment", overrides=overrides)
        assert result.ok, result.failures
        arrays.append(result.volumes["segmentation"][...])
        coarse = volflow.open_volume(str(run / "segmentation"), level=1)
        assert coarse.shape[0] == 13
    assert arrays[0].shape == (26, 24, 24)
    np.testing.assert_array_equal(arrays[0], arrays[1])
    np.testing.assert_array_equal(arrays[0][7:10], arrays[0][[6, 6, 10]])
    assert len(np.unique(arrays[0])) > 9
