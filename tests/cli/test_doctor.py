"""`doctor`: each check finds what it is for."""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from types import SimpleNamespace

import pytest

from volflow.cli.checks.cluster import check_slurm
from volflow.cli.checks.machine import check_gpu


def test_doctor_finds_this_machine_well(volflow):
    result = volflow("doctor")
    assert result.exit_code == 0, result.output
    assert "all well" in result.output
    for subject in ("python", "packages", "stages", "pipelines", "kernels", "machine", "volumes"):
        assert f"✓ {subject}" in result.output or f"! {subject}" in result.output
    assert "written and read back: precomputed, zarr, zarr3, n5" in result.output


def test_doctor_reports_what_view_lacks(volflow, monkeypatch):
    monkeypatch.setitem(sys.modules, "neuroglancer", None)
    result = volflow("doctor")
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "! view `volflow view` needs the package neuroglancer" in text
    assert "pip install '.[view]'" in text


def test_doctor_reports_a_missing_browser(volflow, monkeypatch):
    pytest.importorskip("neuroglancer")
    pytest.importorskip("selenium")
    monkeypatch.setattr("volflow.view.neuroglancer.viewer.BROWSERS", ("no-such-browser",))
    result = volflow("doctor")
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "`volflow view --screenshot` needs a browser (no-such-browser)" in text
    assert "apt install chromium" in text


def test_doctor_warns_of_zfpy(volflow, monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "1.0.1" if name == "zfpy" else real(name)
    )
    result = volflow("doctor")
    assert result.exit_code == 1
    assert "✗ zfpy" in result.output
    assert "pip uninstall zfpy" in result.output


def test_doctor_reports_old_and_missing_packages(volflow, monkeypatch):
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "h5py":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0" if name == "tensorstore" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    required = ["h5py>=3", "tensorstore<0.2", 'nope>1; extra == "test"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: required)
    result = volflow("doctor")
    assert result.exit_code == 1
    assert "h5py is missing (expected >=3)" in result.output
    assert "tensorstore 1.0 (expected <0.2)" in result.output
    assert "nope" not in result.output


def test_a_check_that_cannot_be_made_is_a_finding(volflow, monkeypatch):
    def broken(*_arguments: object) -> None:
        raise OSError("no disk at all")

    monkeypatch.setattr("volflow.io.volume.Volume.create", broken)
    result = volflow("doctor")
    assert result.exit_code == 1
    assert "✗ volume" in result.output
    assert "no disk at all" in result.output


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Put a shell script on the PATH, in place of all that is there."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def write(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return write


def finding(check) -> tuple[str, str, str]:
    (result,) = check()
    return result.verdict, result.text, result.remedy


def test_no_gpu_and_no_slurm_is_a_plain_statement(programs, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert finding(check_gpu) == ("none", "no GPU: networks run on the processor", "")
    assert finding(check_slurm) == ("none", "no Slurm: `sinfo` is not on the PATH", "")


def test_a_gpu_that_torch_cannot_use_is_a_warning(programs, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    programs("nvidia-smi", "printf 'NVIDIA H200\\nNVIDIA H200\\n'")
    verdict, text, remedy = finding(check_gpu)
    assert verdict == "warning"
    assert re.fullmatch(r"torch \S+ cannot use 2 GPUs \(NVIDIA H200\)", text)
    assert "built for CUDA" in remedy


def test_a_usable_gpu_is_named_with_its_memory(monkeypatch):
    device = SimpleNamespace(name="NVIDIA H200", total_memory=150_754_820_096)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: device)
    monkeypatch.setattr("torch.version.cuda", "12.8")
    verdict, text, _ = finding(check_gpu)
    assert verdict == "ok"
    assert text.startswith("NVIDIA H200, 150.8 GB, CUDA 12.8, torch ")


def test_a_driver_that_fails_is_no_gpu(programs, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    programs("nvidia-smi", "echo 'has failed'; exit 9")
    assert finding(check_gpu)[0] == "none"


def test_partitions_of_slurm_are_listed(programs, monkeypatch):
    programs("sinfo", "printf 'cpu up 3\\ncpu up 1\\ngpu down 1\\n'")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert finding(check_slurm) == ("ok", "partitions: cpu (4 nodes), gpu (1 node, down)", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    verdict, text, remedy = finding(check_slurm)
    assert verdict == "warning"
    assert text.endswith("; the package dask-jobqueue is missing")
    assert "pip install '.[slurm]'" in remedy


def test_a_slurm_that_does_not_answer_is_a_warning(programs):
    programs("sinfo", "echo 'sinfo: error: no controller' >&2; exit 1")
    assert finding(check_slurm) == ("warning", "`sinfo` failed: sinfo: error: no controller", "")


def test_doctor_as_json_is_json_alone(volflow, monkeypatch):
    result = volflow("doctor", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["ok"] is True
    assert {"python", "gpu", "slurm"} <= {each["subject"] for each in document["findings"]}
    assert all(set(f) == {"subject", "verdict", "text", "remedy"} for f in document["findings"])


def test_a_quiet_doctor_names_problems_only(volflow, monkeypatch):
    assert "python" not in volflow("doctor", "-q").output
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "1.0.1" if name == "zfpy" else real(name)
    )
    assert "✗ zfpy" in volflow("doctor", "-q").output
