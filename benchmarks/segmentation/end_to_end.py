"""Affinities to a stored segmentation: `volflow run segment` against waterz and volara, in turns.

    python -m venv ../others && ../others/bin/pip install waterz==0.10.1 volara==1.0.5 zarr
    python -m benchmarks.segmentation.end_to_end AFFINITY FOLDER [--turns 5] [--others PYTHON]

AFFINITY is an address of affinities, uint8 (3, Z, Y, X), such as precomputed://RUN/affinity. They
are copied to FOLDER first, as uint8 for volflow and waterz and as float32 for volara, since it
reads no other. Each program is a process of one worker that reads them, segments at a mean affinity
of 0.3 and stores the segments; volflow and volara in blocks of 128 x 128 x 128. Seconds are
processor time (user and system) of the whole process, start of Python and imports included.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import tensorstore as ts

from volflow.config.pipeline import VolumeSpec
from volflow.io.volume import Volume

SIDE = Path(__file__).with_name("end_to_end_side.py")
HERE = Path(__file__).resolve().parents[2]


def store(values: np.ndarray, path: Path, attributes: str = "{}") -> None:
    """Write an array as Zarr 2 in chunks of 3 x 64 x 64 x 64."""
    array = ts.open(
        {
            "driver": "zarr",
            "kvstore": f"file://{path}/",
            "metadata": {"chunks": [3, 64, 64, 64]},
        },
        create=True,
        delete_existing=True,
        dtype=values.dtype.name,
        shape=values.shape,
    ).result()
    array[...] = values
    (path / ".zattrs").write_text(attributes)


def seconds(command: list[str], folder: Path) -> tuple[float, float]:
    """Processor time in seconds and peak memory in MiB of a command, in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE),
        "OMP_NUM_THREADS": "1",
        "BLOSC_NTHREADS": "1",
    }
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def commands(folder: Path, others: str | None) -> dict[str, list[str]]:
    """The command of each program; its working folder takes what it writes."""
    affinity = f"zarr://{folder}/affinity.zarr"
    run = ["-m", "volflow", "-q", "run", "segment", "--until", "relabel", "--cluster", "none"]
    values = [f"volumes.affinity.path={affinity}", "volumes.affinity.resolution=[10, 10, 10]"]
    values += ["run=run", "steps.agglomerate.min_size=0"]
    chosen = [part for value in values for part in ("--set", value)]
    programs = {"volflow": [sys.executable, *run, *chosen]}
    if others:
        for name in ("waterz", "volara"):
            programs[name] = [others, str(SIDE), name, str(folder), "."]
    return programs


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__, add_help=False)
    parser.add_argument("affinity")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--others", help="a Python that has waterz and volara")
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    volume = Volume.open(VolumeSpec(path=options.affinity))
    values = volume.read(volume.bounds)
    store(values, folder / "affinity.zarr")
    attributes = '{"voxel_size": [1, 1, 1], "offset": [0, 0, 0]}'
    store(values.astype("float32") / np.float32(255), folder / "affinity_float.zarr", attributes)
    programs = commands(folder, options.others)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    seconds(programs["volflow"], folder / "volflow")  # compiles the kernels
    for turn in range(options.turns):
        for name in sorted(programs, reverse=bool(turn % 2)):
            taken[name].append(seconds(programs[name], folder / name))
            print(turn, name, *(f"{value:.2f}" for value in taken[name][-1]), flush=True)
    for name, turns in taken.items():
        ratios = [turn[0] / own[0] for turn, own in zip(turns, taken["volflow"], strict=True)]
        print(
            f"{name}: {statistics.median(turn[0] for turn in turns):.2f} s, "
            f"{statistics.median(turn[1] for turn in turns):.0f} MiB, "
            f"{statistics.median(ratios):.2f} of volflow's time "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
