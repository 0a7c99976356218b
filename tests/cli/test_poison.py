"""The poison set: of 40 blocks 4 raise, 2 segfault, 1 eats memory and 1 hangs."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.engine.executors.base import MachineResources
from volflow.io.volume import Volume

pytestmark = pytest.mark.cluster

POISON = {
    "raises": [[0, 0, 1], [1, 1, 1], [2, 0, 3], [4, 1, 3]],
    "segfaults": [[0, 1, 2], [3, 0, 0]],
    "eats": [[2, 1, 0]],
    "hangs": [[3, 1, 2]],
}
REASONS = {"raises": "exception", "segfaults": "signal", "eats": "memory", "hangs": "timeout"}
MOST = 220 << 20  # bytes of a worker; one at work takes 100 million


def test_exactly_the_poison_blocks_are_reported_with_their_causes(
    volflow, toy, tmp_path, monkeypatch
):
    room = MachineResources(2, 2 * MOST * 10 // 9)
    monkeypatch.setattr(
        "volflow.engine.plan.planner.PROCESS_MEMORY", 100 << 20
    )  # without numba and torch
    monkeypatch.setattr(MachineResources, "here", classmethod(lambda cls: room))
    pipeline = toy(POISON, "Poison", bounds="0:40,0:16,0:32")
    local = ["--cluster", "local", "--workers", "2", "--timeout", "15"]
    result = volflow("run", pipeline, *local)
    assert result.exit_code == 3
    assert "8 blocks failed" in result.stderr
    assert "not started: double" in result.stderr

    reported = json.loads(volflow("status", tmp_path / "run", "--json").output)
    actual = {tuple(each["index"]): each["reason"] for each in reported["failures"]}
    assert len(reported["failures"]) == 8
    assert actual == {
        tuple(index): REASONS[kind] for kind, blocks in POISON.items() for index in blocks
    }
    index, double = reported["steps"]
    assert (index["total"], index["done"], index["failed"]) == (40, 32, 8)
    assert index["causes"] == {"exception": 4, "memory": 1, "signal": 2, "timeout": 1}
    assert (double["total"], double["blocked"]) == (40, 40)
    table = volflow("status", tmp_path / "run").output
    assert re.search(r"index .*4 exception, 1 memory, 2 signal, 1 timeout", table)

    volume = Volume.open(VolumeSpec(path=f"precomputed://{tmp_path}/run/index"), own=True)
    for number, (z, y, x) in enumerate(np.ndindex(5, 2, 4)):
        start = (8 * z, 8 * y, 8 * x)
        if (z, y, x) not in actual:
            block = volume.read(Box(start, (8 * z + 8, 8 * y + 8, 8 * x + 8)))
            assert block.min() > 0, f"block {number} was not written"
