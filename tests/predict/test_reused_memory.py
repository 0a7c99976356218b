"""Memory that stays in the process while a network runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from volflow.predict.reused_memory import SETTINGS

CODE = """
import json, resource
from volflow.predict.reused_memory import reused_memory

SIDE = 48 << 20
counts = {}

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def fill():
    before = faults()
    b"1" * SIDE
    return faults() - before

counts["before"] = fill()
with reused_memory():
    counts["first"] = fill()
    counts["again"] = min(fill() for _ in range(5))  # the system may take pages back
counts["after"] = fill()
print(json.dumps(counts))
"""
PAGES = (48 << 20) // os.sysconf("SC_PAGE_SIZE")


def page_faults(**environment: str) -> dict[str, int]:
    """Page faults of arrays filled before, in and after the context, in a process of its own."""
    without_settings = {name: v for name, v in os.environ.items() if name not in SETTINGS}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**without_settings, **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    counts: dict[str, int] = json.loads(done.stdout)
    return counts


def test_freed_memory_is_used_again_and_returned_at_the_end():
    counts = page_faults()
    assert counts["again"] < PAGES / 10
    assert min(counts[name] for name in ("before", "first", "after")) > PAGES * 0.9


def test_settings_of_the_user_stay():
    counts = page_faults(MALLOC_TRIM_THRESHOLD_="131072")
    assert min(counts.values()) > PAGES * 0.9
