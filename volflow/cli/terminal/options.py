"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def selection(function: Function) -> Function:
    """What a pipeline is changed by, and which of its steps are meant."""
    for option in (
        click.option("--until", metavar="STEP", help="The last step."),
        click.option("--from", "from_", metavar="STEP", help="The first step."),
        click.option("--only", metavar="STEP", help="This step alone."),
        click.option("--bounds", metavar="Z0:Z1,Y0:Y1,X0:X1", help="In voxels, half-open."),
        click.option(
            "--set",
            "overrides",
            metavar="KEY=VALUE",
            multiple=True,
            help="Takes the place of what the file says: steps.agglomerate.threshold=0.4, "
            "volumes.em.path=em.zarr, block=[64,64,64], run=DIR. May be repeated.",
        ),
    ):
        function = option(function)
    return function


def workers(function: Function, cluster: str = "none") -> Function:
    """Who does the blocks, if nothing is said: this process."""
    for option in (
        click.option("--timeout", type=click.FloatRange(0), help="Seconds for one block; 0: any."),
        click.option("--workers", type=click.IntRange(1), help="Number of local workers."),
        click.option(
            "--cluster",
            default=cluster,
            show_default=True,
            help="none: this process; local: one worker per core; cuda: one per GPU; slurm: jobs; "
            "tls://HOST:PORT of a Dask scheduler; or a profile file.",
        ),
    ):
        function = option(function)
    return function


def watchdog(function: Function) -> Function:
    """What is done when nothing is finished."""
    for option in (
        click.option(
            "--on-stall",
            type=click.Choice(["say", "restart", "end"]),
            help="What is done then: say it (the default), restart the workers that are at work, "
            "or end the run with exit code 6.",
        ),
        click.option(
            "--stall",
            type=click.FloatRange(0),
            help="Seconds without any block done after which that is said; 0: never. [default: "
            "the profile's, or 600]",
        ),
    ):
        function = option(function)
    return function


def local_workers(function: Function) -> Function:
    """Who does the blocks, if nothing is said: this machine."""
    return workers(function, "local")
