"""Certificates, workers and GPUs of clusters, and the jobs of a pool."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import subprocess
import sys
import types
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.engine.runs import expected_index, files, layer, planned, toy
from tests.integration.witness import accounts
from volflow.engine.driver import execute, prepare
from volflow.engine.executors import cuda as gpus
from volflow.engine.executors import remote_scheduler, tls
from volflow.engine.executors.base import ExecutorRequest, PhaseRequirement
from volflow.engine.executors.connect import connect
from volflow.engine.executors.profile import Profile
from volflow.engine.executors.slurm.job_replacement import (
    FAILED_STARTS_ALLOWED,
    JobReplacer,
    log_tail,
)
from volflow.engine.executors.slurm.pools import SlurmExecutor
from volflow.engine.monitor.observer import RunObserver
from volflow.errors import ClusterError
from volflow.io.run.leftovers import KEYS


class Noting(RunObserver):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


# --- keys ----------------------------------------------------------------------------------------


def test_only_this_user_can_read_the_keys_and_they_are_removed(tmp_path):
    left = tmp_path / KEYS
    left.mkdir()
    (left / "key").write_text("of a killed driver")
    with tls.security_in(tmp_path) as security:
        assert security.require_encryption
        assert stat.S_IMODE(left.stat().st_mode) == 0o700
        keys = {path.name: stat.S_IMODE(path.stat().st_mode) for path in left.iterdir()}
        assert {keys[name] for name in ("ca", "cert", "key")} == {0o600}
        assert "PRIVATE KEY" in (left / "key").read_text()
    assert not left.exists()


def test_keys_of_a_driver_that_took_over_stay_when_the_first_one_ends(tmp_path):
    with tls.security_in(tmp_path):
        second = contextlib.ExitStack()
        second.enter_context(tls.security_in(tmp_path))
        own = files(tmp_path / KEYS)
    assert files(tmp_path / KEYS) == own
    assert len(own) == 4
    second.close()
    assert not (tmp_path / KEYS).exists()


def test_keys_are_removed_when_a_run_fails(tmp_path):
    with pytest.raises(RuntimeError), tls.security_in(tmp_path):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


# --- workers of this machine ---------------------------------------------------------------------

SCRIPT = """
import volflow

print("here")
small = ["bounds=0:32,0:32,0:32", "block=[16, 32, 32]", "run=out"]
print(volflow.run("synth", overrides=small, cluster="local", workers=2).ok)
"""


@pytest.mark.cluster
def test_workers_do_not_run_the_script_that_starts_them(tmp_path):
    """It need not guard its call by `if __name__ == "__main__"`."""
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("here\nTrue\n", 0), done.stderr


# --- a scheduler that runs elsewhere -------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Certificates of a cluster, in files."""
    folder = tmp_path_factory.mktemp("keys")
    return tls.make_certificate(folder)


@pytest.fixture(scope="module")
def scheduler(keys):
    """The address of a scheduler with TLS and one worker."""
    import dask
    from distributed import LocalCluster

    from volflow.engine.executors.local import SETTINGS

    with (
        dask.config.set(SETTINGS),
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            host="127.0.0.1",
            protocol="tls://",
            security=tls.security_of(keys),
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            silence_logs=50,
        ) as hosts,
    ):
        yield hosts.scheduler_address


def profile_of(address: str, keys: tls.Tls) -> Profile:
    return Profile(cluster=address, tls=keys)


@pytest.mark.cluster
def test_a_scheduler_elsewhere_does_the_blocks(scheduler, keys, tmp_path):
    assert scheduler.startswith("tls://127.0.0.1:")
    plan = planned(tmp_path / "run", toy("Index"))
    assert execute(plan, cluster=profile_of(scheduler, keys)).ok
    assert (layer(tmp_path / "run", "index") == expected_index()).all()
    assert not [name for name in os.listdir(tmp_path / "run") if name.startswith(".volflow")]


@pytest.mark.cluster
def test_a_client_without_the_certificate_is_refused(scheduler, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    strangers = tls.make_certificate(other)
    with (
        pytest.raises(ClusterError, match="the certificates that it knows"),
        connect(profile_of(scheduler, strangers)),
    ):
        pass


@pytest.mark.cluster
def test_workers_that_do_not_see_the_run_are_reported(scheduler, keys, tmp_path, monkeypatch):
    monkeypatch.setattr(
        remote_scheduler, "version_and_sight", lambda token: (remote_scheduler.__version__, False)
    )
    plan = planned(tmp_path / "run", toy("Index"))
    with pytest.raises(
        ClusterError, match=r"1 of 1 workers cannot.*run does not exist there.*share"
    ):
        execute(plan, cluster=profile_of(scheduler, keys))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (("0.0.0", True), "volflow 0.0.0 is installed there; expected"),
        ((remote_scheduler.__version__, False), "the folder RUN does not exist there"),
        (ModuleNotFoundError("no volflow"), "cannot be imported there"),
        ((remote_scheduler.__version__, True), ""),
    ],
)
def test_the_problem_of_a_worker_is_described(answer, message):
    problem = remote_scheduler._problem(answer, "RUN")
    assert message in problem
    assert bool(problem) == bool(message)


