"""The requests of a profile reach the jobs of a real Slurm, and the blocks that are done there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.engine.runs import expected_index, planned, toy
from tests.integration.slurm_site import Noting, assert_nothing_left, profile
from tests.integration.witness import accounts
from tests.io.conftest import s3, s3_endpoint  # noqa: F401  (fixtures)
from volflow.config.pipeline import VolumeSpec
from volflow.engine.driver import execute
from volflow.engine.executors.preflight import preflight
from volflow.engine.executors.slurm.preflight import job_scripts
from volflow.engine.executors.slurm.run_folders import label
from volflow.engine.executors.slurm.worker_names import WorkerNames
from volflow.engine.monitor.history import history
from volflow.io.volume import Volume

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(1800)]

MODULE = '() { export VOLFLOW_TEST_TRAIL="$VOLFLOW_TEST_TRAIL $1 $2"; }'
APPTAINER = """#!/bin/sh
echo "$1 $2 $3" >> {folder}/containers
shift 3
VOLFLOW_TEST_TRAIL="$VOLFLOW_TEST_TRAIL container" exec "$@"
"""
CONDA = """#!/bin/sh
[ "$*" = "shell.bash hook" ] && echo 'conda() { PATH="$2/bin:$PATH"; }'
"""
PYTHON = """#!/bin/sh
VOLFLOW_TEST_TRAIL="$VOLFLOW_TEST_TRAIL {name}" exec {python} "$@"
"""


def command(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of modules, conda and containers, as far as a job would notice."""
    command(tmp_path / "bin" / "apptainer", APPTAINER.format(folder=tmp_path))
    command(tmp_path / "bin" / "conda", CONDA)
    for name in ("mine", "venv"):
        text = PYTHON.format(name=name, python=sys.executable)
        command(tmp_path / name / "bin" / "python", text)
    (tmp_path / "venv" / "bin" / "activate").write_text(f'PATH="{tmp_path}/venv/bin:$PATH"\n')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    monkeypatch.setenv("BASH_FUNC_module%%", MODULE)
    return tmp_path


@pytest.fixture
def joined(monkeypatch):
    """The workers that joined, as messages name them."""
    actual = []

    def joins(roster, address, name):
        real(roster, address, name)
        actual.append(roster.label(address))

    real = WorkerNames.add
    monkeypatch.setattr(WorkerNames, "add", joins)
    return actual


def test_environment_gpus_and_a_run_in_an_object_store(slurm, site, joined, s3):  # noqa: F811
    run, reported = f"{s3}/slurm_site", {name: site / name for name in ("on_cpu", "on_gpu")}
    for folder in reported.values():
        folder.mkdir()
    gpu = {
        **{"workers": 2, "per_job": 2, "gpus": 1, "directives": ["--comment=test"]},
        **{"modules": ["cuda/12.4"], "prologue": [f". {site}/venv/bin/activate"]},
        **{"container": "apptainer exec --nv volflow.sif"},
    }
    cpu = {"workers": 1, "conda": str(site / "mine"), "environment": {"VOLFLOW_TEST_TRAIL": "set"}}
    chosen = profile(site, cpu=cpu, gpu=gpu, shared=str(site / "shared"))
    use = "tests.integration.witness:Witness"
    by_two = {"folder": str(reported["on_gpu"]), "together": 2}
    by_one = {"folder": str(reported["on_cpu"])}
    plan = planned(
        run,
        {"use": use, "name": "on_gpu", "pool": "gpu", "with": by_two},
        {"use": use, "name": "on_cpu", "with": by_one, "block": [16, 16, 16]},
        toy("Index"),
    )
    preflight(plan, chosen)
    asked = job_scripts(plan, chosen)["gpu"]
    assert "\n#SBATCH --gres=gpu:2\n" in asked
    assert "\n#SBATCH --comment=test\n" in asked
    observer = Noting()
    assert execute(plan, cluster=chosen, observer=observer).ok

    first, second = accounts(reported["on_gpu"])
    assert {first["CUDA_VISIBLE_DEVICES"], second["CUDA_VISIBLE_DEVICES"]} == {"0", "1"}
    assert first["SLURM_JOB_ID"] == second["SLURM_JOB_ID"]
    assert first["parent"] != second["parent"]
    assert first["SLURM_JOB_PARTITION"] == "gpu"
    assert first["VOLFLOW_TEST_TRAIL"].split() == ["load", "cuda/12.4", "container", "venv"]
    assert (site / "containers").read_text() == "exec --nv volflow.sif\n"
    (alone,) = accounts(reported["on_cpu"])
    assert alone["SLURM_JOB_PARTITION"] == "cpu"
    assert alone["VOLFLOW_TEST_TRAIL"].split() == ["set", "mine"]

    job, other = first["SLURM_JOB_ID"], alone["SLURM_JOB_ID"]
    names = {f"gpu-0-0 (job {job})", f"gpu-0-1 (job {job})", f"cpu-0 (job {other})"}
    assert set(joined) == names
    assert observer.lost == []  # they were dismissed
    assert "pool 'gpu': closed; no later step needs it" in observer.notes
    assert history(run)["lost"] == 0
    logs = site / "shared" / f"volflow-{label(run)}" / "logs"
    assert f"the workers' logs are in {logs}" in observer.notes
    assert len(list(logs.glob("volflow-*.err"))) == 2
    volume = Volume.open(VolumeSpec(path=f"precomputed://{run}/index"), own=True)
    assert (volume.read(volume.bounds) == expected_index()).all()
    assert_nothing_left(site / "shared")
