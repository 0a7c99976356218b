"""What can be known wrong about workers before anything is started; all of it is told at once."""

from __future__ import annotations

import shlex
import shutil
import socket
from pathlib import Path

from volflow.config.keys import KeyPath
from volflow.config.problems import Problems, closest
from volflow.engine.executors.ports import interfaces, is_free
from volflow.engine.executors.profile import Pool, Profile
from volflow.engine.executors.slurm.jobs import Place, job_script, require_jobqueue
from volflow.engine.executors.slurm.partitions import (
    Site,
    ask_site,
    missing_commands,
    test_submission,
)
from volflow.engine.executors.slurm.pools import pool_of
from volflow.engine.executors.units import time_text
from volflow.engine.job import Plan
from volflow.errors import PlanError


def preflight(plan: Plan, profile: Profile) -> None:
    """Check the workers of a profile against a plan, this machine and what Slurm says.

    Raises
    ------
    PlanError
        With all mistakes, each with file and line.
    """
    problems = Problems(profile.where)
    _check_ports(profile, problems)
    if profile.kind != "slurm":
        problems.check()
        return
    _check_steps(plan, profile, problems)
    _check_network(profile, problems)
    for name, pool in profile.pools.items():
        _check_commands(pool, ("pools", name), problems)
    try:
        place = Place.of(profile, plan.pipeline.run)
        require_jobqueue()
    except PlanError as error:
        problems.found += error.problems
    _check_site(profile, problems)
    problems.check()
    for name in profile.pools:  # Slurm's own word, on accounts for one
        said = test_submission(job_script(name, profile, place))
        if said:
            problems.add(("pools", name), f"Slurm would not take its jobs: {said}")
    problems.check()


def logs(plan: Plan, profile: Profile) -> Path | None:
    """The folder of the workers' logs; None where they have none of their own."""
    return Place.of(profile, plan.pipeline.run).logs if profile.kind == "slurm" else None


def scripts(plan: Plan, profile: Profile) -> dict[str, str]:
    """The job script of each pool that the steps to be run want, by its name."""
    place = Place.of(profile, plan.pipeline.run)
    wanted = dict.fromkeys(pool_of(profile, step.pool) for step in plan.chosen)
    return {name: job_script(name, profile, place) for name in wanted}


def _check_steps(plan: Plan, profile: Profile, problems: Problems) -> None:
    """Steps ask for pools that there are, with memory enough."""
    known = list(profile.pools)
    where = plan.pipeline.where
    for number, spec in enumerate(plan.pipeline.steps):
        place = ": ".join(part for part in (where.of(("steps", number, "pool")),) if part)
        start = f"{place}: " if place else ""
        if spec.pool is not None and spec.pool not in known:
            problems.found.append(
                f"{start}steps[{number}].pool: there is no pool '{spec.pool}'"
                f"{closest(spec.pool, known)} ({profile.where.file} has: {', '.join(known)})"
            )
    for step in plan.chosen:
        name = pool_of(profile, step.pool)
        room = profile.pools[name].memory * 9 // 10
        need = max(step.memory.values(), default=0)
        if need > room:
            problems.add(
                ("pools", name, "memory"),
                f"step '{step.name}' needs about {need / 1e9:.1f} GB and a worker's blocks may "
                f"take {room / 1e9:.1f} GB of it; expected more, smaller blocks, or `pool:` at the "
                f"step with a pool that has it",
            )


def _check_ports(profile: Profile, problems: Problems) -> None:
    if profile.dashboard and not is_free(profile.dashboard, "127.0.0.1"):
        problems.add(
            ("dashboard",),
            f"port {profile.dashboard} is taken on this machine; expected a free one",
        )
    if profile.ports:
        first, last = profile.ports
        free = sum(is_free(port) for port in range(first, min(last, first + 200) + 1))
        wanted = max(1, len(profile.pools))
        if free < wanted:
            problems.add(
                ("ports",),
                f"expected {wanted} free, one for each pool; of {first} to {last} on this machine "
                f"{free} free, the others taken",
            )


