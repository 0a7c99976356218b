"""Annotations of synthetic synapses: time, memory, files and bytes of the stage.

    python -m benchmarks.shape.annotations [ROWS] [--parquet]

A table of ROWS (1,000,000) synapses between 100,000 neurons in a volume of 80 x 64 x 64 µm, as CSV
or Parquet, read, checked and written by `volflow run`, workers included. The time is that of one
processor; the memory is the peak of the largest process.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from pathlib import Path

import numpy as np

import volflow
from volflow.io.tables.columns import csv_of
from volflow.io.tables.parquet import parquet_bytes

SHAPE = (2000, 8000, 8000)
RESOLUTION = (40.0, 8.0, 8.0)
NEURONS = 100_000


def table(rows: int) -> dict[str, np.ndarray]:
    """Synapses at random places, about 200 nm long, with ids beyond 2^53."""
    random = np.random.default_rng(0)
    side = np.array(RESOLUTION)
    pre = random.random((rows, 3)) * SHAPE * side
    post = np.clip(pre + random.normal(0, 100, (rows, 3)), 0, (np.array(SHAPE) - 1) * side)
    columns = {"synapse_id": (np.arange(rows, dtype=np.uint64) << np.uint64(24)) + np.uint64(1)}
    for name in ("pre", "post"):
        columns[name] = (random.integers(1, NEURONS + 1, rows) + (1 << 54)).astype(np.uint64)
    for name, place in (("pre", pre), ("post", post)):
        columns |= {f"{name}_{axis}": place[:, n].round(3) for n, axis in enumerate("zyx")}
    columns["size_vox"] = random.integers(100, 5000, rows)
    for name in ("score", "pre_score", "post_score", "area_nm2"):
        columns[name] = random.random(rows).round(3)
    return columns


def seconds() -> float:
    """Processor time of this process and of those that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--parquet", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("synapses.parquet" if given.parquet else "synapses.csv")
        columns = table(given.rows)
        path.write_bytes(parquet_bytes(columns) if given.parquet else csv_of(columns).encode())
        del columns
        document = {
            "run": f"{folder}/run",
            "bounds": ",".join(f"0:{side}" for side in SHAPE),
            "resolution": list(RESOLUTION),
            "block": [128, 128, 128],
            "volumes": {"synapses": {"path": str(path)}},
            "steps": [{"use": "annotations", "in": {"table": "synapses"}}],
        }
        before = seconds()
        result = volflow.run(document)
        used = seconds() - before
        assert result.ok
        written = Path(folder) / "run/results/annotations/precomputed"
        files = [file for file in written.rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files)
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(who).ru_maxrss for who in kinds)
    print(
        f"{given.rows:,} synapses from {path.suffix[1:]}: {used:.1f} s of one processor, ", end=""
    )
    print(f"{len(files)} files, {size / 1e6:.0f} MB; peak {peak / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
