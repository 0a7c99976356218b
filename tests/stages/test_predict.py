"""A network laid over a volume: the same bytes whatever the blocks, and errors before the run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.networks import ARGUMENTS, FIXED, OFFSETS, checkpoint, header, network
from tests.stages.contract import Case, StageContract, run
from volflow import run as run_pipeline
from volflow.checkpoints.header import Padding
from volflow.cli import main
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box, Triple
from volflow.core.stage import Layer, find_stage
from volflow.core.stage.units import Units
from volflow.engine.api import make_plan
from volflow.engine.estimate.trial import _cut
from volflow.errors import PlanError
from volflow.io.volume import Volume
from volflow.models.checkpoint import fold_batchnorm
from volflow.predict.intensity import normalise
from volflow.stages.predict import Predict

BOUNDS = Box((3, -2, 5), (22, 19, 37))  # 19, 21 and 32 voxels


def picture(shape: Triple, seed: int = 0) -> np.ndarray:
    """Noise with a texture, uint8."""
    noise = np.random.default_rng(seed).normal(128, 60, shape)
    smooth = noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, 1, 2)
    return np.clip((smooth - 384) / 2 + 128 - 64, 0, 255).astype("uint8")


EM = picture(BOUNDS.shape)


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose network wants no intensities."""
    path = tmp_path_factory.mktemp("networks") / "fixed.safetensors"
    return checkpoint(path, normalisation=FIXED)


class TestPredict(StageContract):
    @pytest.fixture
    def case(self, fixed: Path) -> Case:
        return Case(Predict(model=str(fixed)), BOUNDS, {"em": EM}, ((16, 16, 32), (11, 40, 20)))

    def test_inputs_are_those_of_the_case(self, case: Case) -> None:
        assert case.stage.inputs() == {"em": True, "intensity": False}


class TestPredictBlended(StageContract):
    @pytest.fixture
    def case(self, fixed: Path) -> Case:
        stage = Predict(model=str(fixed), overlap=(4, 6, 8), flips="x", precision="fp32")
        return Case(stage, BOUNDS, {"em": EM}, ((16, 16, 32), (11, 40, 20)))

    def test_inputs_are_those_of_the_case(self, case: Case) -> None:
        assert case.stage.inputs() == {"em": True, "intensity": False}


HEADS = {
    "affinity": {"channels": 4, "offsets": OFFSETS},
    "shape": {"channels": 3, "odd": ("z", "yx", "")},
    "height": {"channels": 1, "sigmoid": False, "range": (-4, 4)},
}
MANY = {"offsets": (), "heads": HEADS, "out_channels": 8}


