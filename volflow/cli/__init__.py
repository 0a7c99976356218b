"""The command line: `volflow VERB` prints results and turns errors into exit codes.

Each verb is a module of its own name. Modules import the engine inside their functions, so that
`volflow --help` answers at once.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from volflow.cli.terminal import options
from volflow.cli.terminal.visible import visible
from volflow.errors import ClusterError, PlanError, RunHeld, StageError, StorageError
from volflow.version import __version__

OUR_BUG, BAD_PLAN, BLOCKS_FAILED, BAD_STORE, UNMET, STALLED, INTERRUPTED = 1, 2, 3, 4, 5, 6, 130

EXIT_CODES = """\b
Exit codes:
  0    done
  1    a bug in volflow, with its traceback
  2    the pipeline, a stage or the command is wrong; blocks that are done stay done
  3    blocks failed; each is listed with the command that runs it alone
  4    a store or the cluster failed, or another driver holds the run
  5    everything is done, but a score misses a required limit
  6    stalled: no block finished within the stall timeout
  130  interrupted; run again to resume
"""

SECTIONS = {
    "Run a pipeline": {
        "run": "volflow.cli.run",
        "plan": "volflow.cli.plan",
        "status": "volflow.cli.status",
        "retry": "volflow.cli.retry",
        "invalidate": "volflow.cli.invalidate",
        "block": "volflow.cli.block",
    },
    "Look at results": {
        "view": "volflow.cli.view",
        "score": "volflow.cli.score",
        "tune": "volflow.cli.tune",
        "convert": "volflow.cli.convert",
    },
    "Train networks": {
        "train": "volflow.cli.networks.train",
        "pretrain": "volflow.cli.networks.pretrain",
        "models": "volflow.cli.networks.models",
    },
    "Get started": {
        "demo": "volflow.cli.demo",
        "doctor": "volflow.cli.doctor",
        "pipelines": "volflow.cli.pipelines",
        "schema": "volflow.cli.schema",
        "completion": "volflow.cli.completion",
    },
}
"""Modules of the verbs, in the sections of `volflow --help`."""

VERBS = {verb: module for verbs in SECTIONS.values() for verb, module in verbs.items()}


class Verbs(click.Group):
    """The verbs, imported on demand, and the exit codes of their errors."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line, and exit with its code unless `standalone_mode` is False.

        Ctrl-C ends with the same code while verbs are imported or options read as in a verb.
        """
        try:
            value = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            if not standalone_mode:
                raise
            error.show()
            sys.exit(error.exit_code)
        except click.Abort as error:
            if not standalone_mode:
                raise
            interrupted = isinstance(error.__cause__, KeyboardInterrupt)
            _print_error("interrupted" if interrupted else "aborted")
            sys.exit(INTERRUPTED if interrupted else OUR_BUG)
        if not standalone_mode:
            return value
        sys.exit(value if isinstance(value, int) else 0)  # what a verb returns is no code

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse the command line, with the log set up for the options that change its level."""
        _start_logging()
        return super().make_context(info_name, args, parent, **extra)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the verbs."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of that name, with the options that every verb has."""
        if cmd_name not in VERBS:
            return None
        command = getattr(importlib.import_module(VERBS[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return options.with_verbosity(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs of each section with their first lines."""
        width = max(map(len, VERBS))
        for section, verbs in SECTIONS.items():
            commands = {name: self.get_command(ctx, name) for name in verbs}
            limit = formatter.width - 6 - width
            with formatter.section(section):
                formatter.write_dl(
                    [
                        (f"{name:<{width}}", command.get_short_help_str(limit))
                        for name, command in commands.items()
                        if command is not None
                    ]
                )

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; print its error and exit with the code of the error."""
        try:
            return super().invoke(ctx)
        except PlanError as error:
            _print_problems(error)
            _exit(ctx, BAD_PLAN, error.problems)
        except RunHeld as error:
            hint = "wait until it ends, or end it; the run of a dead driver is taken over"
            _print_error(f"{error}\n{hint}")
            _exit(ctx, BAD_STORE, [str(error)])
        except (StorageError, ClusterError) as error:
            _print_error(str(error))
            _exit(ctx, BAD_STORE, [str(error)])
        except KeyboardInterrupt:
            _print_error("interrupted")
            _exit(ctx, INTERRUPTED, ["interrupted"])
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            traceback.print_exc()
            _print_error("this is a bug in volflow: please report it with the lines above")
            _exit(ctx, OUR_BUG, [f"{type(error).__name__}: {error}"])


class Echo(logging.Handler):
    """Log lines on the current stderr: above a live table while one is drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        click.echo(visible(self.format(record)), err=True)


@click.group(cls=Verbs, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="volflow")
def main() -> None:
    """From electron microscopy volumes to neurons, block by block.

    PIPELINE is a YAML file, or the name of a bundled pipeline (`volflow pipelines` lists them).
    Tab completion: `volflow completion --help`.
    """


options.with_verbosity(main)


def _start_logging() -> None:
    """Log warnings of volflow on stderr; the options -v and -q change the level."""
    handler = Echo()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("volflow")
    logger.handlers, logger.propagate = [handler], False  # the root logger would add Dask's lines
    logger.setLevel(logging.WARNING)


def exit_with_error(text: str, code: int) -> NoReturn:
    """Print an error after results that stand, and exit with its code."""
    _print_error(text)
    click.get_current_context().exit(code)


def _exit(context: click.Context, code: int, problems: list[str]) -> None:
    """Exit with a code; with --json the problems are the document on stdout."""
    if context.meta.get(options.JSON):
        click.echo(json.dumps({"ok": False, "problems": problems}, indent=1))
    context.exit(code)


def _print_error(text: str) -> None:
    click.echo(click.style("volflow: ", fg="red", bold=True) + visible(text), err=True)


def _print_problems(error: PlanError) -> None:
    """Print each problem on a line of its own."""
    lines = error.problems or ["the pipeline cannot run as written"]
    number = len(lines)
    noun = "1 problem" if number == 1 else f"{number} problems"
    blocks = "finished blocks stay done" if isinstance(error, StageError) else "nothing was started"
    _print_error(f"{noun}; {blocks}")
    for line in lines:
        click.echo(f"  {visible(line)}", err=True)
