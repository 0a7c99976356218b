"""Workers in Slurm jobs: the script of a job, and the Dask cluster of a pool.

    driver ── scheduler of pool `gpu` ── job ── worker ── child
           └─ scheduler of pool `cpu` ── job ── workers ── children
                                      └─ job ── ...

dask-jobqueue submits the jobs; `job_replacement` replaces those that end early.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from volflow.engine.executors import tls
from volflow.engine.executors.local import SETTINGS, interrupts_blocked
from volflow.engine.executors.ports import free_port
from volflow.engine.executors.profile import Profile
from volflow.engine.executors.slurm.pool import Pool
from volflow.engine.executors.slurm.run_folders import RunFolders, label
from volflow.engine.executors.slurm.units import time_text
from volflow.engine.executors.slurm.worker_preload import PER_JOB
from volflow.errors import ClusterError, PlanError

ORPHANED = 60  # seconds after which a worker that cannot reach its driver ends itself
EXIT_BLIND, EXIT_NO_SCRATCH, EXIT_TERMINATED = 78, 73, 143


def job_name(pool: str, run: str) -> str:
    """Name of the jobs of a pool."""
    return f"volflow-{pool}-{label(run)}"


def require_jobqueue() -> None:
    """Check that dask-jobqueue can be imported.

    Its module `runner` sets a handler by which an interrupt ends the process at once; ours, which
    leaves a run that can be resumed, is put back.

    Raises
    ------
    PlanError
        If it is not installed.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        import dask_jobqueue  # noqa: F401
    except ImportError as error:
        raise PlanError(
            "cluster 'slurm': dask-jobqueue is not installed; pip install '.[slurm]'"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            signal.signal(signal.SIGINT, handler)


def prologue(pool: Pool, folders: RunFolders) -> list[str]:
    """Lines of a job's script before its worker starts."""
    lines = [f"module load {shlex.quote(module)}" for module in pool.modules]
    if pool.conda:
        lines += ['eval "$(conda shell.bash hook)"', f"conda activate {shlex.quote(pool.conda)}"]
    if pool.per_job > 1:
        lines.append(f"export {PER_JOB}={pool.per_job}")
    for key, value in pool.environment.items():
        lines.append(f"export {key}={shlex.quote(value)}")
    lines += pool.prologue
    token = shlex.quote(str(folders.keys / tls.TOKEN))
    blind = (
        f"volflow: node $(hostname) does not see {folders.shared}; for several machines put the "
        f"run into a folder that they share, or into an object store"
    )
    scratch = f'$(mktemp -d "{pool.scratch}/volflow-XXXXXXXX") || exit {EXIT_NO_SCRATCH}'
    return [
        *lines,
        f'[ -e {token} ] || {{ echo "{blind}" >&2; exit {EXIT_BLIND}; }}',
        f"VOLFLOW_SCRATCH={scratch}",
        "trap 'rm -rf \"$VOLFLOW_SCRATCH\"' EXIT",
        f"trap 'exit {EXIT_TERMINATED}' TERM",
    ]


def interpreter(pool: Pool) -> str:
    """Command that starts Python on a node."""
    if pool.container:
        return f"{pool.container} {pool.python or 'python'}"
    return pool.python or ("python" if pool.conda else sys.executable)


def job_options(name: str, profile: Profile, folders: RunFolders) -> dict[str, Any]:
    """Options of a pool's jobs, as `dask_jobqueue.SLURMCluster` takes them.

    Parameters
    ----------
    name : str
        Of the pool.
    profile : Profile
    folders : RunFolders
    """
    pool = profile.pools[name]
    directives = ["--no-requeue", *pool.directives]  # a job that ended is replaced by a new one
    if pool.qos:
        directives.insert(0, f"--qos={pool.qos}")
    if pool.resources:
        directives.insert(0, f"--gres={pool.resources}")
    arguments = ["--memory-limit", "0"]  # the worker limits the memory of its child process
    arguments += ["--lifetime", f"{pool.life}s", "--lifetime-stagger", f"{pool.spread}s"]
    arguments += ["--preload", "volflow.engine.executors.slurm.worker_preload", "--no-dashboard"]
    arguments += ["--dashboard-address", "127.0.0.1:0"]  # even so it serves metrics
    if profile.ports:
        ports = f"{profile.ports[0]}:{profile.ports[1]}"
        arguments += ["--worker-port", ports, "--nanny-port", ports]
    return {
        "queue": pool.partition,
        "account": pool.account,
        "cores": pool.per_job,  # threads of Dask: each worker runs one block at a time
        "processes": pool.per_job,
        "memory": f"{pool.memory * pool.per_job}B",
        "job_cpu": pool.cores * pool.per_job,
        "job_mem": f"{-(-pool.memory * pool.per_job // 2**20)}M",
        "walltime": time_text(pool.walltime),
        "job_name": job_name(name, folders.run),
        "log_directory": str(folders.logs),
        "local_directory": '"$VOLFLOW_SCRATCH"',
        "death_timeout": ORPHANED,
        "python": interpreter(pool),
        "interface": profile.interface,
        "job_script_prologue": prologue(pool, folders),
        "job_extra_directives": directives,
        "worker_extra_args": arguments,
    }


def scheduler_options(profile: Profile) -> dict[str, Any]:
    """Address and ports of a pool's scheduler, which runs in the driver's process."""
    options: dict[str, Any] = {"dashboard_address": f"127.0.0.1:{profile.dashboard or 0}"}
    if profile.host:
        options["host"] = profile.host
    elif profile.interface:
        options["interface"] = profile.interface
    if profile.ports:
        options["port"] = free_port(profile.ports)
    return options


def job_script(name: str, profile: Profile, folders: RunFolders) -> str:
    """Script of a pool's jobs; nothing is started."""
    require_jobqueue()
    from dask_jobqueue.slurm import SLURMJob

    options = job_options(name, profile, folders)
    options["log_directory"] = None  # else dask-jobqueue would make the folder
    certificate = profile.tls or tls.certificate_in(folders.keys)
    job = SLURMJob(
        "tls://DRIVER:PORT",
        name=f"{name}-0",
        protocol="tls://",
        security=tls.security_of(certificate),
        **options,
    )
    header = str(job.job_header).splitlines()
    at = next(n for n, line in enumerate(header) if " -J " in line) + 1
    stem = f"{folders.logs}/{options['job_name']}-%J"
    header[at:at] = [f"#SBATCH -e {stem}.err", f"#SBATCH -o {stem}.out"]
    job.job_header = "\n".join(header)
    return str(job.job_script())


def job_class() -> Any:
    """dask-jobqueue's job class with a status after closing, without which no cluster closes."""
    from dask_jobqueue.slurm import SLURMJob
    from distributed.core import Status

    class ClosedJob(SLURMJob):
        async def close(self) -> None:
            await super().close()
            self.status = Status.closed

    return ClosedJob


@contextlib.contextmanager
def slurm_cluster(name: str, profile: Profile, folders: RunFolders, security: Any) -> Iterator[Any]:
    """Yield the cluster of a pool, a `dask_jobqueue.SLURMCluster`, without any jobs yet.

    Raises
    ------
    ClusterError
        If its scheduler cannot be started.
    """
    require_jobqueue()
    import dask
    from dask_jobqueue.slurm import SLURMCluster

    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(SETTINGS))
        with interrupts_blocked():
            try:
                cluster = SLURMCluster(
                    name=name,
                    job_cls=job_class(),
                    security=security,
                    protocol="tls://",
                    silence_logs=logging.CRITICAL,
                    scheduler_options=scheduler_options(profile),
                    **job_options(name, profile, folders),
                )
            except (RuntimeError, OSError, ValueError) as error:
                raise ClusterError(
                    f"pool '{name}': its scheduler did not start: {error}"
                ) from error
        stack.enter_context(cluster)
        yield cluster
