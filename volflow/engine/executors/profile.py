"""Cluster profiles: the workers that run the blocks, their number, and time limits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, TypedDict, Unpack

from pydantic import BeforeValidator, Field, PrivateAttr

from volflow.config.bundled import bundled, find_bundled
from volflow.config.checked_file import check, read_data
from volflow.config.keys import KeyPath
from volflow.config.overrides import Overridden
from volflow.config.problems import Problems, Where, closest, dotted
from volflow.config.spec import Name, Spec
from volflow.engine.executors.slurm.pool import Count, Pool, pool_problems
from volflow.errors import PlanError

KINDS = ("none", "local", "cuda", "slurm")
SCHEMES = ("tcp://", "tls://")
GENERAL = ("cluster", "timeout", "stall", "on_stall")
KEYS_OF_KIND = {
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


def _renamed(value: object) -> object:
    """The present name of a reaction: older profiles have `say` for `report`."""
    return "report" if value == "say" else value


OnStall: TypeAlias = Literal["report", "restart", "end"]
"""Reaction to a stall: report it only, restart the busy workers as well, or end the run."""

Port = Annotated[int, Field(ge=1, le=65535)]


class ProfileOptions(TypedDict, total=False):
    """Values given with the name of a profile, in place of its own; None keeps the profile's."""

    workers: int | None
    timeout: float | None
    stall: float | None
    on_stall: OnStall | None


class Tls(Spec):
    """Files in PEM format that prove who belongs to a cluster."""

    ca: str
    """Certificate of the authority that signed the others."""
    cert: str
    """Certificate of this side."""
    key: str
    """Private key of that certificate."""


class Profile(Spec):
    """A cluster profile; options of the command line replace some of its keys."""

    cluster: str
    """`none` (this process), `local` (this machine), `cuda` (its GPUs), `slurm`, or tcp://HOST:PORT
    or tls://HOST:PORT of a Dask scheduler."""
    workers: Count | None = None
    """local, cuda: number of workers; default: one per core, fewer where memory is short, or one
    per GPU."""
    timeout: Annotated[float, Field(ge=0)] = 0.0
    """Time limit per block in seconds; 0: none."""
    stall: Annotated[float, Field(ge=0)] = 600.0
    """Stall timeout: seconds without a finished block after which the run counts as stalled; 0:
    never."""
    on_stall: Annotated[OnStall, BeforeValidator(_renamed)] = "report"
    """Reaction to a stall: `report` it, `restart` the busy workers as well, or `end` the run."""
    pools: dict[Name, Pool] = Field(default_factory=dict)
    """Slurm: kinds of workers by name; a step names its pool, or gets the first."""
    interface: str | None = None
    """Slurm: network interface of driver and nodes, such as ib0."""
    host: str | None = None
    """Slurm: name or address under which the nodes reach the driver; default: by `interface`."""
    ports: tuple[Port, Port] | None = None
    """Slurm: first and last port of driver and workers, for sites with a firewall."""
    dashboard: Port | None = None
    """Port of the dashboard on 127.0.0.1; default: any free one."""
    shared: str | None = None
    """Slurm: a folder that driver and nodes see; default: the run's."""
    logs: str | None = None
    """Slurm: folder of the workers' logs; default: `logs` in the shared folder."""
    tls: Tls | None = None
    """Certificates; default: made for each run, except for an address."""

    _where: Where = PrivateAttr(default_factory=Where)
    _request: dict[str, Any] | None = PrivateAttr(default=None)

    @property
    def kind(self) -> str:
        """One of none, local, cuda, slurm and address."""
        return "address" if "://" in self.cluster else self.cluster

    @property
    def on_this_machine(self) -> bool:
        """Whether the workers share the memory of this machine."""
        return self.kind in ("none", "local", "cuda")

    @property
    def where(self) -> Where:
        """File and line of each key."""
        return self._where

    @property
    def request(self) -> dict[str, Any] | None:
        """Arguments of `find_profile` that give this profile again, for JSON.

        A file is named by its path, so its content (pools, certificates) is not part of it. None
        for a profile that was made in Python, unless its name and numbers are all there is to it.
        """
        if self._request is not None:
            return self._request
        keys = self.model_fields_set
        if not keys <= {"cluster", *ProfileOptions.__annotations__}:
            return None
        return self.model_dump(include=keys)

    def problem(self, path: KeyPath, text: str) -> str:
        """Sentence about a key, with its file and line."""
        return ": ".join(part for part in (self._where.of(path), dotted(path), text) if part)

    def pool_of(self, requested: str) -> str:
        """Name of the pool that runs a step: the one it requests if it exists, else the first.

        `preflight` has reported a request for a pool that does not exist.
        """
        return requested if requested in self.pools else next(iter(self.pools))


