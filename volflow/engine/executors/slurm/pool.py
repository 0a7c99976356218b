"""A pool of a cluster profile: one kind of worker, and the Slurm jobs it runs in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from volflow.config.spec import Spec
from volflow.engine.executors.slurm.units import Duration, Memory

Count = Annotated[int, Field(ge=1)]


class Pool(Spec):
    """A kind of worker. Resources are per worker, unless a key states otherwise."""

    workers: Count = 1
    """Number of workers at a time; a lost worker is replaced."""
    per_job: Count = 1
    """Workers per Slurm job, for sites that give out whole nodes only."""
    cores: Count = 1
    """Cores per worker."""
    memory: Memory
    """Memory per worker, such as 16 GB."""
    walltime: Duration
    """Wall time of a job, such as '12:00:00'."""
    lifetime: Duration | None = None
    """Time after which a worker ends itself; default: shortly before `walltime`."""
    partition: str | None = None
    """Slurm partition; default: the site's."""
    account: str | None = None
    """Slurm account to charge; default: the user's."""
    qos: str | None = None
    """Slurm quality of service; default: the site's."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs per worker; requested as --gres=gpu:N unless `gres` is given."""
    gres: str | None = None
    """Generic resources of a whole job, in Slurm's notation: gpu:a100:1."""
    directives: tuple[str, ...] = ()
    """Further options of sbatch: --constraint=icelake."""
    modules: tuple[str, ...] = ()
    """Environment modules to load before the worker starts."""
    prologue: tuple[str, ...] = ()
    """Lines of shell to run before the worker starts."""
    conda: str | None = None
    """Conda environment (name or folder) to activate."""
    container: str | None = None
    """Command that is put before the worker's: apptainer exec --nv volflow.sif."""
    python: str | None = None
    """The workers' interpreter; default: the driver's, or `python` in conda or a container."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Environment variables of the workers."""
    scratch: str = "${TMPDIR:-/tmp}"
    """Folder on the node for the workers' temporary files; they are removed with the job."""

    @property
    def jobs(self) -> int:
        """Number of jobs at a time."""
        return -(-self.workers // self.per_job)

    @property
    def margin(self) -> int:
        """Seconds that workers end before the wall time, at least."""
        return max(1, min(300, self.walltime // 10))

    @property
    def spread(self) -> int:
        """Seconds by which lifetimes differ at most, so that workers do not end all at once."""
        return min(self.margin, self.life // 4)

    @property
    def life(self) -> int:
        """Seconds after which a worker ends itself, plus or minus `spread`."""
        return self.lifetime or max(1, self.walltime - 2 * self.margin)

    @property
    def resources(self) -> str | None:
        """Value of --gres for a job."""
        return self.gres or (f"gpu:{self.gpus * self.per_job}" if self.gpus else None)

    @property
    def memory_for_blocks(self) -> int:
        """Bytes that the blocks of a worker may take: nine tenths of its memory."""
        return self.memory * 9 // 10


def pool_problems(pool: Pool) -> Iterator[tuple[str, str]]:
    """Contradictions between the keys of a pool: a key, and what is wrong with it."""
    if pool.life + pool.margin > pool.walltime:
        yield (
            "lifetime",
            f"expected at most {pool.walltime - pool.margin} s, which leaves {pool.margin} s of "
            f"the wall time to end in; got {pool.life} s",
        )
    if pool.workers % pool.per_job:
        yield "workers", f"expected a multiple of per_job, {pool.per_job}; got {pool.workers}"
    for line in pool.directives:
        if not line.startswith("-"):
            yield "directives", f"expected options such as --constraint=X; got {line!r}"
    if pool.conda and pool.container:
        yield "container", "expected a container or conda, not both"
