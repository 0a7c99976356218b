"""`volflow train`: a file checked before anything starts, a checkpoint at the end."""

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from volflow.checkpoints.header import read_header
from volflow.errors import PlanError

TINY = """
out: {out}
voxel_size_nm: [10, 10, 10]
sources:
  - synthetic: {{bounds: "0:32,0:32,0:32", seed: 5}}
validation:
  source: {{synthetic: {{bounds: "0:24,0:24,0:24", seed: 6}}}}
  every: 2
network: {{widths: [2, 3], pools: [[2, 2, 2]]}}
tiles: {{input_tile: [24, 24, 24], halo: [4, 4, 4]}}
crop: [16, 16, 16]
steps: 4
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY.format(out=tmp_path / "training"))
    return path


def test_training_ends_in_a_checkpoint(volflow, config, tmp_path):
    done = volflow("train", config)
    assert done.exit_code == 0
    assert done.output.count("VI ") == 2
    assert "best so far" in done.output
    best = tmp_path / "training" / "best.safetensors"
    assert f"best checkpoint: {best}" in done.output.replace("\n", "")
    assert read_header(best).halo == (4, 4, 4)


def test_the_best_checkpoint_is_exported_with_half_the_bytes(volflow, config, tmp_path):
    copy = tmp_path / "small.safetensors"
    done = volflow("train", config, "--set", "steps=2", "--export", copy)
    assert done.exit_code == 0
    assert f"exported to {copy}" in done.output.replace("\n", "")
    best = tmp_path / "training" / "best.safetensors"
    whole, half = load_file(best), load_file(copy)
    assert whole.keys() == half.keys()
    assert any(tensor.abs().sum() > 0 for tensor in whole.values())
    for name, tensor in whole.items():
        wanted = tensor.half() if tensor.is_floating_point() else tensor
        assert half[name].dtype == wanted.dtype
        assert torch.equal(half[name], wanted)
    printed, reported = read_header(best).model_dump(), read_header(copy).model_dump()
    assert printed.pop("weights_sha256") != reported.pop("weights_sha256")
    assert printed == reported


def test_check_trains_nothing(volflow, config, tmp_path):
    done = volflow("train", config, "--check", "--set", "steps=9")
    assert done.exit_code == 0
    assert "9 steps, no problems" in done.output
    assert not (tmp_path / "training").exists()


def test_a_start_that_does_not_fit_is_reported_by_check(volflow, config, tmp_path):
    done = volflow("train", config, "--check", "--set", "start=fib25-affinity")
    assert done.exit_code == 2
    assert "has another shape than the one to be trained" in done.output
    done = volflow("train", config, "--check", "--set", f"start_encoder={tmp_path}/none")
    assert done.exit_code == 2
    assert "start_encoder: checkpoint" in done.output


def test_all_mistakes_are_reported_before_anything_starts(volflow, config, tmp_path):
    done = volflow("train", config, "--set", "steps=0", "--set", "batches=2")
    assert done.exit_code == 2
    assert "2 problems; nothing was started" in done.output
    assert "--set steps=0: steps: expected greater than or equal to 1" in done.output
    assert "did you mean 'batch'?" in done.output
    done = volflow("train", config, "--set", "crop=[64,64,64]")
    assert done.exit_code == 2
    assert "sources[0]: 0:32,0:32,0:32 is too small" in done.output


def test_a_file_that_is_not_there_is_named(volflow):
    done = volflow("train", "fib52", "--check")
    assert done.exit_code == 2
    assert "there is no training file 'fib52'; did you mean 'fib25'?" in done.output


def test_mistakes_are_errors_of_the_plan(config):
    from volflow.train.config.training import load

    with pytest.raises(PlanError):
        load(config, ("steps=0",))


def test_a_bundled_training_needs_no_data_and_runs_from_anywhere(volflow, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = [f"sources.{n}.synthetic.bounds=0:64,0:64,0:64" for n in range(3)]
    small += ["validation.source.synthetic.bounds=0:64,0:64,0:64", "network.widths=[2,2,2,2]"]
    small += ["tiles.input_tile=[64,64,64]", "tiles.halo=[8,8,8]", "steps=2"]
    done = volflow("train", "synth", *(part for text in small for part in ("--set", text)))
    assert done.exit_code == 0, done.output
    best = tmp_path / "training" / "synth" / "best.safetensors"
    assert read_header(best).offsets[:3] == ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
    assert best.with_name("best.png").exists()


def test_volumes_of_a_bundled_training_are_replaced_by_ones_of_your_own(
    volflow, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VOLFLOW_DATA", raising=False)
    with h5py.File("own.h5", "w") as file:
        file["raw"] = np.zeros((120, 64, 64), np.uint8)
        file["labels"] = np.ones((120, 64, 64), np.uint32)
    done = volflow("train", "fib25", "--check")
    assert done.exit_code == 2
    message = " ".join(done.output.split())
    assert "there is no file " in message
    assert "$VOLFLOW_DATA/fib25_medulla/ts2_z000-165.h5" in message
    assert "training data are not bundled; set VOLFLOW_DATA to the folder" in message
    assert "--set sources.0.image.path=em.zarr" in message
    own = []
    for place, bounds in (
        ("sources.0", "0:90,0:64,0:64"),
        ("validation.source", "90:120,0:64,0:64"),
    ):
        for name, dataset in (("image", "raw"), ("labels", "labels")):
            own += ["--set", f"{place}.{name}.path=hdf5://own.h5?dataset={dataset}"]
        own += ["--set", f"{place}.bounds={bounds}"]
    done = volflow("train", "fib25", "--check", *own)
    assert done.exit_code == 0, done.output
    assert "3500 steps, no problems" in done.output


def test_the_volumes_of_a_bundled_training_are_found_in_the_folder_of_the_data(
    volflow, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "fib25_medulla"
    folder.mkdir(parents=True)
    with h5py.File(folder / "ts2_z000-165.h5", "w") as file:
        file["raw"] = np.zeros((165, 250, 250), np.uint8)
        file["neuron_ids"] = np.ones((165, 250, 250), np.uint8)
    for value in (str(tmp_path / "data"), "data/"):
        monkeypatch.setenv("VOLFLOW_DATA", value)
        done = volflow("train", "fib25", "--check")
        assert done.exit_code == 0, done.output
    monkeypatch.setenv("VOLFLOW_DATA", str(tmp_path / "elsewhere"))
    done = volflow("train", "fib25", "--check")
    assert done.exit_code == 2
    assert f"hdf5://{tmp_path}/elsewhere/fib25_medulla" in "".join(done.output.split())