@pytest.fixture(scope="module")
def headed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose network has several heads."""
    path = tmp_path_factory.mktemp("networks") / "headed.safetensors"
    return checkpoint(path, **MANY, arguments={**ARGUMENTS, "out_channels": 8}, normalisation=FIXED)


class TestPredictHeads(StageContract):
    @pytest.fixture
    def case(self, headed: Path) -> Case:
        stage = Predict(model=str(headed), heads=("height", "shape", "affinity"), flips="yx")
        return Case(stage, BOUNDS, {"em": EM}, ((16, 16, 32), (11, 40, 20)))

    def test_inputs_are_those_of_the_case(self, case: Case) -> None:
        assert case.stage.inputs() == {"em": True, "intensity": False}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_head_is_the_same_whichever_others_are_written(headed: Path, precision: str) -> None:
    def created(**with_: Any) -> dict[str, np.ndarray]:
        stage = Predict(model=str(headed), precision=precision, **with_)
        return run(Case(stage, BOUNDS, {"em": EM}), (20, 24, 32))

    alone = created()
    assert alone.keys() == {"affinity@0"}
    every = created(heads=("shape", "height", "affinity"), write={"far": (3,)})
    assert {name: array.shape[:-3] for name, array in every.items()} == {
        "shape@0": (3,),
        "height@0": (),
        "affinity@0": (3,),
        "far@0": (),
    }
    np.testing.assert_array_equal(every["affinity@0"], alone["affinity@0"])
    for name in ("shape", "height"):
        np.testing.assert_array_equal(created(heads=(name,))[f"{name}@0"], every[f"{name}@0"])
    np.testing.assert_array_equal(created(write={"far": (3,)})["far@0"], every["far@0"])


def test_what_is_written_of_a_head_is_what_the_network_says(headed: Path) -> None:
    stage = Predict(model=str(headed), heads=("shape", "height"), precision="fp32")
    assert stage.outputs == {
        "shape": Layer("uint8", 3, "image"),
        "height": Layer("uint8", 0, "image"),
    }
    actual = run(Case(stage, BOUNDS, {"em": EM}), BOUNDS.shape)
    whole = at_once(EM, network(arguments={**ARGUMENTS, "out_channels": 8}))
    assert np.abs(actual["shape@0"] - 255 * whole[4:7]).max() < 0.51
    logits = np.log(whole[7].astype(float) / (1 - whole[7].astype(float)))
    expected = 255 * np.clip((logits + 4) / 8, 0, 1)
    assert np.abs(actual["height@0"] - expected).max() < 0.6
    assert np.ptp(actual["height@0"]) > 50


def test_a_network_that_names_no_heads_has_one(fixed: Path) -> None:
    printed = Predict(model=str(fixed), heads=("affinity",))
    assert printed.outputs == Predict(model=str(fixed)).outputs
    assert list(printed.header.named) == ["affinity"]
    assert list(header(offsets=()).named) == ["output"]
    assert not {"heads", "padding"} & header().model_dump().keys()
    assert header(padding="symmetric").model_dump()["padding"] == "symmetric"


def at_once(
    image: np.ndarray, model: torch.nn.Module, margin: int = 10, padding: Padding = "reflect"
) -> np.ndarray:
    """Probabilities of the whole volume in one go, mirrored at its faces."""
    padded = np.pad(normalise(image, 0, 255), margin, mode=padding)
    odd = [(0, side % 2) for side in padded.shape]  # sides the pooling divides
    with torch.inference_mode():
        shown = torch.from_numpy(np.pad(padded, odd))[None, None]
        created = fold_batchnorm(model)(shown).sigmoid()[0].numpy()
    z, y, x = (slice(margin, margin + side) for side in image.shape)
    return created[:, z, y, x]


@pytest.mark.parametrize("padding", ["reflect", "symmetric"])
def test_with_enough_halo_tiles_equal_the_whole_volume_at_once(
    tmp_path: Path, padding: Padding
) -> None:
    path = checkpoint(tmp_path / "net.safetensors", normalisation=FIXED, padding=padding)
    stage = Predict(model=str(path), precision="fp32")
    created = run(Case(stage, BOUNDS, {"em": EM}), (16, 16, 16))["affinity@0"]
    expected = 255 * at_once(EM, network(), padding=padding)[:3]
    assert np.ptp(created) > 100  # it is no constant
    assert np.abs(created - expected).max() < 0.51
    assert (created == np.rint(expected)).mean() > 0.9999


def test_bfloat16_is_near(fixed: Path) -> None:
    exact, near = (
        run(Case(Predict(model=str(fixed), precision=p), BOUNDS, {"em": EM}), (20, 24, 32))
        for p in ("fp32", "bf16")
    )
    apart = np.abs(exact["affinity@0"].astype(int) - near["affinity@0"])
    assert 0 < apart.max() < 32
    assert apart.mean() < 1.5


def test_flips_are_averaged_in_their_own_frame(fixed: Path) -> None:
    """A flipped image is what the network is shown flipped again, channel by channel."""
    plain = Predict(model=str(fixed), precision="fp32")
    both = Predict(model=str(fixed), precision="fp32", flips="x")
    actual = run(Case(both, BOUNDS, {"em": EM}), BOUNDS.shape)["affinity@0"].astype(float)
    here = run(Case(plain, BOUNDS, {"em": EM}), BOUNDS.shape)["affinity@0"].astype(float)
    mirrored = np.ascontiguousarray(EM[..., ::-1])
    there = run(Case(plain, BOUNDS, {"em": mirrored}), BOUNDS.shape)["affinity@0"][..., ::-1]
    there = there.astype(float)
    there[2, ..., 1:] = there[2, ..., :-1].copy()  # joins v and v - 1 in the mirror's frame
    # 32 voxels are two tiles, so tiles and pooling are the same in the mirror.
    apart = np.abs(actual - (here + there) / 2)[..., 1:]
    assert apart.max() <= 1  # both were rounded before
    assert np.median(np.abs(actual - here)) > 2


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_that_others_set_change_no_byte(fixed: Path, threads: int) -> None:
    case = Case(Predict(model=str(fixed)), BOUNDS, {"em": EM})
    before, exact = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    expected = run(case, (16, 24, 32))["affinity@0"]
    torch.set_num_threads(threads)
    try:
        assert run(case, (16, 24, 32))["affinity@0"].tobytes() == expected.tobytes()
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.are_deterministic_algorithms_enabled() == exact


def test_channels_go_to_the_volumes_they_are_written_to(fixed: Path) -> None:
    stage = Predict(model=str(fixed), write={"far": (3,), "affinity": (0, 1, 2)})
    assert stage.outputs == {
        "far": Layer("uint8", 0, "affinity"),
        "affinity": Layer("uint8", 3, "affinity"),
    }
    actual = run(Case(stage, BOUNDS, {"em": EM}), (20, 24, 32))
    plain = run(Case(Predict(model=str(fixed)), BOUNDS, {"em": EM}), (20, 24, 32))
    np.testing.assert_array_equal(actual["affinity@0"], plain["affinity@0"])
    assert actual["far@0"].shape == BOUNDS.shape


def test_the_tile_fits_a_thin_volume(fixed: Path) -> None:
    thin = Predict(model=str(fixed)).tiling(Box((0, 0, 0), (5, 100, 13)))
    assert thin.tile == (26, 36, 34)
    assert thin.counts == (1, 7, 1)


def test_found_by_its_name() -> None:
    assert find_stage("predict") is Predict


# --- in a run ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an image and a checkpoint that wants its intensities."""
    store(tmp_path / "em.zarr", EM)
    checkpoint(tmp_path / "net.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def store(path: Path, image: np.ndarray, resolution: Any = (10, 10, 10)) -> None:
    spec, channels = VolumeSpec(path=f"zarr://{path}"), image.shape[0] if image.ndim == 4 else 0
    layer = Layer(str(image.dtype), channels)
    volume, _ = Volume.create(spec, layer, BOUNDS, resolution, (16, 16, 16))
    volume.write(BOUNDS, image)


def pipeline(out: str = "out", block: Triple = (16, 16, 32), **with_: Any) -> dict[str, Any]:
    return {
        "run": out,
        "block": list(block),
        "volumes": {"em": {"path": "em.zarr"}},
        "steps": [
            {"use": "intensity"},
            {"use": "predict", "with": {"model": "net.safetensors", **with_}},
        ],
    }


def affinity(out: str) -> np.ndarray:
    return Volume.open(VolumeSpec(path=f"precomputed://{out}/affinity"), own=True).read(BOUNDS)


def test_an_image_is_scaled_by_its_own_intensities(folder: Path) -> None:
    result = run_pipeline(pipeline(precision="fp32"))
    assert result.ok
    ends = result.results["intensity"]
    assert (ends["low"], ends["high"]) == tuple(
        np.quantile(EM, [0.01, 0.99], method="inverted_cdf")
    )
    first = affinity("out")
    assert np.ptp(first) > 100
    # Half the contrast, and brighter: another image to the eye, and the same to the network.
    store(folder / "dim.zarr", (EM // 2 + 40).astype("uint8"))
    dim = pipeline("dim", precision="fp32")
    dim["volumes"]["em"]["path"] = "dim.zarr"
    assert run_pipeline(dim).ok
    apart = np.abs(affinity("dim").astype(int) - first)
    assert np.median(apart) <= 2  # a bit was lost
    fixed_range = pipeline("given", precision="fp32", range=[ends["low"], ends["high"]])
    del fixed_range["steps"][0]
    assert run_pipeline(fixed_range).ok
    assert affinity("given").tobytes() == first.tobytes()


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("block", "workers"), [((16, 16, 32), 1), ((32, 16, 16), 2), ((12, 24, 16), 4)]
)
def test_neither_blocks_nor_workers_change_a_byte(
    folder: Path, block: Triple, workers: int
) -> None:
    chunk = {"affinity": {"path": "", "chunk": [4, 8, 4]}}
    here = pipeline("here", (20, 24, 32), overlap=[2, 2, 2])
    there = pipeline("there", block, overlap=[2, 2, 2])
    here["volumes"] |= chunk
    there["volumes"] |= chunk
    assert run_pipeline(here).ok
    assert run_pipeline(there, cluster="local", workers=workers).ok
    assert affinity("there").tobytes() == affinity("here").tobytes()


def test_planning_does_not_import_torch(folder: Path) -> None:
    code = (
        "import sys\n"
        "from volflow.engine.api import make_plan\n"
        "plan = make_plan({'run': 'out', 'block': [16, 16, 32],"
        " 'volumes': {'em': {'path': 'em.zarr'}},"
        " 'steps': [{'use': 'intensity'}, {'use': 'predict', 'with': {'model': 'net.safetensors'}}]"
        "})\n"
        "assert plan.step('predict').jobs[0].phase.grid.halo == (10, 10, 0)\n"
        "assert 'torch' not in sys.modules\n"
    )
    planned = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert planned.returncode == 0, planned.stderr


def test_the_weights_decide_what_is_done_again_and_not_where_they_lie(folder: Path) -> None:
    def content(**with_: Any) -> str:
        return make_plan(pipeline(**with_)).step("predict").content

    first = content()
    checkpoint(folder / "moved.safetensors")
    assert content(model="moved.safetensors") == first
    checkpoint(folder / "net.safetensors", seed=1)
    assert content() != first
    checkpoint(folder / "net.safetensors", voxel_size_nm=(10, 10, 9.9))
    assert content() != first
    checkpoint(folder / "net.safetensors")
    assert content() == first
    assert content(flips="x") != first


def test_to_compile_is_part_of_the_digest_only_when_it_is_asked_for(folder: Path) -> None:
    def printed(**with_: Any) -> dict[str, Any]:
        return Predict(model="net.safetensors", **with_).identity()

    assert "compile" not in printed(compile=False)
    assert printed() == printed(compile=False)
    assert printed(compile=True) == {**printed(), "compile": True}


# --- mistakes, all of them before the first block ------------------------------------------------


def problems(source: dict[str, Any]) -> str:
    with pytest.raises(PlanError) as caught:
        make_plan(source)
    return str(caught.value)


def test_a_network_that_is_not_there(folder: Path) -> None:
    assert "there is no network 'net'" in problems(pipeline(model="net"))
    assert "there is no network 'no.safetensors'" in problems(pipeline(model="no.safetensors"))


@pytest.mark.parametrize("left", [4, 100, -1])
def test_truncated_weights(folder: Path, left: int) -> None:
    whole = (folder / "net.safetensors").read_bytes()
    (folder / "net.safetensors").write_bytes(whole[:left])
    assert "cut off" in problems(pipeline())


def test_damaged_weights(folder: Path) -> None:
    whole = bytearray((folder / "net.safetensors").read_bytes())
    whole[-3] ^= 1
    (folder / "net.safetensors").write_bytes(whole)
    assert "its tensors have another hash" in problems(pipeline())


def test_weights_that_change_during_the_run(folder: Path) -> None:
    stage = Predict(model="net.safetensors", range=(0, 255))
    checkpoint(folder / "net.safetensors", seed=1)
    with pytest.raises(Exception, match="has changed since the run was planned"):
        run(Case(stage, BOUNDS, {"em": EM}), (20, 24, 32))


def test_another_voxel_size(folder: Path) -> None:
    checkpoint(folder / "net.safetensors", voxel_size_nm=(10, 10, 8.4))
    make_plan(pipeline())  # 10 against 8.4 nm: within 20 %
    checkpoint(folder / "net.safetensors", voxel_size_nm=(10, 10, 8))
    reported = problems(pipeline())
    assert "got 10 x 10 x 10 nm" in reported
    assert (
        "was trained on voxels of 10 x 10 x 8 nm; expected a voxel size within 20% of it, got"
        in reported
    )
    make_plan(pipeline(voxel_tolerance=0.3))


def test_an_image_with_channels(folder: Path) -> None:
    store(folder / "rgb.zarr", np.stack([EM, EM]))
    source = pipeline()
    source["volumes"]["em"]["path"] = "rgb.zarr"
    assert "em: expected 1 channels, as the network takes; got 2" in problems(source)


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_an_image_of_floats(folder: Path, value: float) -> None:
    store(folder / "float.zarr", np.full(BOUNDS.shape, value, "float32"))
    source = pipeline()
    source["volumes"]["em"]["path"] = "float.zarr"
    reported = problems(source)
    assert (
        "expected uint8 or uint16; got float32; `scale` of the volume converts it to uint8"
        in reported
    )


def test_an_image_without_intensities(folder: Path) -> None:
    source = pipeline()
    del source["steps"][0]
    assert "add `- use: intensity` before this step, or give range: [LOW, HIGH]" in problems(source)


def test_a_constant_image_ends_the_run_before_the_network_sees_it(folder: Path) -> None:
    store(folder / "grey.zarr", np.full(BOUNDS.shape, 77, "uint8"))
    for block in ((16, 16, 32), (32, 32, 32)):
        source = pipeline(f"grey{block[0]}", block)
        source["volumes"]["em"]["path"] = "grey.zarr"
        result = run_pipeline(source)
        assert [failure.step for failure in result.failures] == ["intensity"]
        assert "the image is constant: 98% of its voxels have the intensity 77" in (
            result.failures[0].error
        )
        assert not result.steps[1].started


@pytest.mark.parametrize(
    ("with_", "reported"),
    [
        (
            {"write": {"affinity": [0, 1, 4]}},
            r"expected channels from 0 to 3, the network's; got [0, 1, 4]",
        ),
        ({"write": {"far": []}}, "the network's; got []"),
        ({"heads": ["lsd"]}, "has no head 'lsd'; it has affinity"),
        ({"heads": ["affinity", "affinity"]}, "heads: 'affinity' is named twice"),
        (
            {"heads": ["affinity"], "write": {"affinity": [0]}},
            "heads: 'affinity' is named twice",
        ),
        ({"overlap": [3, 0, 0]}, "overlap: expected multiples of the network's stride (2, 2, 2)"),
        ({"overlap": [16, 0, 0]}, "expected a stride between 1 and"),
        ({"input_tile": [37, 36, 36]}, "input_tile: expected multiples of the network's stride"),
        ({"input_tile": [20, 20, 20]}, "larger than its context"),
        ({"flips": "xz"}, "flips"),
        ({"range": [200, 50]}, "range: expected [LOW, HIGH] with LOW below HIGH"),
        ({"weights": "a.safetensors"}, "belong to a model of your own"),
        ({"device": "cuda:1"}, "device"),
        ({"modle": "x"}, "modle"),
    ],
)
def test_parameters_that_do_not_fit(folder: Path, with_: dict[str, Any], reported: str) -> None:
    assert reported in problems(pipeline(**with_))


def test_to_compile_without_a_compiler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-c++ -O3")
    reported = problems(pipeline(compile=True))
    assert "compile: torch needs a C++ compiler, and 'no-such-c++' was not found" in reported
    make_plan(pipeline())


def test_offsets_that_flips_break(folder: Path) -> None:
    offsets = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, -3, -3))
    checkpoint(folder / "net.safetensors", offsets=offsets)
    assert (
        "flips: expected axes that keep all offsets; x maps offset (0, -3, -3) to another pair"
        in problems(pipeline(flips="x"))
    )
    make_plan(pipeline(flips="z"))


