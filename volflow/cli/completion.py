"""`completion`: the shell script that completes verbs, options, pipelines and steps."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


EPILOG = """\b
Start-up file of the shell:
  bash  ~/.bashrc                   eval "$(volflow completion bash)"
  zsh   ~/.zshrc                    eval "$(volflow completion zsh)"
  fish  ~/.config/fish/config.fish  volflow completion fish | source
"""


@click.command(epilog=EPILOG)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the tab completion script of a SHELL.

    It completes verbs, options, bundled pipelines, profiles and networks, and the steps of a run.
    """
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    assert complete is not None  # click brings all three
    root = context.find_root().command
    click.echo(complete(root, {}, "volflow", "_VOLFLOW_COMPLETE").source())
