"""Tab completion: the script of each shell, and the candidates at each place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from volflow.cli import VERBS, main


def candidates(*words: str) -> list[str]:
    """Plain candidates for the last word, as bash is given them."""
    environment = {
        "_VOLFLOW_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["volflow", *words]),
        "COMP_CWORD": str(len(words)),
    }
    result = CliRunner().invoke(main, [], prog_name="volflow", env=environment)
    assert result.exit_code == 0, result.output
    lines = (line.split(",", 1) for line in result.stdout.splitlines() if line)
    return [value for kind, value in lines if kind == "plain"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(volflow, shell):
    result = volflow("completion", shell)
    assert result.exit_code == 0, result.output
    assert f"_VOLFLOW_COMPLETE={shell}_complete" in result.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=result.stdout, text=True, check=True)


def test_another_shell_ends_with_2(volflow):
    assert volflow("completion", "tcsh").exit_code == 2


def test_verbs_and_options_are_completed():
    assert candidates("") == list(VERBS)
    assert candidates("pre") == ["pretrain"]
    assert "--dry-run" in candidates("run", "--d")


def test_bundled_names_are_completed():
    assert candidates("run", "segm") == ["segment", "segment_and_score"]
    assert candidates("run", "segment", "--cluster", "") == ["cuda", "local", "none", "slurm"]
    assert candidates("train", "sy") == ["synapse", "synth"]
    assert candidates("pretrain", "s") == ["segneuron"]
    assert "fib25-lsd" in candidates("models", "fib25")


def test_steps_of_a_pipeline_and_of_a_run_are_completed(volflow, toy, tmp_path):
    pipeline = toy()
    assert candidates("run", str(pipeline), "--until", "") == ["double", "index"]
    assert candidates("run", "segment", "--only", "fr") == ["fragments"]
    assert volflow("run", pipeline, "--until", "index").exit_code == 0
    assert candidates("invalidate", str(tmp_path / "run"), "d") == ["double"]
    assert candidates("block", str(tmp_path / "run"), "") == ["double", "index"]


def test_what_cannot_be_read_completes_nothing(tmp_path):
    names = tmp_path / "names.yaml"
    names.write_text('steps: [{use: convert, name: "a\\eb"}, {use: score}]')
    assert candidates("run", str(names), "--until", "") == ["score"]
    broken = tmp_path / "broken.yaml"
    broken.write_text("steps: [")
    assert candidates("run", str(broken), "--until", "") == []
    assert candidates("invalidate", str(tmp_path / "none"), "") == []


@pytest.mark.parametrize("name", ["../other", "a\x1bb", 7])
def test_steps_of_a_damaged_run_are_not_completed(tmp_path, name):
    steps = [{"name": text, "digest": "0", "passes": []} for text in (name, "double")]
    (tmp_path / "outline.json").write_text(json.dumps({"steps": steps}))
    assert candidates("invalidate", str(tmp_path), "") == []


SHELLS = {
    "bash": """
        eval "$(volflow completion bash)"
        compopt() { :; }
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _volflow_completion volflow
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    "zsh": """
        compdef() { :; }
        _path_files() { :; }
        compadd() { print -rl -- ${(P)@[-1]}; }
        _describe() { print -rl -- ${${(P)@[-2]}%%:*}; }
        eval "$(volflow completion zsh)"
        words=("$@"); CURRENT=$#; _volflow_completion
    """,
    "fish": """
        volflow completion fish | source
        complete -C (string join ' ' -- $argv) | cut -f 1
    """,
}
"""Scripts that print the candidates for the last of their arguments."""


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_verbs_pipelines_profiles_and_options(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    environment = dict(os.environ, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")

    def completed(*words: str) -> set[str]:
        flags = {"bash": ["--norc", "-c"], "zsh": ["-f", "-c"], "fish": ["--no-config", "-c"]}[
            shell
        ]
        command = [shell, *flags, SHELLS[shell], *([] if shell == "fish" else [shell])]
        done = subprocess.run(
            [*command, "volflow", *words],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stderr == ""
        return set(done.stdout.split())

    assert completed("ru") == {"run"}
    assert completed("run", "segm") == {"segment", "segment_and_score"}
    assert completed("run", "segment", "--cluster", "") == {"cuda", "local", "none", "slurm"}
    assert completed("run", "segment", "--unt") == {"--until"}
