"""Checks of a Slurm profile against a plan, this machine and what Slurm itself reports."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from rich.filesize import decimal

from volflow.config.problems import closest
from volflow.engine.executors.ports import (
    dashboard_problems,
    network_problems,
    port_range_problems,
)
from volflow.engine.executors.profile import Profile
from volflow.engine.executors.slurm.jobs import job_script, require_jobqueue
from volflow.engine.executors.slurm.partitions import (
    Site,
    missing_commands,
    query_site,
    test_submission,
)
from volflow.engine.executors.slurm.pool import Pool
from volflow.engine.executors.slurm.run_folders import RunFolders
from volflow.engine.executors.slurm.units import time_text
from volflow.engine.job import Plan
from volflow.errors import PlanError


def preflight_problems(plan: Plan, profile: Profile) -> Iterator[str]:
    """Problems of a Slurm profile; sbatch is asked about its jobs only if there are no others."""
    problems = list(_problems_without_sbatch(plan, profile))
    yield from problems
    if not problems:
        for name, script in ((name, _script(plan, profile, name)) for name in profile.pools):
            if refusal := test_submission(script):
                text = f"Slurm does not accept its jobs: {refusal}"
                yield profile.problem(("pools", name), text)


def log_folder(plan: Plan, profile: Profile) -> Path | None:
    """Folder of the workers' logs; None for workers that write none."""
    return RunFolders.of(profile, plan.pipeline.run).logs if profile.kind == "slurm" else None


def job_scripts(plan: Plan, profile: Profile) -> dict[str, str]:
    """Job script of each pool that the steps to run request, by its name; empty without Slurm."""
    if profile.kind != "slurm":
        return {}
    names = dict.fromkeys(profile.pool_of(step.pool) for step in plan.chosen)
    return {name: _script(plan, profile, name) for name in names}


def _script(plan: Plan, profile: Profile, name: str) -> str:
    return job_script(name, profile, RunFolders.of(profile, plan.pipeline.run))


def _problems_without_sbatch(plan: Plan, profile: Profile) -> Iterator[str]:
    yield from dashboard_problems(profile)
    yield from port_range_problems(profile)
    yield from _step_problems(plan, profile)
    yield from network_problems(profile)
    for name, pool in profile.pools.items():
        for key, text in _command_problems(pool):
            yield profile.problem(("pools", name, key), text)
    try:
        RunFolders.of(profile, plan.pipeline.run)
        require_jobqueue()
    except PlanError as error:
        yield from error.problems
    yield from _site_problems(profile)


def _step_problems(plan: Plan, profile: Profile) -> Iterator[str]:
    """Steps that request a pool that does not exist, or one with too little memory."""
    known = list(profile.pools)
    where = plan.pipeline.where
    for number, spec in enumerate(plan.pipeline.steps):
        place = where.of(("steps", number, "pool"))
        start = f"{place}: " if place else ""
        if spec.pool is not None and spec.pool not in known:
            yield (
                f"{start}steps[{number}].pool: there is no pool '{spec.pool}'"
                f"{closest(spec.pool, known)} ({profile.where.file} has: {', '.join(known)})"
            )
    for step in plan.chosen:
        name = profile.pool_of(step.pool)
        available = profile.pools[name].memory_for_blocks
        needed = max(step.memory.values(), default=0)
        if needed > available:
            yield profile.problem(
                ("pools", name, "memory"),
                f"step '{step.name}' needs about {decimal(needed, precision=2)} and the blocks of "
                f"a worker may take {decimal(available, precision=2)}, nine tenths of its memory; "
                f"expected {_rounded_up(needed * 10 // 9)} or more, smaller blocks, or `pool:` at "
                f"the step with a pool that has it",
            )


def _rounded_up(memory: int) -> str:
    """An amount of memory with which a profile is accepted, in its own notation."""
    return f"{-(-memory // 10**8) / 10:g} GB"


def _command_problems(pool: Pool) -> Iterator[tuple[str, str]]:
    """Missing commands that start a worker, as far as nodes are like this machine."""
    if pool.modules or pool.prologue:
        return  # they may provide the command
    command = (shlex.split(pool.container) or [""])[0] if pool.container else ""
    if pool.container is not None and shutil.which(command) is None:
        yield (
            "container",
            f"there is no command '{command}' here; expected one such as apptainer, or `modules` "
            f"that provide it",
        )
    if pool.conda and shutil.which("conda") is None:
        yield "conda", "there is no command 'conda' here, and no `modules`"
    python = Path(pool.python or "")
    if python.is_absolute() and not pool.container and not python.exists():
        yield "python", f"there is no {python} here"


def _site_problems(profile: Profile) -> Iterator[str]:
    missing = missing_commands()
    if missing:
        yield profile.problem(
            ("cluster",),
            f"there is no {', '.join(missing)} here; expected a machine from which Slurm jobs are "
            f"submitted: a login node, or a job on one",
        )
        return
    try:
        site = query_site()
    except PlanError as error:
        yield profile.problem(("cluster",), str(error))
        return
    for name, pool in profile.pools.items():
        for key, text in _partition_problems(pool, site):
            yield profile.problem(("pools", name, key), text)


def _partition_problems(pool: Pool, site: Site) -> Iterator[tuple[str, str]]:
    """Limits of a pool's partition that its jobs exceed."""
    name = pool.partition or site.default
    partition = site.partitions.get(name)
    if partition is None:
        known = ", ".join(site.partitions)
        missing = f"there is no partition '{name}'{closest(name, site.partitions)}" if name else ""
        text = missing or "missing, and Slurm has no default partition"
        yield "partition", f"{text} (Slurm has: {known})"
        return
    if pool.walltime > partition.seconds:
        limit = time_text(int(partition.seconds))
        yield (
            "walltime",
            f"partition '{name}' allows {limit} at most; got {time_text(pool.walltime)}",
        )
    cores = pool.cores * pool.per_job
    if cores > partition.cores:
        text = f"a job of {cores} cores; the nodes of '{name}' have {partition.cores} at most"
        yield "cores", text
    memory = pool.memory * pool.per_job
    if memory > partition.memory:
        yield (
            "memory",
            f"a job of {decimal(memory, precision=2)}; the nodes of '{name}' have "
            f"{decimal(partition.memory, precision=2)} at most",
        )
    yield from _gpu_problems(pool, name, site)


def _gpu_problems(pool: Pool, name: str, site: Site) -> Iterator[tuple[str, str]]:
    requested = pool.resources or ""
    key = "gres" if pool.gres else "gpus"
    if not requested.startswith("gpu"):
        return
    partition = site.partitions[name]
    parts = requested.split(":")
    count = int(parts[-1]) if parts[-1].isdigit() else 1
    if count > partition.gpus:
        others = [other for other, each in site.partitions.items() if each.gpus >= count]
        offer = f"; partitions that have: {', '.join(others)}" if others else ""
        yield (
            key,
            f"a job of {count} GPUs; the nodes of '{name}' have {partition.gpus} at most{offer}",
        )
    elif len(parts) > 1 and not parts[1].isdigit() and parts[1] not in partition.gpu_types:
        types = ", ".join(sorted(partition.gpu_types)) or "none with a name"
        yield key, f"there is no GPU '{parts[1]}' in '{name}' (it has: {types})"
