"""The command line: `volflow VERB`; prints, and turns errors into exit codes.

Modules here import the engine inside their functions, so that `volflow --help` answers at once.
"""

from __future__ import annotations

import importlib
import logging
import traceback
from typing import Any

import click

from volflow.errors import ClusterError, PlanError, RunHeld, StorageError
from volflow.version import __version__

OUR_BUG, BAD_PLAN, BLOCKS_FAILED, BAD_STORE, UNMET, STALLED, INTERRUPTED = 1, 2, 3, 4, 5, 6, 130

EXIT_CODES = """\b
Exit codes:
  0    done
  1    a bug of volflow's, with its traceback
  2    the pipeline or the command is wrong; nothing was started
  3    blocks failed; each is named, with the command that runs it alone
  4    a store or the cluster failed, or another driver holds the run
  5    all is done, but a score is beyond a limit that was required
  6    nothing was finished for so long that the run was ended
  130  interrupted; run again to resume
"""

VERBS = {
    "run": "volflow.cli.run",
    "plan": "volflow.cli.plan",
    "status": "volflow.cli.status",
    "retry": "volflow.cli.retry",
    "invalidate": "volflow.cli.invalidate",
    "block": "volflow.cli.block",
    "view": "volflow.cli.view",
    "score": "volflow.cli.score",
    "train": "volflow.cli.networks.train",
    "pretrain": "volflow.cli.networks.pretrain",
    "models": "volflow.cli.networks.models",
    "convert": "volflow.cli.convert",
    "doctor": "volflow.cli.doctor",
    "schema": "volflow.cli.schema",
    "demo": "volflow.cli.demo",
}


class Verbs(click.Group):
    """The verbs in the order in which they are met, and what their errors become."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the verbs."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of that name, imported when it is asked for."""
        if cmd_name not in VERBS:
            return None
        command = getattr(importlib.import_module(VERBS[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; what it raises is said in words and becomes the exit code."""
        try:
            return super().invoke(ctx)
        except PlanError as error:
            _say_mistakes(error)
            ctx.exit(BAD_PLAN)
        except RunHeld as error:
            _say(
                f"{error}\nwait for it, or end it; a run whose driver died is taken over by itself"
            )
            ctx.exit(BAD_STORE)
        except (StorageError, ClusterError) as error:
            _say(str(error))
            ctx.exit(BAD_STORE)
        except KeyboardInterrupt:
            _say("interrupted")
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception:
            traceback.print_exc()
            _say("this is a bug of volflow's: please report it with the lines above")
            ctx.exit(OUR_BUG)


class Echo(logging.Handler):
    """Log lines on whatever stderr is at the time: above a live table while one is drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        click.echo(self.format(record), err=True)


@click.group(cls=Verbs, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="volflow")
@click.option("-v", "--verbose", count=True, help="Show the log; twice: all of it.")
def main(verbose: int) -> None:
    """From electron microscopy volumes to neurons, block by block.

    PIPELINE is a YAML file, or the name of one that travels with volflow (segment).
    """
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    handler = Echo()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    ours = logging.getLogger("volflow")
    ours.handlers, ours.propagate = [handler], False  # Dask says much that is no news
    ours.setLevel(level)


def _say(text: str) -> None:
    click.echo(click.style("volflow: ", fg="red", bold=True) + text, err=True)


def _say_mistakes(error: PlanError) -> None:
    """Every mistake on a line of its own."""
    lines = error.problems or ["the pipeline cannot run as written"]
    number = len(lines)
    noun = "a mistake" if number == 1 else f"{number} mistakes"
    _say(f"{noun}; nothing was started")
    for line in lines:
        click.echo(f"  {line}", err=True)
