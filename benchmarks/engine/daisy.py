"""Comparison with daisy: blocks that do nothing, on the same number of workers, in turns.

    python -m venv ../with-daisy && ../with-daisy/bin/pip install daisy==2.0.0
    python -m benchmarks.engine.daisy [BLOCKS] [WORKERS] [ROUNDS] --daisy-python PYTHON

The defaults are 100,000 blocks, 2 workers and 3 rounds. Daisy is not a dependency of volflow: it is
installed in a separate environment, whose Python is PYTHON (default: this one). The time is that of
one call, `execute` of volflow and `run_blockwise` of daisy, in a process that has imported
everything; starting and stopping workers is included. The same with a hundredth of the blocks gives
the constant cost of a run, and the slope between the two the cost of a block.
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

from benchmarks.engine.scale import LAYER, make_plan
from volflow.engine.driver import execute

SIDE_OF_DAISY = Path(__file__).with_name("daisy_side.py")
DAISY = "2.0.0"
"""The version of the numbers in docs/lab/scale.md."""


class Way(NamedTuple):
    """One way to run blocks, whether such a run can be resumed, and a function that times it."""

    name: str
    resumes: bool
    seconds: Callable[[int], float]


def time_volflow(cluster: str, workers: int, blocks: int) -> float:
    """Seconds of a whole run of this many blocks, a multiple of `LAYER`."""
    with tempfile.TemporaryDirectory(prefix="volflow-") as folder:
        plan, start = make_plan(folder, blocks), time.perf_counter()
        result = execute(plan, cluster=cluster, workers=workers)
        seconds = time.perf_counter() - start
        assert result.ok
        assert result.steps[0].done == blocks
        return seconds


def time_daisy(python: str, mode: str, tracking: bool, workers: int, blocks: int) -> float:
    """Seconds of `run_blockwise` with this many blocks."""
    with tempfile.TemporaryDirectory(prefix="daisy-") as folder:
        command = [python, "-P", str(SIDE_OF_DAISY), str(blocks), str(workers), mode]
        ran = subprocess.run(
            [*command, *[f"{folder}/tracking"] * tracking],
            stdout=subprocess.PIPE,
            check=True,
            cwd=folder,
        )
        outcome = json.loads(ran.stdout.splitlines()[-1])
        assert outcome["done"] == blocks, outcome
        return float(outcome["seconds"])


def version_of_daisy(python: str) -> str:
    """The version of daisy in an environment.

    Raises
    ------
    SystemExit
        If daisy is missing; the message contains the commands to install it.
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
        f"{python} does not import daisy ({reason}). Create an environment for it, and pass its "
        f"Python:\n  python -m venv ../with-daisy && ../with-daisy/bin/pip install daisy=={DAISY}\n"
        f"  python -m benchmarks.engine.daisy --daisy-python ../with-daisy/bin/python"
    )


def ways(python: str, workers: int) -> list[Way]:
    """All ways to compare; the first is volflow, the second daisy's usual one."""

    def theirs(mode: str, tracking: bool) -> Callable[[int], float]:
        return lambda blocks: time_daisy(python, mode, tracking, workers, blocks)

    return [
        Way(f"volflow, {workers} workers", True, lambda n: time_volflow("local", workers, n)),
        Way(f"daisy, {workers} workers", False, theirs("processes", False)),
        Way(f"daisy, {workers} workers, tracking_path", True, theirs("processes", True)),
        Way(f"daisy, {workers} workers with their own loops", False, theirs("loops", False)),
        Way("volflow, in one process", True, lambda n: time_volflow("none", 1, n)),
        Way("daisy, in one process", False, theirs("serial", False)),
        Way("daisy, in one process, tracking_path", True, theirs("serial", True)),
    ]


def per_block(seconds: float, few_seconds: float, blocks: int, few: int) -> float:
    """Milliseconds per block, without the constant cost of a run."""
    return 1000 * (seconds - few_seconds) / (blocks - few)


def table(times: dict[str, list[tuple[float, float]]], all_ways: list[Way], blocks: int) -> str:
    """A table of medians, from the seconds of few and of all blocks in each round."""
    lines = [
        f"| {blocks:,} blocks | resumes | whole call, s | ms per block of it | start, s |"
        " ms per block beyond it | range |",
        "|---|---|---|---|---|---|---|",
    ]
    for way in all_ways:
        rounds = times[way.name]
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
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine.daisy")
    parser.add_argument("blocks", type=int, nargs="?", default=100_000)
    parser.add_argument("workers", type=int, nargs="?", default=2)
    parser.add_argument("rounds", type=int, nargs="?", default=3)
    parser.add_argument("--daisy-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--ways", type=int, default=None, help="only this many, from the first")
    arguments = parser.parse_args()
    if arguments.blocks % LAYER or arguments.blocks <= LAYER:
        parser.error(
            f"BLOCKS: expected a multiple of {LAYER} greater than it; got {arguments.blocks}"
        )
    version = version_of_daisy(arguments.daisy_python)
    compared = ways(arguments.daisy_python, arguments.workers)[: arguments.ways]
    time_volflow("local", 1, LAYER)  # imports Dask
    times: dict[str, list[tuple[float, float]]] = {way.name: [] for way in compared}
    for number in range(arguments.rounds):
        for way in compared:
            seconds = way.seconds(LAYER), way.seconds(arguments.blocks)
            times[way.name].append(seconds)
            print(f"round {number + 1}: {way.name}: {seconds[0]:.2f} s, {seconds[1]:.2f} s")
    print(f"daisy {version}, medians of {arguments.rounds} rounds in turns,", end=" ")
    print(
        f"load {psutil.getloadavg()[0]:.0f}\n{table(times, compared, arguments.blocks)}", flush=True
    )


if __name__ == "__main__":
    main()
