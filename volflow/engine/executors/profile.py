"""Cluster profiles: which workers do the blocks, where they come from, how many and how long."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, PrivateAttr

from volflow.config.bundled import find_bundled
from volflow.config.checked_file import check, read_data
from volflow.config.keys import KeyPath
from volflow.config.overrides import Overridden
from volflow.config.problems import Problems, Where, closest
from volflow.config.spec import Name, Spec
from volflow.engine.executors.units import Duration, Memory
from volflow.errors import PlanError

KINDS = ("none", "local", "cuda", "slurm")
SCHEMES = ("tcp://", "tls://")
GENERAL = ("cluster", "timeout", "stall", "on_stall")
OF_KIND = {
    "none": GENERAL,
    "local": (*GENERAL, "workers", "dashboard"),
    "cuda": (*GENERAL, "workers", "dashboard"),
    "slurm": (
        *(*GENERAL, "pools", "dashboard", "interface", "host", "ports"),
        *("shared", "logs", "tls"),
    ),
    "address": (*GENERAL, "tls"),
}
"""The keys that a profile of a kind may have."""

OnStall: TypeAlias = Literal["say", "restart", "end"]
"""What is done when nothing is finished: say it; restart the workers at work; end the run."""

Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1)]


class Tls(Spec):
    """Files in PEM that prove who belongs to a cluster."""

    ca: str
    """Certificate of the authority that signed the others."""
    cert: str
    """Certificate of this side."""
    key: str
    """Private key of that certificate."""


class Pool(Spec):
    """A kind of worker. What is asked for is for one worker, unless it says otherwise."""

    workers: Count = 1
    """How many work at a time; one that dies is replaced."""
    per_job: Count = 1
    """Workers that one Slurm job holds, where a site gives whole nodes only."""
    cores: Count = 1
    memory: Memory
    """Such as 16 GB."""
    walltime: Duration
    """Of a job, such as '12:00:00'."""
    lifetime: Duration | None = None
    """When a worker ends itself; default: shortly before `walltime`."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gpus: Annotated[int, Field(ge=0)] = 0
    """Asked for as --gres=gpu:N unless `gres` says it otherwise."""
    gres: str | None = None
    """Of a whole job, as Slurm has it: gpu:a100:1."""
    directives: tuple[str, ...] = ()
    """More options of sbatch: --constraint=icelake."""
    modules: tuple[str, ...] = ()
    """Loaded before the worker starts."""
    prologue: tuple[str, ...] = ()
    """Lines of shell that are run before the worker starts."""
    conda: str | None = None
    """Environment (name or folder) that is activated."""
    container: str | None = None
    """What is put before the worker's command: apptainer exec --nv volflow.sif."""
    python: str | None = None
    """The workers' interpreter; default: the driver's own, or `python` in conda or a container."""
    environment: dict[str, str] = Field(default_factory=dict)
    scratch: str = "${TMPDIR:-/tmp}"
    """Folder on the node for what a worker leaves; emptied when the job ends."""

    @property
    def jobs(self) -> int:
        """How many jobs there are at a time."""
        return -(-self.workers // self.per_job)

    @property
    def margin(self) -> int:
        """Seconds by which lifetimes are kept away from the walltime."""
        return max(1, min(300, self.walltime // 10))

    @property
    def spread(self) -> int:
        """Seconds by which lifetimes differ at most, so that workers do not end all at once."""
        return min(self.margin, self.life // 4)

    @property
    def life(self) -> int:
        """Seconds after which a worker ends itself, give or take `spread`."""
        return self.lifetime or max(1, self.walltime - 2 * self.margin)

    @property
    def resources(self) -> str | None:
        """What --gres is given for a job."""
        return self.gres or (f"gpu:{self.gpus * self.per_job}" if self.gpus else None)


class Profile(Spec):
    """What a cluster profile says; the command line may change it."""

    cluster: str
    """`none` (this process), `local` (this machine), `cuda` (its GPUs), `slurm`, or tcp://HOST:PORT
    or tls://HOST:PORT of a Dask scheduler."""
    workers: Count | None = None
    """local, cuda: default one per core, fewer where memory is short, or one per GPU."""
    timeout: Annotated[float, Field(ge=0)] = 0.0
    """Seconds that one block may take; 0 is no limit."""
    stall: Annotated[float, Field(ge=0)] = 600.0
    """Seconds without any block done after which that is said; 0 is never."""
    on_stall: OnStall = "say"
    """What is done then: `say`, `restart` the workers that are at work, or `end` the run."""
    pools: dict[Name, Pool] = Field(default_factory=dict)
    """Slurm: kinds of workers by name; a step says which it wants, else it gets the first."""
    interface: str | None = None
    """Slurm: network interface of driver and nodes, such as ib0."""
    host: str | None = None
    """Slurm: name or address under which the nodes reach the driver; default: by `interface`."""
    ports: tuple[Port, Port] | None = None
    """Slurm: first and last port for driver and workers, where a firewall has holes."""
    dashboard: Port | None = None
    """Port of the dashboard on 127.0.0.1; default: any that is free."""
    shared: str | None = None
    """Slurm: a folder that driver and nodes see; default: the run's."""
    logs: str | None = None
    """Slurm: folder for the workers' logs; default: `logs` in the shared folder."""
    tls: Tls | None = None
    """Certificates; default: made for each run, except for an address."""

    _where: Where = PrivateAttr(default_factory=Where)

    @property
    def kind(self) -> str:
        """One of none, local, cuda, slurm and address."""
        return "address" if "://" in self.cluster else self.cluster

    @property
    def where(self) -> Where:
        """Where each part was written."""
        return self._where


def find_profile(
    text: str,
    workers: int | None = None,
    timeout: float | None = None,
    stall: float | None = None,
    on_stall: OnStall | None = None,
) -> Profile:
    """The profile that `--cluster` names.

    Parameters
    ----------
    text : str
        `none`, the address of a scheduler, a shipped profile (`local`) or a file.
    workers, timeout, stall, on_stall : optional
        What is given takes the place of what the profile says.

    Raises
    ------
    PlanError
        If there is no such profile, or it is not a right one; all mistakes are told.
    """
    if text == "none" or "://" in text:
        profile = from_data({"cluster": text}, Where("--cluster"))
    else:
        path = find_bundled(text, "deploy", "cluster profile")
        profile = checked(*read_data(path, Profile))
    if workers is not None and "workers" not in OF_KIND[profile.kind] and profile.kind != "none":
        raise PlanError(f"--workers {workers}: expected for local and cuda only; got {text}")
    given = {"timeout": timeout, "stall": stall, "on_stall": on_stall}
    given = {name: value for name, value in given.items() if value is not None}
    from_data({"cluster": "none", **given}, Where("asked for"))  # a script can ask for anything
    more = {} if workers is None else {"workers": workers}
    return profile.model_copy(update=given | more)


def from_data(data: Mapping[str, Any], where: Where) -> Profile:
    """The profile of plain data, such as options of the command line.

    Raises
    ------
    PlanError
        With all problems, each with its place.
    """
    target = Overridden(dict(data), dict(where.lines), dict(where.options))
    return checked(target, Problems(where))


def checked(target: Overridden, problems: Problems) -> Profile:
    """The profile that the data of a file describe.

    Raises
    ------
    PlanError
        With all problems, each with its place.
    """
    profile = check(target, Profile, problems).value
    if profile is not None:
        _check(profile, problems)
    problems.check()
    assert profile is not None
    profile._where = problems.where
    return profile


def _check(profile: Profile, problems: Problems) -> None:
    """What no key alone has wrong."""
    kind = profile.kind
    if kind not in OF_KIND or (kind == "address" and not profile.cluster.startswith(SCHEMES)):
        known = ", ".join(KINDS)
        problems.add(
            ("cluster",),
            f"there is no cluster '{profile.cluster}'{closest(profile.cluster, KINDS)} (known: "
            f"{known}, or the address of a Dask scheduler such as tls://10.0.0.5:8786)",
        )
        return
    for key in sorted(profile.model_fields_set - set(OF_KIND[kind])):
        what = "an address" if kind == "address" else f"cluster '{kind}'"
        problems.add((key,), f"{what} has no such key (it has: {', '.join(OF_KIND[kind])})")
    if kind == "slurm" and not profile.pools:
        problems.add(("pools",), "expected at least one pool, with its memory and walltime")
    if profile.ports and profile.ports[0] > profile.ports[1]:
        problems.add(("ports",), f"expected the first port and the last; got {list(profile.ports)}")
    for name, pool in profile.pools.items():
        _check_pool(pool, ("pools", name), problems)
    for key, file in (profile.tls.model_dump() if profile.tls else {}).items():
        if not os.path.isfile(os.path.expanduser(file)):
            problems.add(("tls", key), f"there is no file {file}")
    if kind == "address" and profile.cluster.startswith("tls://") and not profile.tls:
        problems.add(("cluster",), _NO_TLS)


_NO_TLS = (
    "a tls:// address needs certificates; write a profile with `cluster: tls://HOST:PORT` and "
    "`tls: {ca: FILE, cert: FILE, key: FILE}`"
)


def _check_pool(pool: Pool, base: KeyPath, problems: Problems) -> None:
    if pool.life + pool.margin > pool.walltime:
        problems.add(
            (*base, "lifetime"),
            f"expected at most {pool.walltime - pool.margin} s, which leaves {pool.margin} s of "
            f"the walltime to end in; got {pool.life} s",
        )
    if pool.workers % pool.per_job:
        problems.add(
            (*base, "workers"),
            f"expected a multiple of per_job, {pool.per_job}; got {pool.workers}",
        )
    wrong = [line for line in pool.directives if not line.startswith("-")]
    for line in wrong:
        problems.add(
            (*base, "directives"), f"expected options such as --constraint=X; got {line!r}"
        )
    if pool.conda and pool.container:
        problems.add((*base, "container"), "expected a container or conda, not both")
