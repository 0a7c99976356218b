"""Options that several verbs share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import click

from volflow.cli.terminal import completers

Function = TypeVar("Function", bound=Callable[..., Any])

JSON, QUIET = "volflow.json", "volflow.quiet"
"""Keys of the click context under which the options --json and -q are stored."""

BOUNDS = "Z0:Z1,Y0:Y1,X0:X1"
LEVELS = {1: logging.INFO, 2: logging.DEBUG}


def selection(function: Function) -> Function:
    """Add the options that change a pipeline or select its steps."""
    for option in (
        _step_option("--until", "until", "Name of the last step to run."),
        _step_option("--from", "from_", "Name of the first step to run."),
        _step_option("--only", "only", "Name of the only step to run."),
        click.option(
            "--bounds",
            metavar=BOUNDS,
            help="Part of the volume, in voxels as they are read (`downsample`), half-open.",
            show_default="the pipeline's, or the whole volume",
        ),
        overrides,
    ):
        function = option(function)
    return function


def overrides(function: Function) -> Function:
    """Add `--set`, which replaces values of a pipeline."""
    option = click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        help="Replaces a value of the file: steps.agglomerate.threshold=0.4, "
        "volumes.em.path=em.zarr, block=[64,64,64], run=DIR. May be repeated.",
    )
    return option(function)


def _step_option(name: str, parameter: str, text: str) -> Callable[[Function], Function]:
    return click.option(
        name, parameter, metavar="STEP", help=text, shell_complete=completers.step_names
    )


def workers(
    function: Function, cluster: str | None = "none", show_default: bool | str = True
) -> Function:
    """Add the options that choose the executor; by default blocks run in this process."""
    for option in (
        click.option(
            "--timeout",
            metavar="SECONDS",
            type=click.FloatRange(0),
            help="Time limit per block in seconds (0: none).",
            show_default="the profile's, or none",
        ),
        click.option(
            "--workers",
            metavar="N",
            type=click.IntRange(1),
            help="Number of local workers.",
            show_default="as many as cores and memory allow",
        ),
        click.option(
            "--cluster",
            metavar="PROFILE",
            default=cluster,
            show_default=show_default,
            shell_complete=completers.profiles,
            help="none: this process; local: one worker per core; cuda: one per GPU; slurm: jobs; "
            "tls://HOST:PORT of a Dask scheduler; or a profile file.",
        ),
    ):
        function = option(function)
    return function


def local_workers(function: Function) -> Function:
    """Add the options that choose the executor; by default one worker per core."""
    return workers(function, "local")


def same_workers(function: Function) -> Function:
    """Add the options that choose the executor; by default that of the run's last start."""
    return workers(function, None, "as at the run's last start")


def watchdog(function: Function) -> Function:
    """Add the options for a run in which no block finishes."""
    for option in (
        click.option(
            "--on-stall",
            type=click.Choice(["report", "restart", "end"]),
            help="Action at the stall timeout: report it, restart the busy workers, or end the "
            "run with exit code 6.",
            show_default="the profile's, or `report`",
        ),
        click.option(
            "--stall",
            metavar="SECONDS",
            type=click.FloatRange(0),
            help="Stall timeout: seconds without a finished block (0: never).",
            show_default="the profile's, or 600",
        ),
    ):
        function = option(function)
    return function


def json_output(function: Function) -> Function:
    """Add `--json`: one JSON document alone on stdout; progress and messages go to stderr."""
    option = click.option(
        "--json",
        "as_json",
        is_flag=True,
        callback=_remember_json,
        help="Print one JSON document and nothing else on stdout.",
    )
    return option(function)


def with_verbosity(command: click.Command) -> click.Command:
    """The command with `-v` and `-q`, added once."""
    if not any(parameter.name == "quiet" for parameter in command.params):
        command.params += [_verbose(), _quiet()]
    return command


def quiet() -> bool:
    """Whether the command that runs was given `-q`."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(QUIET))


def _verbose() -> click.Option:
    return click.Option(
        ["-v", "--verbose"],
        count=True,
        expose_value=False,
        callback=_set_level,
        help="Show the log on stderr; -vv shows all of it.",
    )


def _quiet() -> click.Option:
    return click.Option(
        ["-q", "--quiet"],
        is_flag=True,
        expose_value=False,
        callback=_set_quiet,
        help="Print results and errors only: no progress, no hints.",
    )


def _set_level(context: click.Context, parameter: click.Parameter, count: int) -> None:
    if count:
        logging.getLogger("volflow").setLevel(LEVELS.get(count, logging.DEBUG))


def _set_quiet(context: click.Context, parameter: click.Parameter, quiet: bool) -> None:
    if quiet:
        context.meta[QUIET] = True
        logging.getLogger("volflow").setLevel(logging.ERROR)


def _remember_json(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    if value:
        context.meta[JSON] = True
    return value
