"""Workers that are Slurm jobs: the script of a job, and the cluster of a pool.

    driver ── scheduler of pool `gpu` ── job ── worker ── child
           └─ scheduler of pool `cpu` ── job ── workers ── children
                                      └─ job ── ...

The jobs are dask-jobqueue's; that one which ends before its time is replaced is ours (`keeper`).
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import logging
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volflow.engine.executors import tls
from volflow.engine.executors.ports import free_port
from volflow.engine.executors.profile import Pool, Profile
from volflow.engine.executors.slurm.worker_preload import PER_JOB
from volflow.engine.executors.units import time_text
from volflow.errors import ClusterError, PlanError
from volflow.io.address import Address

ORPHANED = 60  # seconds after which a worker ends itself when it does not reach its driver


@dataclass(frozen=True)
class Place:
    """Where driver and nodes meet: a folder that all of them see."""

    run: str
    shared: Path
    """Keys lie below it."""
    logs: Path

    @classmethod
    def of(cls, profile: Profile, run: str) -> Place:
        """The place of a run.

        Raises
        ------
        PlanError
            If the run is in an object store, and the profile names no folder.
        """
        shared = Address.parse(run).local
        if shared is None:
            if profile.shared is None:
                raise PlanError(
                    f"{profile.where.file}: shared: missing; the run is in {run}, so expected a "
                    f"folder that driver and nodes see, for keys and logs"
                )
            shared = Path(profile.shared).expanduser().absolute() / f"volflow-{label(run)}"
        logs = Path(profile.logs).expanduser().absolute() if profile.logs else shared / "logs"
        return cls(run, shared, logs)

    @property
    def keys(self) -> Path:
        """Where the certificates of this run lie."""
        return self.shared / tls.KEYS


def label(run: str) -> str:
    """Few letters that stand for a run in the names of its jobs."""
    return hashlib.sha256(f"{getpass.getuser()} {run}".encode()).hexdigest()[:8]


def job_name(name: str, run: str) -> str:
    """The name of the jobs of a pool."""
    return f"volflow-{name}-{label(run)}"


def require_jobqueue() -> None:
    """dask-jobqueue can be imported.

    Importing it makes an interrupt end the process at once (its `runner` sets a handler); ours,
    which leaves a run that resumes, is put back.

    Raises
    ------
    PlanError
        If not; it says what to install.
    """
    interrupted = signal.getsignal(signal.SIGINT)
    try:
        import dask_jobqueue  # noqa: F401
    except ImportError as error:
        raise PlanError(
            "cluster 'slurm': dask-jobqueue is not installed; pip install '.[slurm]'"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():  # others cannot, nor need to
            signal.signal(signal.SIGINT, interrupted)


def prologue(pool: Pool, place: Place) -> list[str]:
    """Lines of a job's script before its worker starts."""
    lines = [f"module load {shlex.quote(module)}" for module in pool.modules]
    if pool.conda:
        lines += ['eval "$(conda shell.bash hook)"', f"conda activate {shlex.quote(pool.conda)}"]
    if pool.per_job > 1:
        lines.append(f"export {PER_JOB}={pool.per_job}")
    for key, value in pool.environment.items():
        lines.append(f"export {key}={shlex.quote(value)}")
    lines += pool.prologue
    blind = (
        f"volflow: node $(hostname) does not see {place.shared}; a run of several machines has to "
        f"be in a folder that they share, or in an object store"
    )
    return [
        *lines,
        f'[ -e {shlex.quote(str(place.keys / tls.TOKEN))} ] || {{ echo "{blind}" >&2; exit 78; }}',
        f'VOLFLOW_SCRATCH=$(mktemp -d "{pool.scratch}/volflow-XXXXXXXX") || exit 73',
        "trap 'rm -rf \"$VOLFLOW_SCRATCH\"' EXIT",
        "trap 'exit 143' TERM",
    ]


def interpreter(pool: Pool) -> str:
    """What starts Python on a node."""
    if pool.container:
        return f"{pool.container} {pool.python or 'python'}"
    return pool.python or ("python" if pool.conda else sys.executable)


