"""Problems of a cluster profile are reported before anything starts."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.runs import planned, toy
from volflow.config.bundled import bundled
from volflow.engine.executors.preflight import preflight
from volflow.engine.executors.profile import Profile, find_profile
from volflow.engine.executors.slurm.partitions import limit_seconds, read_site
from volflow.engine.executors.slurm.pool import Pool
from volflow.engine.executors.slurm.preflight import job_scripts
from volflow.engine.executors.slurm.units import parse_memory, parse_time, time_text
from volflow.engine.executors.slurm.worker_preload import PER_JOB, select_gpu
from volflow.engine.job import Plan
from volflow.errors import PlanError

DOCS = Path(__file__).parents[3] / "docs"
POOL = "{workers: 2, memory: 1 GB, walltime: '01:00:00'"
SINFO = """cpu*|2-00:00:00|(null)|16|64000
cpu*|2-00:00:00|(null)|32|128000
gpu|12:00:00|gpu:a100:4(S:0-1)|32|256000
short|5:00|(null)|4|8000
"""


def slurm(pool: str = "", **top: str) -> str:
    """The text of a profile: line 2 on are the keys given, the pool `cpu` is the last line."""
    keys = "".join(f"{key}: {value}\n" for key, value in top.items())
    return f"cluster: slurm\n{keys}pools:\n  cpu: {POOL}{pool}}}\n"


def written(folder, text: str) -> str:
    path = folder / "site.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("cluster: slurm\npols: {}\n", ":2: pols: ", "unknown key 'pols'; did you mean 'pools'?"),
        (slurm(", partion: cpu"), ":3: pools.cpu.partion: ", "did you mean 'partition'?"),
        ("cluster: slrum\n", ":1: cluster: ", "no cluster 'slrum'; did you mean 'slurm'?"),
        ("workers: 2\n", ":1: cluster: ", "missing, and has no default"),
        ("cluster: local\nworkers: 0\n", ":2: workers: ", "expected greater than or equal to 1"),
        (slurm().replace("workers: 2", "workers: 0"), ":3: pools.cpu.workers: ", "got 0"),
        (slurm().replace("'01:00:00'", "'30:00'"), ":3: pools.cpu.walltime: ", "such as '04:00"),
        (slurm().replace("'01:00:00'", "12:00:00"), ":3: pools.cpu.walltime: ", "got 43200"),
        (slurm().replace("'01:00:00'", "'01:99:00'"), ":3: pools.cpu.walltime: ", "'01:99:00'"),
        (slurm().replace("1 GB", "1000"), ":3: pools.cpu.memory: ", "expected an amount of memory"),
        (slurm().replace("1 GB", "0 GB"), ":3: pools.cpu.memory: ", "with its unit"),
        (slurm().replace("memory: 1 GB, ", ""), ":3: pools.cpu.memory: ", "missing"),
        (slurm(", lifetime: '00:59:00'"), ":3: pools.cpu.lifetime: ", "at most 3300 s"),
        (slurm(", per_job: 3"), ":3: pools.cpu.workers: ", "a multiple of per_job, 3; got 2"),
        (slurm(", directives: [mem=5G]"), ":3: pools.cpu.directives: ", "such as --constraint=X"),
        (slurm(", conda: a, container: b"), ":3: pools.cpu.container: ", "not both"),
        ("cluster: slurm\n", ":1: pools: ", "expected at least one pool"),
        ("cluster: local\npools: {}\n", ":2: pools: ", "'local' has no such key"),
        (slurm(ports="[30, 20]"), ":2: ports: ", "the first port and the last; got [30, 20]"),
        (slurm(dashboard="80000"), ":2: dashboard: ", "expected less than or equal to 65535"),
        ("cluster: tls://h:1\n", ":1: cluster: ", "needs certificates; write a profile with"),
        ("cluster: udp://h:1\n", ":1: cluster: ", "there is no cluster 'udp://h:1'"),
        (
            "cluster: tls://h:1\ntls: {ca: none, cert: none, key: none}\n",
            ":2: tls.key: ",
            "there is no file none",
        ),
        ("cluster: slurm\ncluster: local\n", ":2: cluster: ", "duplicate key"),
        ("cluster: [\n", ":2: ", "this is not YAML"),
        ("- slurm\n", ":1: ", "expected keys and values"),
        ("cluster: !!python/name:os.system\n", ":1: cluster: ", "expected a plain value"),
    ],
)
def test_a_problem_of_a_profile_is_reported_with_its_line(tmp_path, text, place, message):
    path = written(tmp_path, text)
    with pytest.raises(PlanError) as caught:
        find_profile(path)
    sentences = [each for each in caught.value.problems if each.startswith(f"{path}{place}")]
    assert sentences, caught.value.problems
    assert any(message in each for each in sentences), sentences


def test_all_problems_of_a_profile_are_reported_together(tmp_path):
    text = slurm(", partion: x").replace("1 GB", "big").replace("'01:00:00'", "soon")
    with pytest.raises(PlanError) as caught:
        find_profile(written(tmp_path, text))
    assert len(caught.value.problems) == 3


def test_workers_on_the_command_line_are_for_this_machine(tmp_path):
    with pytest.raises(PlanError, match="--workers 3: expected for local and cuda only"):
        find_profile(written(tmp_path, slurm()), workers=3)


def test_the_bundled_profiles_are_right():
    names = {"local", "cuda", "slurm"}
    assert names <= set(bundled("deploy"))
    assert {find_profile(name).kind for name in names} == names


# --- against the site ----------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Commands of a Slurm that takes every job."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scancel", "sinfo"):
        program(
            folder,
            name,
            f"/bin/cat <<'EOF'\n{SINFO}EOF" if name == "sinfo" else "/bin/cat >/dev/null",
        )
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def checked(folder, text: str, plan: Plan | None = None) -> list[str]:
    """Problems that a preflight finds in a profile."""
    profile = find_profile(written(folder, text))
    plan = plan or planned(folder / "run", toy("Index"))
    try:
        preflight(plan, profile)
    except PlanError as error:
        assert not (folder / "run").exists()
        return error.problems
    return []


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (slurm(", partition: cpuu"), "pools.cpu.partition", "no partition 'cpuu'; did you mean"),
        (slurm(", partition: short"), "pools.cpu.walltime", "'short' allows 00:05:00 at most"),
        (slurm(", gpus: 1"), "pools.cpu.gpus", "'cpu' have 0 at most; partitions that have: gpu"),
        (slurm(", partition: gpu, gpus: 8"), "pools.cpu.gpus", "a job of 8 GPUs; the nodes of"),
        (slurm(", partition: gpu, gres: gpu:v100:1"), "pools.cpu.gres", "no GPU 'v100' in 'gpu'"),
        (slurm().replace("1 GB", "500 GB"), "pools.cpu.memory", "a job of 500.00 GB; the nodes of"),
        (slurm(", cores: 64"), "pools.cpu.cores", "a job of 64 cores; the nodes of 'cpu' have 32"),
        (slurm(interface="ib9"), "interface", "no network interface 'ib9' on this machine"),
        (slurm(host="192.0.2.1"), "host", "is no name or address of this machine"),
        (slurm(", container: apptainer9 exec x"), "pools.cpu.container", "no command 'apptainer9'"),
        (slurm(", conda: mine"), "pools.cpu.conda", "no command 'conda'"),
        (slurm(", python: /no/python"), "pools.cpu.python", "there is no /no/python"),
    ],
)
def test_limits_of_the_site_are_reported(tmp_path, site, text, place, message):
    problems = checked(tmp_path, text)
    assert len(problems) == 1
    assert f": {place}: " in problems[0]
    assert message in problems[0]


def test_a_profile_that_fits_its_site_is_right_and_starts_nothing(tmp_path, site):
    text = slurm(", partition: gpu, gres: 'gpu:a100:2', per_job: 2", interface="lo")
    assert checked(tmp_path, text) == []
    assert not (tmp_path / "run").exists()


def test_modules_may_bring_the_container(tmp_path, site):
    assert checked(tmp_path, slurm(", container: apptainer9 exec x, modules: [apptainer]")) == []


def test_without_slurm_the_missing_commands_are_named(tmp_path, site):
    (site / "sbatch").unlink()
    problems = checked(tmp_path, slurm())
    assert len(problems) == 1
    assert "there is no sbatch here; expected a machine from which" in problems[0]


def test_a_slurm_that_does_not_answer_is_quoted(tmp_path, site):
    program(site, "sinfo", "echo 'slurm_load_partitions: Unable to contact controller' >&2; exit 1")
    problems = checked(tmp_path, slurm())
    assert len(problems) == 1
    assert "Slurm does not answer: slurm_load_partitions: Unable to contact" in problems[0]


def test_the_message_of_sbatch_about_an_account_is_quoted(tmp_path, site):
    program(
        site, "sbatch", "/bin/cat >/dev/null; echo 'sbatch: error: Invalid account' >&2; exit 1"
    )
    problems = checked(tmp_path, slurm(", account: guest"))
    assert len(problems) == 1
    assert "pools.cpu: Slurm does not accept its jobs: Invalid account" in problems[0]


def test_taken_ports_are_reported(tmp_path, site):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        problems = checked(tmp_path, slurm(dashboard=port, ports=f"[{port}, {port}]"))
        assert [each.partition(": ")[2].partition(":")[0] for each in problems] == [
            "dashboard",
            "ports",
        ]
        assert f"port {port} is taken on this machine" in problems[0]
        assert "0 free, the others taken" in problems[1]
        local = checked(tmp_path, f"cluster: local\ndashboard: {port}\n")
        assert f"port {port} is taken" in local[0]


def test_a_step_asks_for_a_pool_that_there_is(tmp_path, site):
    plan = planned(tmp_path / "run", toy("Index", pool="gpuu"))
    text = slurm() + f"  gpu: {POOL}, partition: gpu, gpus: 1}}\n"
    problems = checked(tmp_path, text, plan)
    assert len(problems) == 1
    assert "steps[0].pool: there is no pool 'gpuu'; did you mean 'gpu'?" in problems[0]
    assert "has: cpu, gpu" in problems[0]


def test_a_step_needs_no_more_memory_than_its_pool_has(tmp_path, site):
    problems = checked(tmp_path, slurm().replace("1 GB", "1 MB"))
    assert len(problems) == 1
    assert ": pools.cpu.memory: step 'index' needs about" in problems[0]


def test_a_run_in_an_object_store_needs_a_shared_folder(tmp_path, site):
    plan = planned(tmp_path / "run", toy("Index"))
    there = plan.pipeline.model_copy(update={"run": "s3://bucket/run"})
    plan = Plan(there, plan.bounds, plan.resolution, plan.steps)
    problems = checked(tmp_path, slurm(), plan)
    assert len(problems) == 1
    assert "shared: missing; the run is in s3://bucket/run" in problems[0]
    assert checked(tmp_path, slurm(shared=tmp_path), plan) == []


def test_an_interrupt_is_still_an_interrupt_with_dask_jobqueue():
    code = (
        "import signal\n"
        "from volflow.engine.executors.slurm.jobs import require_jobqueue\n"
        "require_jobqueue()\n"
        "import dask_jobqueue.runner\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    )
    pytest.importorskip("dask_jobqueue")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_missing_dask_jobqueue_is_reported(tmp_path, site, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    assert checked(tmp_path, slurm()) == [
        "cluster 'slurm': dask-jobqueue is not installed; pip install '.[slurm]'"
    ]


def test_a_job_requests_the_resources_of_its_pool(tmp_path, site):
    text = slurm(
        ", per_job: 2, cores: 4, partition: gpu, gpus: 1, account: lab, qos: long, "
        "modules: [cuda/12], container: apptainer exec x.sif, prologue: ['ulimit -n 99'], "
        "directives: [--constraint=a100], environment: {A: b c}"
    )
    profile = find_profile(written(tmp_path, text))
    plan = planned(tmp_path / "run", toy("Index"), toy("Double"))
    (program,) = job_scripts(plan, profile).values()
    lines = program.splitlines()
    for wanted in (
        "#SBATCH -p gpu",
        "#SBATCH -A lab",
        "#SBATCH --qos=long",
        "#SBATCH --gres=gpu:2",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --mem=1908M",
        "#SBATCH -t 01:00:00",
        "#SBATCH --constraint=a100",
        "#SBATCH --no-requeue",
        "module load cuda/12",
        "ulimit -n 99",
        "export A='b c'",
    ):
        assert lines.count(wanted) == 1, wanted
    command = lines[-1] or lines[-2]
    assert command.startswith("apptainer exec x.sif python -m distributed.cli.dask_worker tls://")
    assert "--nthreads 1 " in command
    assert "--nworkers 2" in command
    assert "--lifetime 3000s" in command
    assert f"--tls-key {tmp_path}/run/volflow-keys/key" in command
    assert not (tmp_path / "run").exists()


# --- laws ----------------------------------------------------------------------------------------


@given(st.integers(1, 10**7))
def test_a_time_is_read_back_as_it_was_written(seconds):
    assert parse_time(time_text(seconds)) == seconds
    assert limit_seconds(time_text(seconds)) == seconds


@given(st.integers(1, 10**6), st.sampled_from("KMGT"), st.sampled_from(["", "iB", "B", " B"]))
def test_memory_is_counted_in_its_unit(number, letter, rest):
    if rest == " B":
        with pytest.raises(ValueError, match="with its unit"):
            parse_memory(f"{number} {letter}{rest}")
        return
    base = 1000 if rest == "B" else 1024
    expected = number * base ** (1 + "KMGT".index(letter))
    assert parse_memory(f"{number}{letter}{rest}") == expected
    assert parse_memory(f" {number} {letter.lower()}{rest}") == expected


def test_a_limit_that_is_none_is_longer_than_any():
    assert limit_seconds("infinite") == limit_seconds("n/a") == float("inf")
    assert limit_seconds("5:00") == 300
    assert limit_seconds("30") == 30


def test_a_partition_has_what_the_best_of_its_nodes_has():
    site = read_site(SINFO)
    assert site.default == "cpu"
    assert (site.partitions["cpu"].cores, site.partitions["cpu"].memory) == (32, 128000 * 2**20)
    assert (site.partitions["gpu"].gpus, site.partitions["gpu"].gpu_types) == (4, {"a100"})


@given(st.integers(1, 8), st.integers(0, 99))
def test_workers_of_a_job_take_each_a_gpu_of_their_own(count, job):
    given = ",".join(f"GPU-{n}" for n in range(count))
    taken = []
    for number in range(count):
        environment = {"CUDA_VISIBLE_DEVICES": given, PER_JOB: str(count)}
        select_gpu(f"gpu-{job}-{number}", environment)
        taken.append(environment["CUDA_VISIBLE_DEVICES"])
    assert sorted(taken) == sorted(given.split(","))


def test_the_only_worker_of_a_job_keeps_its_gpus():
    environment = {"CUDA_VISIBLE_DEVICES": "0,1"}
    select_gpu("gpu-1", environment)
    assert environment == {"CUDA_VISIBLE_DEVICES": "0,1"}


def test_a_lifetime_ends_before_the_walltime_however_long_that_is():
    for hours in ("00:01:00", "00:30:00", "04:00:00", "7-00:00:00"):
        profile = Profile.model_validate(
            {"cluster": "slurm", "pools": {"cpu": {"memory": "1 GB", "walltime": hours}}}
        )
        pool = profile.pools["cpu"]
        assert pool.life + pool.spread < pool.walltime
        assert pool.life - pool.spread > pool.walltime // 2


# --- what the documentation shows ----------------------------------------------------------------


def test_the_profiles_of_the_documentation_are_right(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").mkdir()
    for name in ("ca", "cert", "key"):
        (tmp_path / "keys" / f"{name}.pem").touch()
    text = "".join(
        (DOCS / name).read_text() for name in ("clusters.md", "slurm.md", "kubernetes.md")
    )
    shown = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    kinds = [find_profile(written(tmp_path, text)).kind for text in shown if "cluster:" in text]
    assert kinds == ["slurm", "address"]
    (manifest,) = [text for text in shown if "apiVersion" in text]
    documents = list(yaml.safe_load_all(manifest))
    assert [each["kind"] for each in documents] == ["Service", "Deployment", "Deployment"]


def test_the_keys_of_the_documentation_are_all_there_are():
    page = (DOCS / "clusters.md").read_text() + (DOCS / "slurm.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", page, flags=re.MULTILINE)
    sentences = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert set(Profile.model_fields) | set(Pool.model_fields) <= sentences


@pytest.mark.parametrize("name", ["up.sh", "down.sh", "driver.sbatch"])
def test_the_scripts_are_bash(name):
    program = Path(__file__).parents[3] / "deploy" / "slurm" / name
    assert subprocess.run(["bash", "-n", program], check=False).returncode == 0


def test_the_profile_of_the_slurm_to_try_is_right():
    path = Path(__file__).parents[3] / "deploy" / "slurm" / "site.yaml"
    pools = find_profile(str(path)).pools
    assert {name: pool.resources for name, pool in pools.items()} == {"cpu": None, "gpu": "gpu:2"}


def test_what_the_dockerfile_names_is_there():
    root = Path(__file__).parents[3]
    text = (root / "deploy" / "Dockerfile").read_text()
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.*)", text, flags=re.MULTILINE)
        for source in line.split()[:-1]
    ]
    project = tomllib.loads((root / "pyproject.toml").read_text())
    hatch = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    wanted = [*hatch["packages"], *hatch["force-include"], *project["project"]["license-files"]]
    wanted += [project["project"][key] for key in ("readme",) if key in project["project"]]
    assert set(copied) == {"pyproject.toml", "constraints.txt", *wanted}
    assert all((root / source).exists() for source in copied)
    (extras,) = re.findall(r'"\.\[(.*)\]"', text)
    assert set(extras.split(",")) <= set(project["project"]["optional-dependencies"])
    assert set(re.findall(r'CMD \["(\w+)"', text)) == set(project["project"]["scripts"])