def test_a_network_without_nearest_affinities(folder: Path) -> None:
    offsets = ((-1, 0, 0), (0, -1, 0), (0, 0, -2), (0, 0, -4))
    checkpoint(folder / "net.safetensors", offsets=offsets)
    reported = problems(pipeline())
    assert "has no affinities to the three neighbours" in reported
    assert "choose among its 4 channels" in reported
    make_plan(pipeline(write={"far": [2, 3]}))


@pytest.mark.parametrize(("planes", "used"), [(1, "generalist-sections"), (2, "generalist")])
def test_of_two_networks_one_is_for_a_single_section(planes: int, used: str) -> None:
    units = Units((50.0, 9.0, 9.0), planes)
    text = {"model": "generalist or generalist-sections"}
    stage = Predict.model_validate(text, context=units)
    assert units.depends
    assert stage.model == used
    assert stage.identity() == Predict(model=used).identity()


@pytest.mark.parametrize(("bounds", "kind"), [("3:4", "mnet"), ("3:9", "resunet3d")])
def test_a_run_takes_the_network_that_fits_its_bounds(folder: Path, bounds: str, kind: str) -> None:
    source = pipeline(model="generalist or generalist-sections", voxel_tolerance=5)
    plan = make_plan(source | {"bounds": f"{bounds},-2:19,5:37"})
    stage = plan.steps[-1].stage
    assert isinstance(stage, Predict)
    assert stage.header.network == kind


