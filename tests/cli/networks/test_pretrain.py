"""`volflow pretrain`: a file checked before anything starts, an encoder at the end."""

import pytest

TINY = """
out: {out}
voxel_size_nm: [10, 10, 10]
sources:
  - synthetic: {{bounds: "0:8,0:32,0:32", seed: 5}}
validation:
  source: {{synthetic: {{bounds: "0:8,0:32,0:32", seed: 6}}}}
  every: 1
  crops: 1
network: {{widths: [2, 2, 2, 2, 2]}}
crop: [4, 16, 32]
batch: 1
steps: 2
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY.format(out=tmp_path / "pretraining"))
    return path


def test_pretraining_ends_in_an_encoder(volflow, config, tmp_path):
    done = volflow("pretrain", config)
    assert done.exit_code == 0
    assert done.output.count("held-out error") == 2
    assert "best so far" in done.output
    created = tmp_path / "pretraining" / "encoder.safetensors"
    assert f"encoder: {created}" in done.output.replace("\n", "")
    assert created.exists()


def test_check_trains_nothing(volflow, config, tmp_path):
    done = volflow("pretrain", config, "--check", "--set", "steps=9")
    assert done.exit_code == 0
    assert "9 steps, no problems" in done.output
    assert not (tmp_path / "pretraining").exists()


def test_all_mistakes_are_reported_before_anything_starts(volflow, config, tmp_path):
    done = volflow("pretrain", config, "--set", "steps=0", "--set", "batches=2")
    assert done.exit_code == 2
    assert "2 problems; nothing was started" in done.output
    assert "did you mean 'batch'?" in done.output
    done = volflow("pretrain", config, "--set", "crop=[20,128,128]")
    assert done.exit_code == 2
    assert "sources[0]: 0:8,0:32,0:32 is too small" in done.output
    assert not (tmp_path / "pretraining").exists()
