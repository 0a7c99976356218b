"""Stages that try to end the process, or change its state, in the real command line."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

STAGE = """
import os, sys, signal, builtins
from os import _exit
import numpy as np
from volflow.core.stage import Layer, Stage

class Bad(Stage):
    how: str

    @property
    def outputs(self):
        return {"painted": Layer(dtype="uint8", channels=0, kind="segmentation")}

    def run(self, block):
        if block.index == (1, 0, 0):
            exec(self.how)
        return {"painted": np.full(block.write.shape, 1, "uint8")}
"""


def command(folder: Path, how: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a pipeline of four blocks, the second of which executes `how`."""
    (folder / "ending.py").write_text(STAGE)
    document = {
        "run": str(folder / "run"),
        "block": [16, 16, 16],
        "bounds": "0:64,0:16,0:16",
        "resolution": [10, 10, 10],
        "steps": [{"use": "ending:Bad", "name": "bad", "with": {"how": how}}],
    }
    (folder / "p.yaml").write_text(yaml.safe_dump(document))
    main = "from volflow.cli import main; main(prog_name='volflow')"
    return subprocess.run(
        [sys.executable, "-c", main, *(options or ("run", "p.yaml", "--cluster", "none"))],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("sys.exit(0)", "the block called sys.exit(0)"),
        ("os._exit(0)", "the block called os._exit(0)"),
        ("_exit(0)", "the block called os._exit(0)"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("os.abort()", "the block called os.abort()"),
        ("os.execvp('true', ['true'])", "the block called os.execv"),
        ("sys.stdout.close(); os.close(1); os.close(2); sys.exit()", "sys.exit(None)"),
    ],
)
def test_a_block_that_ends_the_process_is_a_failed_block(tmp_path, how, message):
    result = command(tmp_path, how)
    assert result.returncode == 3, result.stderr
    assert message in result.stderr
    assert "1 block failed" in result.stderr
    assert "3 done, 1 failed, 0 left of 4 blocks" in result.stdout


def test_what_a_block_changes_of_the_process_is_restored(tmp_path):
    changes = (
        "os.chdir('/'); signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "sys.stdout.close(); sys.stderr = None; os.close(1)"
    )
    result = command(tmp_path, changes)
    assert result.returncode == 0, result.stderr
    assert "done: 4 blocks" in result.stdout


def test_a_process_that_a_stage_forks_may_end(tmp_path):
    result = command(tmp_path, "pid = os.fork()\nif not pid: os._exit(0)\nos.waitpid(pid, 0)")
    assert result.returncode == 0, result.stderr


def test_a_block_that_exits_alone_is_a_failed_block(tmp_path):
    result = command(tmp_path, "os._exit(0)", "block", "p.yaml", "bad", "1", "0", "0")
    assert result.returncode == 3, result.stderr
    assert "BlockError: the block called os._exit(0)" in result.stderr