def _check_network(profile: Profile, problems: Problems) -> None:
    if profile.interface and profile.interface not in interfaces():
        problems.add(
            ("interface",),
            f"there is no network interface '{profile.interface}' on this machine"
            f"{closest(profile.interface, interfaces())} (it has: {', '.join(interfaces())})",
        )
    if profile.host:
        try:
            address = socket.getaddrinfo(profile.host, None)[0][4][0]
            with socket.socket(socket.AF_INET6 if ":" in str(address) else socket.AF_INET) as each:
                each.bind((address, 0))
        except OSError as error:
            problems.add(
                ("host",), f"'{profile.host}' is no name or address of this machine ({error})"
            )


def _check_commands(pool: Pool, base: KeyPath, problems: Problems) -> None:
    """What starts a worker is there, as far as it is the same here and on the nodes."""
    if pool.modules or pool.prologue:
        return  # they may bring it
    command = (shlex.split(pool.container) or [""])[0] if pool.container else ""
    if pool.container is not None and shutil.which(command) is None:
        problems.add(
            (*base, "container"),
            f"there is no command '{command}' here; expected one such as apptainer, or `modules` "
            f"that bring it",
        )
    if pool.conda and shutil.which("conda") is None:
        problems.add((*base, "conda"), "there is no command 'conda' here, and no `modules`")
    python = Path(pool.python or "")
    if python.is_absolute() and not pool.container and not python.exists():
        problems.add((*base, "python"), f"there is no {python} here")


def _check_site(profile: Profile, problems: Problems) -> None:
    lacking = missing_commands()
    if lacking:
        problems.add(
            ("cluster",),
            f"there is no {', '.join(lacking)} here; expected a machine from which Slurm jobs are "
            f"submitted: a login node, or a job on one",
        )
        return
    try:
        site = ask_site()
    except PlanError as error:
        problems.add(("cluster",), str(error))
        return
    for name, pool in profile.pools.items():
        _check_pool(pool, site, ("pools", name), problems)


def _check_pool(pool: Pool, site: Site, base: KeyPath, problems: Problems) -> None:
    """A job of the pool fits the partition that it goes to."""
    name = pool.partition or site.default
    partition = site.partitions.get(name)
    if partition is None:
        known = ", ".join(site.partitions)
        what = f"there is no partition '{name}'{closest(name, site.partitions)}" if name else ""
        text = what or "missing, and Slurm has no default one"
        problems.add((*base, "partition"), f"{text} (Slurm has: {known})")
        return
    if pool.walltime > partition.seconds:
        most = time_text(int(partition.seconds))
        problems.add(
            (*base, "walltime"),
            f"partition '{name}' allows {most} at most; got {time_text(pool.walltime)}",
        )
    cores = pool.cores * pool.per_job
    if cores > partition.cores:
        text = f"a job of {cores} cores; the nodes of '{name}' have {partition.cores} at most"
        problems.add((*base, "cores"), text)
    memory = pool.memory * pool.per_job
    if memory > partition.memory:
        most = f"{partition.memory / 1e9:.1f} GB"
        text = f"a job of {memory / 1e9:.1f} GB; the nodes of '{name}' have {most} at most"
        problems.add((*base, "memory"), text)
    _check_gpus(pool, name, site, base, problems)


def _check_gpus(pool: Pool, name: str, site: Site, base: KeyPath, problems: Problems) -> None:
    asked = pool.resources or ""
    key = "gres" if pool.gres else "gpus"
    if not asked.startswith("gpu"):
        return
    partition = site.partitions[name]
    parts = asked.split(":")
    count = int(parts[-1]) if parts[-1].isdigit() else 1
    if count > partition.gpus:
        others = [other for other, each in site.partitions.items() if each.gpus >= count]
        offer = f"; partitions that have: {', '.join(others)}" if others else ""
        problems.add(
            (*base, key),
            f"a job of {count} GPUs; the nodes of '{name}' have {partition.gpus} at most{offer}",
        )
    elif len(parts) > 1 and not parts[1].isdigit() and parts[1] not in partition.kinds:
        kinds = ", ".join(sorted(partition.kinds)) or "none that are named"
        problems.add((*base, key), f"there is no GPU '{parts[1]}' in '{name}' (it has: {kinds})")
