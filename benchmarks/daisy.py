"""Beside daisy: blocks that do nothing, in turns, on as many workers.

    python -m venv ../with-daisy && ../with-daisy/bin/pip install daisy==2.0.0
    python -m benchmarks.daisy [BLOCKS] [WORKERS] [ROUNDS] --daisy-python ../with-daisy/bin/python

100,000 blocks, 2 workers and 3 rounds by default. Daisy is no dependency of ours: it lives in an
environment of its own, and without `--daisy-python` it is looked for in this one. What is timed is
one call, `execute` here and `run_blockwise` there, in a process that has imported everything:
workers are started and ended within it. The same with a hundredth of the blocks tells what does not
grow with the blocks, and the slope between the two what a block costs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.scale import LAYER, plan_of
from volflow.engine.driver import execute

SIDE_OF_DAISY = Path(__file__).with_name("daisy_side.py")
DAISY = "2.0.0"
"""The version that the numbers in docs/lab/scale.md are of."""


class Way(NamedTuple):
    """One way to run: whose, with workers or in one process, and whether it can be resumed."""

    name: str
    resumes: bool
    seconds: Callable[[int], float]


def ours(cluster: str, workers: int, blocks: int) -> float:
    """Seconds of a whole run of this many blocks, a multiple of `LAYER`."""
    with tempfile.TemporaryDirectory(prefix="volflow-") as folder:
        planned, begun = plan_of(folder, blocks), time.perf_counter()
        result = execute(planned, cluster=cluster, workers=workers)
        seconds = time.perf_counter() - begun
        assert result.ok
        assert result.steps[0].done == blocks
        return seconds


def daisys(python: str, mode: str, tracking: bool, workers: int, blocks: int) -> float:
    """Seconds that `run_blockwise` takes for this many blocks."""
    with tempfile.TemporaryDirectory(prefix="daisy-") as folder:
        command = [python, "-P", str(SIDE_OF_DAISY), str(blocks), str(workers), mode]
        ran = subprocess.run(
            [*command, *[f"{folder}/tracking"] * tracking],
            stdout=subprocess.PIPE,
            check=True,
            cwd=folder,
        )
        found = json.loads(ran.stdout.splitlines()[-1])
        assert found["done"] == blocks, found
        return float(found["seconds"])


def version_of_daisy(python: str) -> str:
    """The version of daisy that a Python has.

    Raises
    ------
    SystemExit
        If it has none; says how to get it.
    """
    code = "import importlib.metadata as m, daisy; print(m.version('daisy'))"
    try:
        ran = subprocess.run([python, "-P", "-c", code], capture_output=True, text=True)
        if ran.returncode == 0:
            return ran.stdout.strip()
        reason = (ran.stderr.strip().splitlines() or ["no reason given"])[-1]
    except OSError as error:
        reason = str(error)
    raise SystemExit(
        f"{python} does not import daisy ({reason}). Make an environment for it, and name its "
        f"Python:\n  python -m venv ../with-daisy && ../with-daisy/bin/pip install daisy=={DAISY}\n"
        f"  python -m benchmarks.daisy --daisy-python ../with-daisy/bin/python"
    )


def ways(python: str, workers: int) -> list[Way]:
    """All that is compared; the first one is ours, the second daisy's usual one."""

    def theirs(mode: str, tracking: bool) -> Callable[[int], float]:
        return lambda blocks: daisys(python, mode, tracking, workers, blocks)

    return [
        Way(f"volflow, {workers} workers", True, lambda n: ours("local", workers, n)),
        Way(f"daisy, {workers} workers", False, theirs("processes", False)),
        Way(f"daisy, {workers} workers, tracking_path", True, theirs("processes", True)),
        Way(f"daisy, {workers} workers with loops of their own", False, theirs("loops", False)),
        Way("volflow, in one process", True, lambda n: ours("none", 1, n)),
        Way("daisy, in one process", False, theirs("serial", False)),
        Way("daisy, in one process, tracking_path", True, theirs("serial", True)),
    ]


def per_block(seconds: float, few_seconds: float, blocks: int, few: int) -> float:
    """Milliseconds that a block costs beyond what a run costs however few blocks it has."""
    return 1000 * (seconds - few_seconds) / (blocks - few)


def table(found: dict[str, list[tuple[float, float]]], all_ways: list[Way], blocks: int) -> str:
    """The medians as a table, from seconds of few and of all blocks per round."""
    lines = [
        f"| {blocks:,} blocks | resumes | whole call, s | ms per block of it | start, s |"
        " ms per block beyond it | range |",
        "|---|---|---|---|---|---|---|",
    ]
    for way in all_ways:
        rounds = found[way.name]
        whole = statistics.median(seconds for _, seconds in rounds)
        start = statistics.median(few for few, _ in rounds)
        each = sorted(per_block(seconds, few, blocks, LAYER) for few, seconds in rounds)
        lines.append(
            f"| {way.name} | {'yes' if way.resumes else 'no'} | {whole:.2f} "
            f"| {1000 * whole / blocks:.4f} | {start:.2f} | {statistics.median(each):.4f} "
            f"| {each[0]:.4f} to {each[-1]:.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.daisy")
    parser.add_argument("blocks", type=int, nargs="?", default=100_000)
    parser.add_argument("workers", type=int, nargs="?", default=2)
    parser.add_argument("rounds", type=int, nargs="?", default=3)
    parser.add_argument("--daisy-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--ways", type=int, default=None, help="only the first so many")
    asked = parser.parse_args()
    if asked.blocks % LAYER or asked.blocks <= LAYER:
        parser.error(f"BLOCKS is a multiple of {LAYER} and more than it; got {asked.blocks}")
    version = version_of_daisy(asked.daisy_python)
    compared = ways(asked.daisy_python, asked.workers)[: asked.ways]
    ours("local", 1, LAYER)  # imports Dask
    found: dict[str, list[tuple[float, float]]] = {way.name: [] for way in compared}
    for number in range(asked.rounds):
        for way in compared:
            seconds = way.seconds(LAYER), way.seconds(asked.blocks)
            found[way.name].append(seconds)
            print(f"round {number + 1}: {way.name}: {seconds[0]:.2f} s, {seconds[1]:.2f} s")
    print(f"daisy {version}, medians of {asked.rounds} rounds in turns,", end=" ")
    print(f"load {psutil.getloadavg()[0]:.0f}\n{table(found, compared, asked.blocks)}", flush=True)


if __name__ == "__main__":
    main()