def find_profile(text: str, **options: Unpack[ProfileOptions]) -> Profile:
    """Read the profile that `--cluster` names.

    Parameters
    ----------
    text : str
        `none`, the address of a scheduler, a bundled profile (`local`) or a file.
    **options : ProfileOptions
        Replace the profile's own values.

    Raises
    ------
    PlanError
        If there is no such profile, or with all of its mistakes.
    """
    source = text
    if text == "none" or "://" in text:
        profile = from_data({"cluster": text}, Where("--cluster"))
    else:
        path = find_bundled(text, "deploy", "cluster profile")
        if path != bundled("deploy").get(path.stem):
            source = str(path.absolute())
        profile = checked(*read_data(path, Profile))
    allowed = KEYS_OF_KIND[profile.kind]
    given = {name: value for name, value in options.items() if value is not None}
    if "workers" in given and "workers" not in allowed and profile.kind != "none":
        raise PlanError(
            f"--workers {given['workers']}: expected for local and cuda only; got {text}"
        )
    from_data({"cluster": "local", **given}, Where("options"))  # a script may pass anything
    changed = profile.model_copy(update=given)
    changed._request = {"cluster": source, **given}
    return changed


def from_data(data: Mapping[str, Any], where: Where) -> Profile:
    """Profile with plain data, such as options of the command line.

    Raises
    ------
    PlanError
        With all problems, each with its place.
    """
    target = Overridden(dict(data), dict(where.lines), dict(where.options))
    return checked(target, Problems(where))


def checked(target: Overridden, problems: Problems) -> Profile:
    """Profile with the keys and values of a file.

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
    """Add the contradictions between the keys of a profile."""
    kind = profile.kind
    if kind not in KEYS_OF_KIND or (kind == "address" and not profile.cluster.startswith(SCHEMES)):
        known = ", ".join(KINDS)
        problems.add(
            ("cluster",),
            f"there is no cluster '{profile.cluster}'{closest(profile.cluster, KINDS)} (known: "
            f"{known}, or the address of a Dask scheduler such as tls://10.0.0.5:8786)",
        )
        return
    for key in sorted(profile.model_fields_set - set(KEYS_OF_KIND[kind])):
        what = "an address" if kind == "address" else f"cluster '{kind}'"
        problems.add((key,), f"{what} has no such key (it has: {', '.join(KEYS_OF_KIND[kind])})")
    if kind == "slurm" and not profile.pools:
        problems.add(("pools",), "expected at least one pool, with its memory and walltime")
    if profile.ports and profile.ports[0] > profile.ports[1]:
        problems.add(("ports",), f"expected the first port and the last; got {list(profile.ports)}")
    for name, pool in profile.pools.items():
        for key, text in pool_problems(pool):
            problems.add(("pools", name, key), text)
    for key, file in (profile.tls.model_dump() if profile.tls else {}).items():
        if not os.path.isfile(os.path.expanduser(file)):
            problems.add(("tls", key), f"there is no file {file}")
    if kind == "address" and profile.cluster.startswith("tls://") and not profile.tls:
        problems.add(("cluster",), _NO_TLS)


_NO_TLS = (
    "a tls:// address needs certificates; write a profile with `cluster: tls://HOST:PORT` and "
    "`tls: {ca: FILE, cert: FILE, key: FILE}`"
)