def job_options(name: str, profile: Profile, place: Place) -> dict[str, Any]:
    """What a job of a pool is asked for, as `dask_jobqueue.SLURMCluster` has it.

    Parameters
    ----------
    name : str
        Of the pool.
    profile : Profile
    place : Place
    """
    pool = profile.pools[name]
    directives = ["--no-requeue", *pool.directives]  # a job that ended is replaced by a new one
    if pool.qos:
        directives.insert(0, f"--qos={pool.qos}")
    if pool.resources:
        directives.insert(0, f"--gres={pool.resources}")
    arguments = ["--memory-limit", "0"]  # the child's memory is watched by its worker
    arguments += ["--lifetime", f"{pool.life}s", "--lifetime-stagger", f"{pool.spread}s"]
    arguments += ["--preload", "volflow.engine.executors.slurm.worker_preload", "--no-dashboard"]
    arguments += ["--dashboard-address", "127.0.0.1:0"]  # it serves metrics all the same
    if profile.ports:
        ports = f"{profile.ports[0]}:{profile.ports[1]}"
        arguments += ["--worker-port", ports, "--nanny-port", ports]
    return {
        "queue": pool.partition,
        "account": pool.account,
        "cores": pool.per_job,  # threads of Dask: one block at a time per worker
        "processes": pool.per_job,
        "memory": f"{pool.memory * pool.per_job}B",
        "job_cpu": pool.cores * pool.per_job,
        "job_mem": f"{-(-pool.memory * pool.per_job // 2**20)}M",
        "walltime": time_text(pool.walltime),
        "job_name": job_name(name, place.run),
        "log_directory": str(place.logs),
        "local_directory": '"$VOLFLOW_SCRATCH"',
        "death_timeout": ORPHANED,
        "python": interpreter(pool),
        "interface": profile.interface,
        "job_script_prologue": prologue(pool, place),
        "job_extra_directives": directives,
        "worker_extra_args": arguments,
    }


def scheduler_options(profile: Profile) -> dict[str, Any]:
    """Where the scheduler of a pool, which is a part of the driver, listens."""
    options: dict[str, Any] = {"dashboard_address": f"127.0.0.1:{profile.dashboard or 0}"}
    if profile.host:
        options["host"] = profile.host
    elif profile.interface:
        options["interface"] = profile.interface
    if profile.ports:
        options["port"] = free_port(profile.ports)
    return options


def job_script(name: str, profile: Profile, place: Place) -> str:
    """The script of a pool's jobs; nothing is started."""
    require_jobqueue()
    from dask_jobqueue.slurm import SLURMJob

    options = job_options(name, profile, place)
    options["log_directory"] = None  # it would be made
    files = profile.tls or tls.made_in(place.keys)
    job = SLURMJob(
        "tls://DRIVER:PORT",
        name=f"{name}-0",
        protocol="tls://",
        security=tls.given(files),
        **options,
    )
    header = str(job.job_header).splitlines()
    at = next(n for n, line in enumerate(header) if " -J " in line) + 1
    stem = f"{place.logs}/{options['job_name']}-%J"
    header[at:at] = [f"#SBATCH -e {stem}.err", f"#SBATCH -o {stem}.out"]
    job.job_header = "\n".join(header)
    return str(job.job_script())


def job_class() -> Any:
    """dask-jobqueue's job, which forgets to say that it was closed: then no cluster would close."""
    from dask_jobqueue.slurm import SLURMJob
    from distributed.core import Status

    class ClosedJob(SLURMJob):
        async def close(self) -> None:
            await super().close()
            self.status = Status.closed

    return ClosedJob


@contextlib.contextmanager
def slurm_cluster(name: str, profile: Profile, place: Place, security: Any) -> Iterator[Any]:
    """The cluster of a pool, without any jobs yet: a `dask_jobqueue.SLURMCluster`.

    Raises
    ------
    ClusterError
        If its scheduler cannot be started.
    """
    require_jobqueue()
    import dask
    from dask_jobqueue.slurm import SLURMCluster

    from volflow.engine.executors.local import SETTINGS, deaf_to_interrupts

    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(SETTINGS))
        with deaf_to_interrupts():
            try:
                cluster = SLURMCluster(
                    name=name,
                    job_cls=job_class(),
                    security=security,
                    protocol="tls://",
                    silence_logs=logging.CRITICAL,
                    scheduler_options=scheduler_options(profile),
                    **job_options(name, profile, place),
                )
            except (RuntimeError, OSError, ValueError) as error:
                raise ClusterError(
                    f"pool '{name}': no scheduler could be started: {error}"
                ) from error
        stack.enter_context(cluster)
        yield cluster