def test_a_trial_in_one_section_has_the_network_of_the_volume(folder: Path) -> None:
    plan = make_plan(pipeline(model="generalist or generalist-sections", voxel_tolerance=5))
    part = _cut(plan, Box((4, -2, 5), (5, 19, 37)), "scratch")
    assert part.steps[-1].with_["model"] == "generalist"


def test_the_plan_shows_which_of_two_networks_is_used(folder: Path) -> None:
    source = pipeline(model="generalist or generalist-sections", voxel_tolerance=5)
    (folder / "p.yaml").write_text(json.dumps(source))
    arguments = ["plan", "p.yaml", "--bounds", "3:4,-2:19,5:37"]
    line = "planes  predict.model: generalist or generalist-sections is generalist-sections"
    assert line in CliRunner().invoke(main, arguments).stdout
    document = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert document["steps"][-1]["by_planes"] == {"model": "generalist-sections"}


def test_the_factors_of_an_image_of_finer_voxels_are_named(folder: Path) -> None:
    """The problem names an option with which the plan has none."""
    checkpoint(folder / "net.safetensors", voxel_size_nm=(10, 30, 21))
    option = "volumes.em.downsample=[1,3,2]"  # 30 and 20 nm
    assert f"got 10 x 10 x 10 nm; average voxels with --set {option}" in problems(pipeline())
    assert make_plan(pipeline(), overrides=[option]).resolution == (10, 30, 20)
    coarse = {"overrides": ["volumes.em.downsample=[1,2,1]"]}
    with pytest.raises(PlanError) as caught:
        make_plan(pipeline(), **coarse)
    assert f"got 10 x 20 x 10 nm; average voxels with --set {option}" in str(caught.value)
    make_plan(pipeline(voxel_tolerance=[0, 1, 1]))
    checkpoint(folder / "net.safetensors", voxel_size_nm=(4, 10, 10))
    assert "another scale of the volume may fit" in problems(pipeline())
