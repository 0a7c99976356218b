"""Runs hit by SIGKILL at random, each resumed: `python -m tests.soak_kills [COUNT [SEED]]`.

A seed determines which process is killed and when, as far as the machine allows.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests import kills
from tests.kills import kill, reference

PATIENCE = 1800.0  # seconds for a driver to end: a soak may take long, on a busy machine


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    kills.PATIENCE = PATIENCE
    hit: Counter[str] = Counter()
    bad = 0
    with tempfile.TemporaryDirectory(prefix="volflow-soak-") as folder:
        wanted = reference(Path(folder) / "reference")
        for seed in range(first, first + count):
            started = time.monotonic()
            case = kill(seed, Path(folder) / str(seed), wanted)
            print(f"{case} ({time.monotonic() - started:.0f} s)", flush=True)
            hit[case.victim] += bool(case.at)
            bad += bool(case.complaints)
            if not case.complaints:
                shutil.rmtree(Path(folder) / str(seed))
            else:
                print((Path(folder) / str(seed) / "log").read_text()[-3000:], flush=True)
    victims = ", ".join(f"{number} {victim}" for victim, number in sorted(hit.items()))
    print(f"{sum(hit.values())} killed ({victims}), {bad} of {count} went wrong", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
