"""The checks of `volflow doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from volflow.cli.checks import cluster, installation, machine
from volflow.cli.checks.finding import Finding

CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    installation.check_python,
    installation.check_packages,
    installation.check_zfpy,
    installation.check_files,
    installation.check_stages,
    machine.check_kernels,
    machine.check_resources,
    machine.check_gpu,
    cluster.check_slurm,
    machine.check_volume,
    installation.check_view,
)


def findings() -> list[Finding]:
    """The findings of all checks, in order."""
    return [finding for check in CHECKS for finding in _findings(check)]


def _findings(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """The findings of one check; an error of the check itself is a finding."""
    try:
        return list(check())
    except Exception as error:
        name = check.__name__.removeprefix("check_")
        return [Finding(name, "broken", f"{type(error).__name__}: {error}")]
