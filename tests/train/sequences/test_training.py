from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from volflow.errors import PlanError
from volflow.train.config.sequences import SequenceTraining
from volflow.train.sequences.training import initial_network, sequence_problems, train

SOURCE = {"name": "v", "synthetic": {"bounds": "0:10,0:64,0:64", "seed": 3}, "resample": ""}


def training(folder: Path, **changes: Any) -> SequenceTraining:
    """Four steps on a small synthetic volume."""
    config = {
        "kind": "iicats",
        "out": str(folder),
        "voxel_size_nm": [10, 10, 10],
        "sources": [SOURCE],
        "validation": {"sources": [SOURCE], "every": 4, "objects": 2, "after": [1, 2]},
        "network": {"encoding": 4, "features": 8},
        "sequence": {"sections": [2, 3], "sides": [32], "objects": 2},
        "steps": 4,
        "save_every": 2,
        "device": "cpu",
    }
    return SequenceTraining.model_validate({**config, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(training(folder), lambda row: None)
    return folder


def test_interrupted_training_ends_in_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    """Stopped after two steps, and resumed from the state stored there."""

    class Stopped(Exception):
        pass

    def stop(row: dict[str, Any]) -> None:
        raise Stopped

    halfway = training(
        tmp_path, validation={**training(tmp_path).validation.model_dump(), "every": 3}
    )
    with pytest.raises(Stopped):
        train(halfway, stop)
    train(training(tmp_path), lambda row: None)
    for name in ("best", "state"):
        one, other = (load_file(f / f"{name}.safetensors") for f in (trained, tmp_path))
        assert all(torch.equal(one[key], other[key]) for key in one)
    rows = [json.loads(x) for x in (tmp_path / "validation.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 4
    assert set(rows[-1]["scores"]) == {"v.1", "v.2"}


def test_baselines_are_scored_once(trained: Path) -> None:
    baselines = json.loads((trained / "baselines.json").read_text())
    assert set(baselines) == {"copied", "segments"}
    assert 0 < baselines["copied"]["v.1"] <= 1


def test_box_extractor_alone_is_trained(trained: Path, tmp_path: Path) -> None:
    start = trained / "last.safetensors"
    train(training(tmp_path, trained="boxes", start=str(start)), lambda row: None)
    before, after = load_file(start), load_file(tmp_path / "state.safetensors")
    changed = {
        name for name, tensor in before.items() if not torch.equal(tensor, after[f"network.{name}"])
    }
    assert changed
    assert all(name.startswith("box.") for name in changed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trained": "boxes"}, "trained: boxes; expected start"),
        ({"network": {"few_shot": False, "last_masks": 0}}, "expected last_masks or few_shot"),
        ({"sequence": {"sections": [1, 3]}}, "must ascend and be at least 2"),
        ({"sequence": {"sides": []}}, "expected at least one"),
        ({"sources": [{**SOURCE, "flat": True}]}, "expected labels in 3D, no flat"),
    ],
)
def test_files_are_checked(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        training(tmp_path, **changes)


def test_problems_of_volumes_are_listed(tmp_path: Path) -> None:
    stored = {"image": {"path": "em.npy"}, "labels": {"path": "em.npy"}, "flat": False}
    sources = [{**stored, "offline": {"d": "cortx"}}, SOURCE]
    problems = sequence_problems(training(tmp_path, sources=sources, sequence={"sides": [96]}))
    assert any("offline.d: there is no bundled network 'cortx'" in p for p in problems)
    assert any(p.startswith("sources[1]: ") and "too small" in p for p in problems)


def test_initial_weights_are_checked(tmp_path: Path, trained: Path) -> None:
    with pytest.raises(PlanError, match="start: "):
        initial_network(training(tmp_path, start=str(tmp_path / "none.safetensors")))
    other = {"encoding": 8, "features": 8}
    start = str(trained / "best.safetensors")
    with pytest.raises(PlanError, match="start: "):
        initial_network(training(tmp_path, start=start, network=other))
    initial_network(training(tmp_path, start=start))
