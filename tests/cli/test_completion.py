"""Tab completion: the script of each shell, and the candidates at each place."""

from __future__ import annotations

import subprocess

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
    assert candidates("pretrain", "g") == ["generalist"]
    assert "fib25-lsd" in candidates("models", "fib25")


def test_steps_of_a_pipeline_and_of_a_run_are_completed(volflow, toy, tmp_path):
    pipeline = toy()
    assert candidates("run", str(pipeline), "--until", "") == ["double", "index"]
    assert candidates("run", "segment", "--only", "fr") == ["fragments"]
    assert volflow("run", pipeline, "--until", "index").exit_code == 0
    assert candidates("invalidate", str(tmp_path / "run"), "d") == ["double"]
    assert candidates("block", str(tmp_path / "run"), "") == ["double", "index"]


def test_what_cannot_be_read_completes_nothing(tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("steps: [")
    assert candidates("run", str(broken), "--until", "") == []
    assert candidates("invalidate", str(tmp_path / "none"), "") == []
