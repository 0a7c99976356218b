"""Candidates for tab completion: bundled files, networks, steps. Every error completes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import TypeAlias

import click
from click.shell_completion import CompletionItem

Completer: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

EXECUTORS = ("none", "local", "cuda", "slurm")


def _completer(names: Callable[[click.Context], Iterable[str]], files: bool = False) -> Completer:
    """A completer of names, and of paths where the argument may be a file."""

    @wraps(names)
    def complete(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        # First, because bash forgets what came before; and not empty, because zsh would lose count.
        items = [CompletionItem(incomplete or "./", type="file")] if files else []
        with suppress(Exception):  # a traceback would garble the line that is being typed
            known = sorted(set(names(context)))
            known = [name for name in known if name.startswith(incomplete) and name.isprintable()]
            items += map(CompletionItem, known)
        return items

    return complete


def _pipelines(context: click.Context) -> Iterable[str]:
    from volflow.config.bundled import bundled

    return bundled("pipelines")


def _profiles(context: click.Context) -> Iterable[str]:
    from volflow.config.bundled import bundled

    return [*EXECUTORS, *bundled("deploy")]


def _trainings(context: click.Context) -> Iterable[str]:
    from volflow.config.bundled import bundled

    return bundled("pipelines/train")


def _pretrainings(context: click.Context) -> Iterable[str]:
    from volflow.config.bundled import bundled

    return bundled("pipelines/pretrain")


def _networks(context: click.Context) -> Iterable[str]:
    from volflow.checkpoints.find import bundled_networks, bundled_section_networks

    return [*bundled_networks(), *bundled_section_networks()]


def _step_names(context: click.Context) -> Iterable[str]:
    """Names of the steps of the run or pipeline named on the command line."""
    names = (context.params.get(key) for key in ("address", "source", "pipeline"))
    # An option that still lacks its value leaves the arguments before it unparsed.
    given = next(filter(None, [*names, *context.args]), "")
    if (Path(given) / "outline.json").is_file():
        from volflow.io.run.stored_outline import stored_outline

        return [step["name"] for step in (stored_outline(given) or {"steps": []})["steps"]]
    from volflow.config.bundled import find_bundled
    from volflow.config.file import read_yaml

    document = read_yaml(find_bundled(given, "pipelines", "pipeline").read_text()).data
    assert isinstance(document, dict)
    return [
        step.get("name") or step["use"].rpartition(":")[2].lower() for step in document["steps"]
    ]


pipelines = _completer(_pipelines, files=True)
profiles = _completer(_profiles, files=True)
trainings = _completer(_trainings, files=True)
pretrainings = _completer(_pretrainings, files=True)
networks = _completer(_networks, files=True)
step_names = _completer(_step_names)
