"""Inputs that are read at coarser voxels: what a plan makes of them, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import volflow
from volflow.cli import main
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Block, Box, Triple
from volflow.core.stage import Layer, Stage
from volflow.engine.api import make_plan
from volflow.engine.job import Plan
from volflow.errors import PlanError
from volflow.io.volume import Volume

BOUNDS = Box((1, 3, 5), (22, 45, 60))
COARSE = Box((1, 1, 2), (22, 23, 30))
VOXEL = (30.0, 4.0, 4.0)
HERE = "tests.engine.plan.test_downsampled_inputs"


class Sums(Stage):
    """Sums of 3 x 3 x 3 voxels of the image, 0 around the bounds."""

    @property
    def halo(self) -> Triple:
        return (1, 1, 1)

    @property
    def outputs(self) -> dict[str, Any]:
        return {"sums": Layer("uint32", 0, "image")}

    def run(self, block: Block, *, em: np.ndarray) -> dict[str, np.ndarray]:  # type: ignore[override]  # by name
        wide = em.astype("uint32")
        total = sum(np.roll(wide, s, (0, 1, 2)) for s in np.ndindex(3, 3, 3))
        return {"sums": np.roll(np.asarray(total), (-1, -1, -1), (0, 1, 2))}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, layer in {
        "em": Layer("uint8", 0, "image"),
        "labels": Layer("uint8", 0),
        "affinity": Layer("uint8", 3, "affinity"),
    }.items():
        volume, _ = Volume.create(
            VolumeSpec(path=f"zarr://{name}.zarr"), layer, BOUNDS, VOXEL, (16, 16, 16)
        )
        shape = (*[layer.channels][: layer.channels or 0], *BOUNDS.shape)
        volume.write(BOUNDS, np.random.default_rng(0).integers(1, 256, shape).astype("uint8"))


def document(*steps: Any, block: int = 16, **volumes: Any) -> dict[str, Any]:
    return {
        "run": "out",
        "block": [block] * 3,
        "volumes": {"em": {"path": "em.zarr", "downsample": "6 nm"}, **volumes},
        "steps": list(steps) or [{"use": f"{HERE}:Sums"}],
    }


def planned(downsample: Any) -> Plan:
    source = document()
    source["volumes"]["em"]["downsample"] = downsample
    return make_plan(source)


def problem(source: dict[str, Any], **more: Any) -> str:
    with pytest.raises(PlanError) as caught:
        make_plan(source, **more)
    return str(caught.value)


@pytest.mark.parametrize("block", [8, 16])
def test_blocks_of_a_run_read_the_means_of_the_whole(block: int) -> None:
    assert volflow.run(document(block=block)).ok
    em = Volume.open(VolumeSpec(path="em.zarr", downsample=(1, 2, 2)))
    assert em.bounds == COARSE
    whole = em.read(COARSE.grow((1, 1, 1)))
    expected = Sums().run(Block((0, 0, 0), COARSE, COARSE.grow((1, 1, 1)), COARSE), em=whole)
    sums = Volume.open(VolumeSpec(path="precomputed://out/sums"))
    assert (sums.bounds, sums.resolution) == (COARSE, (30, 8, 8))
    np.testing.assert_array_equal(sums.read(COARSE), expected["sums"][1:-1, 1:-1, 1:-1])


def test_digests_depend_on_the_factors_not_on_how_they_were_written() -> None:
    by_length, by_factors = planned("6 nm"), planned([1, 2, 2])
    assert by_length.resolution == by_factors.resolution == (30, 8, 8)
    assert by_length.steps[0].digest == by_factors.steps[0].digest
    assert planned([1, 1, 1]).steps[0].digest == planned(None).steps[0].digest
    assert planned([2, 2, 2]).steps[0].digest != by_length.steps[0].digest


def test_the_plan_prints_the_factors_and_the_voxel_sizes() -> None:
    Path("p.yaml").write_text(json.dumps(document()))
    text = CliRunner().invoke(main, ["plan", "p.yaml"]).stdout
    assert f"bounds  {COARSE} (21x22x28 voxels of 30x8x8 nm, z y x)" in text
    assert (
        "voxels  em.downsample: 6 nm is [1, 2, 2]; stored voxels of 30 x 4 x 4 nm are averaged to "
        "30 x 8 x 8 nm\n" in text
    )
    text = (
        CliRunner().invoke(main, ["plan", "p.yaml", "--set", "volumes.em.downsample=4 nm"]).stdout
    )
    assert "4 nm is [1, 1, 1]; stored voxels of 30 x 4 x 4 nm are read unchanged\n" in text
    printed = json.loads(CliRunner().invoke(main, ["plan", "p.yaml", "--json"]).stdout)
    assert printed["downsampled"] == {"em": [1, 2, 2]}


def test_memory_of_a_block_includes_the_stored_voxels() -> None:
    plain, averaged = planned(None), planned([1, 4, 4])
    more = averaged.steps[0].memory["map"] - planned([1, 1, 1]).steps[0].memory["map"]
    assert plain.steps[0].memory == planned([1, 1, 1]).steps[0].memory
    read, coarse = 18 * 18 * 18, 18 * 14 * 16  # with the halo; the coarse one ends at the bounds
    assert averaged.steps[0].jobs[0].phase.grid.bounds.shape == (21, 12, 14)
    # the stored voxels, a copy and a mask; the stage's 32 bytes and the next block's voxels
    assert more == coarse * 16 * 3 - (read - coarse) * (32 + 1)


def test_bounds_are_in_the_voxels_that_are_read() -> None:
    assert make_plan(document(), bounds="1:22,2:20,4:20").bounds == Box((1, 2, 4), (22, 20, 20))
    assert (
        f"bounds 1:22,3:45,5:60 extend beyond volume 'em', which is {COARSE} in voxels of [1, 2, 2]"
        " stored ones (downsample)" in problem(document(), bounds=str(BOUNDS))
    )


@pytest.mark.parametrize(
    ("steps", "volumes", "message"),
    [
        (
            [{"use": "score", "in": {"segmentation": "labels", "truth": "truth"}}],
            {"truth": {"path": "labels.zarr", "downsample": [1, 2, 2]}},
            "only images are averaged; step 'score' reads 'truth' as labels, and the mean of two "
            "labels is another object's; leave downsample out, or take a coarser scale with "
            "volumes.truth.level",
        ),
        (
            [{"use": "fragments"}],
            {"affinity": {"path": "affinity.zarr", "downsample": "6 nm"}},
            "only images are averaged; step 'fragments' reads 'affinity' as affinities, which are "
            "of voxels next to each other",
        ),
    ],
)
def test_labels_and_affinities_are_refused(
    steps: list[Any], volumes: dict[str, Any], message: str
) -> None:
    assert message in problem(document(*steps, labels={"path": "labels.zarr"}, **volumes))


def test_a_mask_and_a_volume_that_is_written_are_refused() -> None:
    mask = {"path": "labels.zarr", "downsample": [1, 2, 2]}
    text = problem({**document(labels=mask), "mask": "labels"})
    assert "only images are averaged, and 'labels' is the mask" in text
    text = problem(document(sums={"downsample": [1, 2, 2]}))
    assert "a step writes 'sums', but 'downsample' is for reading an existing volume" in text


def test_another_voxel_size_of_the_run() -> None:
    text = problem({**document(), "resolution": [30, 4, 4]})
    assert "volumes.em: resolution [30, 8, 8] nm; expected that of the run, [30, 4, 4] nm" in text
    assert "or other factors than downsample: [1, 2, 2]" in text


def test_an_offline_plan_has_the_declared_factors() -> None:
    source = document()
    source["volumes"]["em"]["resolution"] = VOXEL
    plan = make_plan(source, bounds="0:8,0:8,0:8", offline=True)
    assert plan.resolution == (30, 8, 8)
    assert plan.downsampled[0].factors == (1, 2, 2)