def test_an_address_without_a_listener_is_reported_in_seconds():
    with pytest.raises(ClusterError, match=r"tcp://127\.0\.0\.1:9: no answer"):
        remote_scheduler.require_listener("tcp://127.0.0.1:9")
    with pytest.raises(ClusterError, match="no answer"), connect("tcp://127.0.0.1:9"):
        pass


# --- GPUs ----------------------------------------------------------------------------------------


def test_gpus_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-ab")
    assert gpus.visible_gpus() == ["3", "GPU-ab"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert gpus.visible_gpus() == []


@pytest.mark.cluster
def test_each_worker_sees_one_gpu_and_so_do_its_blocks(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    observer, seen, run = Noting(), tmp_path / "seen", str(tmp_path / "run")
    seen.mkdir()
    settings = {"folder": str(seen), "together": 2}
    witness = {"use": "tests.integration.witness:Witness", "name": "seen", "with": settings}
    step = planned(run, witness).steps[0]
    prepare(run, step)
    outcomes = []
    with connect(Profile(cluster="cuda"), notify=observer.note) as executor:
        executor.run(step.jobs[0], [(0, 48)], outcomes.append)
        assert executor.workers() == ["worker-0", "worker-1"]
        addresses = executor.client.scheduler_info()["workers"]
        assert all(address.startswith("tls://127.0.0.1") for address in addresses)
    assert sum(outcome.done for outcome in outcomes) == 48
    assert sorted(each["CUDA_VISIBLE_DEVICES"] for each in accounts(seen)) == ["5", "7"]
    assert "GPUs 5, 7" in observer.notes


class Pinned:
    """The plugin of dask-cuda that pins a worker to some cores."""

    def __init__(self, cores):
        self.cores = cores


def fake_dask_cuda(monkeypatch, affinity):
    """An installed dask-cuda, which knows the cores of a GPU by `affinity`."""
    modules = {
        "dask_cuda": types.ModuleType("dask_cuda"),
        "dask_cuda.utils": types.SimpleNamespace(get_cpu_affinity=affinity),
        "dask_cuda.plugins": types.SimpleNamespace(CPUAffinity=Pinned),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def test_with_dask_cuda_a_worker_is_pinned_to_the_cores_near_its_gpu(monkeypatch):
    usable = sorted(os.sched_getaffinity(0))
    near = {3: [usable[0], 10**6], "GPU-ab": [usable[-1]]}
    fake_dask_cuda(monkeypatch, near.__getitem__)
    for gpu, cores in (("3", usable[:1]), ("GPU-ab", usable[-1:])):
        options = gpus._options_of(gpu)
        assert options["env"] == {"CUDA_VISIBLE_DEVICES": gpu}
        assert [plugin.cores for plugin in options["plugins"]] == [cores]


def test_without_dask_cuda_or_where_it_knows_no_cores_workers_run_anywhere(monkeypatch):
    plain = {"env": {"CUDA_VISIBLE_DEVICES": "3"}}
    monkeypatch.setitem(sys.modules, "dask_cuda", None)
    assert gpus._options_of("3") == plain

    def broken(device):
        raise OSError("no NVML")

    fake_dask_cuda(monkeypatch, broken)
    assert gpus._options_of("3") == plain


def test_without_a_gpu_the_processors_work(monkeypatch, caplog):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(gpus.local, "local_cluster", lambda count, dashboard: nullcontext(count))
    with gpus.gpu_cluster(Profile(cluster="cuda"), 3, None, print) as count:
        assert count == 3
    assert "no GPU on this machine; running on its processors" in caplog.text


# --- pools ---------------------------------------------------------------------------------------


def test_a_pool_is_open_while_steps_want_it(tmp_path, monkeypatch):
    log = []

    class Executor:
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, job, todo, report) -> None:
            log.append(f"{job.step} by {self.name}")

    def opened(pools, name):
        log.append(f"open {name}")
        pools._open[name] = types.SimpleNamespace(close=lambda: log.append(f"close {name}"))
        return Executor(name)

    monkeypatch.setattr(SlurmExecutor, "_opened", opened)
    pool = {"memory": "1 GB", "walltime": "01:00:00"}
    site = Profile.model_validate({"cluster": "slurm", "pools": {"cpu": pool, "gpu": pool}})
    wanted = {"a": "cpu", "b": "gpu", "c": "gpu", "d": "fat", "e": "cpu"}
    needs = [PhaseRequirement(0, 1, step, name) for step, name in wanted.items()]
    request = ExecutorRequest(run=str(tmp_path), requirements=tuple(needs))
    with SlurmExecutor(site, request) as pools:
        for step in "abce":  # d was done before
            pools.run(types.SimpleNamespace(step=step), [], lambda outcome: None)
    assert log == [
        *("open cpu", "a by cpu", "open gpu", "b by gpu", "c by gpu", "close gpu", "e by cpu"),
        "close cpu",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


class Hosts:
    """The part of a cluster that a replacer uses, with the jobs that a test gives it."""

    def __init__(self) -> None:
        self.worker_spec: dict[str, dict] = {}
        self.workers: dict[str, types.SimpleNamespace] = {}
        self.scheduler = types.SimpleNamespace(workers={}, remove_worker=self._remove)
        self.submitted = 0
        self.removed: list[str] = []

    def new_worker_spec(self):
        return {f"cpu-{len(self.worker_spec)}": {}}

    async def _correct_state(self):
        for name in set(self.worker_spec) - set(self.workers):
            self.submitted += 1
            self.workers[name] = types.SimpleNamespace(
                job_id=str(self.submitted), close=self._close_job
            )

    async def _close_job(self):
        pass

    async def _remove(self, address, stimulus_id):
        self.removed.append(address)
        del self.scheduler.workers[address]

    def join(self, name: str) -> None:
        self.scheduler.workers[f"tls://{name}"] = types.SimpleNamespace(
            name=name, address=f"tls://{name}"
        )


def remaining(tmp_path: Path, jobs: int) -> tuple[JobReplacer, Hosts, dict[str, tuple[str, str]]]:
    hosts = Hosts()
    replacer = JobReplacer(hosts, "cpu", jobs, tmp_path)
    known: dict[str, tuple[str, str]] = {}

    async def states():
        return dict(known)

    replacer._states = states
    return replacer, hosts, known


def step(replacer: JobReplacer) -> None:
    async def once() -> None:
        await replacer._remove_ended()
        await replacer._submit_missing()

    asyncio.run(once())


def test_a_job_that_slurm_no_longer_has_is_replaced(tmp_path):
    replacer, hosts, known = remaining(tmp_path, 3)
    step(replacer)
    assert hosts.submitted == 3
    known.update(dict.fromkeys("123", ("RUNNING", "None")))
    for name in hosts.workers:
        hosts.join(name)
    step(replacer)
    assert hosts.submitted == 3
    gone = next(name for name, job in hosts.workers.items() if job.job_id == "2")
    del known["2"]  # its worker did not close
    step(replacer)
    assert hosts.removed == [f"tls://{gone}"]
    assert hosts.submitted == 4
    assert hosts.workers[gone].job_id == "4"
    assert replacer.failure == ""


def test_jobs_that_never_start_a_worker_are_given_up(tmp_path):
    replacer, hosts, _ = remaining(tmp_path, 1)
    (tmp_path / f"volflow-cpu-ab-{FAILED_STARTS_ALLOWED}.err").write_text(
        "noise\nvolflow: no such disk\nlogs: "
    )
    for number in range(FAILED_STARTS_ALLOWED):
        assert replacer.failure == ""
        step(replacer)
        assert hosts.submitted == number + 1
    step(replacer)
    with pytest.raises(
        ClusterError,
        match=r"(?s)pool 'cpu': 3 jobs in a row ended.*\n  volflow: no such disk\nlogs: ",
    ):
        replacer.check()
    step(replacer)
    assert hosts.submitted == FAILED_STARTS_ALLOWED  # and no more


def test_one_working_job_resets_the_count_of_failed_ones(tmp_path):
    replacer, hosts, known = remaining(tmp_path, 2)
    for _ in range(3 * FAILED_STARTS_ALLOWED):
        step(replacer)
        known.clear()
        first = hosts.workers["cpu-0"].job_id
        known[first] = ("RUNNING", "None")
        if "tls://cpu-0" not in hosts.scheduler.workers:
            hosts.join("cpu-0")
    assert hosts.submitted > FAILED_STARTS_ALLOWED
    hosts.scheduler.workers.clear()
    known.clear()
    step(replacer)  # all are gone at once: a bad hour, not a bad profile
    assert replacer.failure == ""


def test_waiting_jobs_are_reported_with_slurms_reason(tmp_path):
    replacer, hosts, known = remaining(tmp_path, 3)
    step(replacer)
    known.update(dict.fromkeys("12", ("PENDING", "Priority")))
    known["3"] = ("RUNNING", "None")
    step(replacer)
    assert replacer.queue == "2 wait (Priority), 1 running, workers start"
    assert hosts.submitted == 3


def test_a_slurm_that_does_not_answer_ends_no_job(tmp_path):
    replacer, hosts, _ = remaining(tmp_path, 2)
    step(replacer)

    async def silence():
        return None

    replacer._states = silence
    step(replacer)
    assert hosts.submitted == 2


def test_the_end_of_a_log_is_without_frames(tmp_path):
    log = tmp_path / "volflow-cpu-ab-7.err"
    log.write_text("Traceback (most recent call last):\n  File x\nOSError: no such disk\n")
    assert log_tail(tmp_path, "7") == "  OSError: no such disk"
    assert log_tail(tmp_path, "8") == "  empty"
