"""A stage that records the place where its blocks were done."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from volflow.core.geometry import Block
from volflow.core.stage import Stage

TOLD = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "SLURM_JOB_PARTITION", "VOLFLOW_TEST_TRAIL")


class Witness(Stage):
    """Writes the environment of each process that does a block into a folder.

    A block waits until so many processes have come, so that each of them has done one.
    """

    folder: str
    together: int = 1

    def run(self, block: Block) -> dict[str, Any]:
        folder = Path(self.folder)
        reported = {name: os.environ.get(name, "") for name in TOLD}
        draft = folder / f"{os.getpid()}.draft"
        draft.write_text(json.dumps({**reported, "prefix": sys.prefix, "parent": os.getppid()}))
        draft.rename(folder / f"{os.getpid()}.json")
        while len(list(folder.glob("*.json"))) < self.together:
            time.sleep(0.05)
        return {}


def accounts(folder: Path) -> list[dict[str, Any]]:
    """Records of the processes, in the order of their workers."""
    actual = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return sorted(actual, key=lambda each: each["parent"])
