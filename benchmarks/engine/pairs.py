"""Processor time and peak memory of a command, of this version and another one, in turns.

    python -m benchmarks.engine.pairs [--fresh] [--turns 5] OLD ARGUMENT ...

OLD is a checkout of another version, for which the same Python environment serves; the ARGUMENTs
are those of `volflow`, and `FOLDER` in them stands for a folder of each version: with --fresh an
empty one in each turn, otherwise one in which the command ran once before the first turn. It prints
seconds of processor time (user and system, of all processes), the peak of the largest process in
MiB, and the ratios of the turns: this version to the other one.

    python -m benchmarks.engine.pairs OLD -q run fib25 --set run=FOLDER ...     a finished run again
    python -m benchmarks.engine.pairs OLD --help
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]


def measure(checkout: Path, arguments: list[str], folder: str) -> tuple[float, float]:
    """Processor time in seconds and peak memory in MiB of one command."""
    command = [sys.executable, "-m", "volflow", *(a.replace("FOLDER", folder) for a in arguments)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, cwd=folder)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{checkout}: {' '.join(command)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__, add_help=False)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("old", type=Path)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    arguments = options.arguments
    versions = {"old": options.old.resolve(), "new": HERE}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in versions}
    with tempfile.TemporaryDirectory(prefix="volflow-") as temporary:
        folders = {name: Path(temporary) / name for name in versions}
        for name, folder in folders.items():
            folder.mkdir()
            if not options.fresh:
                measure(versions[name], arguments, str(folder))
        for turn in range(options.turns):
            for name in sorted(versions, reverse=bool(turn % 2)):
                folder = folders[name] / str(turn) if options.fresh else folders[name]
                folder.mkdir(exist_ok=True)
                taken[name].append(measure(versions[name], arguments, str(folder)))
    for place, kind in enumerate(("seconds", "MiB")):
        new, old = ([turn[place] for turn in taken[name]] for name in ("new", "old"))
        ratios = [one / other for one, other in zip(new, old, strict=True)]
        print(
            f"{kind:8} old {statistics.median(old):.2f} new {statistics.median(new):.2f}, "
            f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
