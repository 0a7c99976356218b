"""A network of a user: the page on it, run; and its mistakes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import volflow
from tests.stages.contract import Case, run
from tests.stages.test_predict import BOUNDS, EM, affinity, problems, store
from volflow.errors import StorageError
from volflow.predict.flips import shifted
from volflow.stages.predict import Predict

PAGE = (Path(__file__).parents[2] / "docs" / "bring-your-own-network.md").read_text()


def parts(language: str) -> list[str]:
    """The code of one language on the page."""
    actual: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return actual


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder: image, module, weights and pipeline file, as on the page."""
    store(tmp_path / "em.zarr", EM)
    module, conversion = parts("python")
    (tmp_path / "my_networks.py").write_text(module)
    (tmp_path / "pipeline.yaml").write_text(parts("yaml")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.manual_seed(3)
    torch.save(small().state_dict(), "small.pt")
    exec(compile(conversion, "page", "exec"), {})
    yield tmp_path
    sys.modules.pop("my_networks", None)
    for path in [p for p in sys.path if Path(p) == tmp_path]:
        sys.path.remove(path)


def small() -> torch.nn.Module:
    from my_networks import Small  # type: ignore[import-not-found]

    network: torch.nn.Module = Small(width=8)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= 4  # livelier than fresh weights
    return network.eval()


def source(**network: Any) -> dict[str, Any]:
    """The page's pipeline with other declarations of the network; None removes one."""
    actual: dict[str, Any] = yaml.safe_load(parts("yaml")[0])
    printed = actual["steps"][1]["with"]["network"]
    printed.update(network)
    actual["steps"][1]["with"]["network"] = {k: v for k, v in printed.items() if v is not None}
    return actual


def test_the_page_runs(folder: Path) -> None:
    result = volflow.run("pipeline.yaml", overrides=["steps.predict.precision=fp32"])
    assert result.ok
    actual = affinity("out")
    low, high = (result.results["intensity"][end] for end in ("low", "high"))
    scaled = ((EM.astype("float32") - low) / (high - low) * 2 - 1).clip(-2, 2)
    padded = np.pad(scaled, 4, mode="reflect")
    network = small()
    network.load_state_dict(load_file("small.safetensors"))
    with torch.inference_mode():
        next_voxel = network(torch.from_numpy(padded)[None, None]).sigmoid()[0].numpy()
    expected = np.stack([shifted(next_voxel[a], o) for a, o in enumerate(-np.eye(3, dtype=int))])
    expected = 255 * expected[:, 4:-4, 4:-4, 4:-4]
    assert np.ptp(actual) > 100
    assert np.abs(actual - expected).max() < 0.51


@pytest.mark.cluster
def test_workers_find_the_module_next_to_the_pipeline(folder: Path) -> None:
    assert volflow.run("pipeline.yaml").ok
    first = affinity("out")
    there = ["run=there", "block=[16, 16, 16]"]
    assert volflow.run("pipeline.yaml", overrides=there, cluster="local", workers=2).ok
    assert affinity("there").tobytes() == first.tobytes()


def test_what_lies_beyond_the_volume_is_said_and_is_other_content(folder: Path) -> None:
    from volflow.engine.api import make_plan

    other = source(padding="symmetric")
    assert Predict(**other["steps"][1]["with"]).header.padding == "symmetric"
    contents = {make_plan(how).step("predict").content for how in (source(), other)}
    assert len(contents) == 2
    padded = source(padding="reflect")  # the default: what was done before stays done
    assert make_plan(padded).step("predict").content in contents


def test_other_code_is_other_content(folder: Path) -> None:
    def content() -> str:
        from volflow.engine.api import make_plan

        return make_plan(source()).step("predict").content

    first = content()
    assert content() == first
    with (folder / "my_networks.py").open("a") as file:
        file.write("\nLATER = 1\n")
    assert content() != first


def test_weights_that_change_are_other_content_and_never_those_of_before(folder: Path) -> None:
    stage = Predict(**source()["steps"][1]["with"], range=(0, 255))
    case = Case(stage, BOUNDS, {"em": EM})
    first = run(case, (20, 24, 32))["affinity@0"]
    torch.manual_seed(4)
    save_file(small().state_dict(), "small.safetensors")
    other = Predict(**source()["steps"][1]["with"], range=(0, 255))
    assert other.identity() != stage.identity()
    assert (run(Case(other, BOUNDS, {"em": EM}), (20, 24, 32))["affinity@0"] != first).any()
    with pytest.raises(StorageError, match="has changed since the run was planned"):
        run(case, (20, 24, 32))


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({"arguments": {"width": 9}}, "not the weights of my_networks:Small"),
        ({"arguments": {"depth": 9}}, "unexpected keyword argument 'depth'"),
        (
            {"offsets": [[1, 0, 0], [0, 1, 0]]},
            "returns shape (1, 3, 32, 32, 32) for a tile of shape",
        ),
        ({"offsets": None}, "give offsets, or out_channels if it predicts no affinities"),
        ({"offsets": None, "out_channels": 3}, "has no affinities to the three neighbours"),
        ({"in_channels": 2}, "does not accept a tile of shape (1, 2, 32, 32, 32)"),
        ({"halo": None}, "network.halo"),
        ({"halo": [16, 4, 4]}, "halo (16, 4, 4) on both sides leaves nothing of tile"),
        ({"total_stride": [3, 1, 1]}, "must be multiples of total_stride 3 along z"),
        ({"voxel_size_nm": [40, 4, 4]}, "was trained on voxels of 40 x 4 x 4 nm"),
        ({"normalisation": {"kind": "percentiles", "low": 0.0001}}, "in steps of 1/1000"),
    ],
)
def test_what_is_said_wrongly_is_reported_before_the_first_block(
    folder: Path, changes: dict[str, Any], reported: str
) -> None:
    assert reported in problems(source(**changes))


def test_what_is_missing_is_reported_before_the_first_block(folder: Path) -> None:
    def without(**with_: Any) -> str:
        created = source()
        created["steps"][1]["with"].update(with_)
        return problems(created)

    assert "there is no module 'my_netwroks'; put my_netwroks.py" in without(
        model="my_netwroks:Small"
    )
    assert "network 'my_networks:Smal' cannot be imported" in without(model="my_networks:Smal")
    assert "'my_networks:Tensor' is not a torch.nn.Module" in without(model="my_networks:Tensor")
    assert "has parameters; expected weights" in without(weights=None)
    assert "declare its offsets" in without(network=None)
    whole = (folder / "small.safetensors").read_bytes()
    (folder / "small.safetensors").write_bytes(whole[:-8])
    assert "cut off" in without()
    assert "small.pt: cut off, or not a safetensors file" in without(weights="small.pt")
