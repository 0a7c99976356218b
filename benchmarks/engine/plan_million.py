"""Time of `volflow plan` for a volume of a million chunks, which are empty files.

    python -m benchmarks.engine.plan_million [SIDE] [TURNS]     100 and 3

The volume has SIDE chunks along each axis, in each layout of names. It is planned in blocks of one
chunk and in blocks of a thousand. Each time is that of a whole command: its start, all checks, and
the count of the chunks. A first run is not timed; it compiles modules and reads folders.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

CHUNK = 8  # voxels per side


def main() -> None:
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    turns = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    for name, make in LAYOUTS.items():
        with tempfile.TemporaryDirectory() as folder:
            address = make(Path(folder) / "volume", side)
            for blocks in (CHUNK, 10 * CHUNK):
                file = _pipeline(Path(folder), address, blocks)
                _plan(file)  # compiles the modules
                times = [_plan(file) for _ in range(turns)]
                each = "  ".join(f"{wall:.1f} ({cpu:.1f})" for wall, cpu in times)
                print(f"{side**3:,} chunks, {name}, blocks of {blocks}: {each} s (processor)")


def _plan(file: Path) -> tuple[float, float]:
    """Wall time and processor time of the command in seconds; it must not warn."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "volflow", "plan", str(file), "--json"]
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=own).stdout
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    warnings = json.loads(printed)["warnings"]
    assert not any("chunks" in warning for warning in warnings), warnings
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _pipeline(folder: Path, address: str, block: int) -> Path:
    file = folder / "pipeline.yaml"
    volume = {"path": address, "resolution": [10, 10, 10]}
    step = {"use": "convert", "in": {"volume": "image"}}
    pipeline = {"run": str(folder / "run"), "block": [block] * 3, "steps": [step]}
    file.write_text(json.dumps({**pipeline, "volumes": {"image": volume}}))
    return file


# --- layouts --------------------------------------------------------------------------------------


def _zarr(separator: str) -> Callable[[Path, int], str]:
    def make(folder: Path, side: int) -> str:
        metadata = {
            "zarr_format": 2,
            "shape": [side * CHUNK] * 3,
            "chunks": [CHUNK] * 3,
            "dtype": "|u1",
            "compressor": None,
            "fill_value": 0,
            "order": "C",
            "filters": None,
            "dimension_separator": separator,
        }
        numbers = [str(number) for number in range(side)]
        _touch(folder, map(separator.join, product(numbers, repeat=3)))
        (folder / ".zarray").write_text(json.dumps(metadata))
        return f"zarr://{folder}"

    return make


def _zarr3(folder: Path, side: int) -> str:
    encoding = {"name": "default", "configuration": {"separator": "/"}}
    metadata = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [side * CHUNK] * 3,
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [CHUNK] * 3}},
        "chunk_key_encoding": encoding,
        "fill_value": 0,
        "codecs": [{"name": "bytes"}],
        "dimension_names": ["z", "y", "x"],
    }
    numbers = [str(number) for number in range(side)]
    _touch(folder, (f"c/{'/'.join(parts)}" for parts in product(numbers, repeat=3)))
    (folder / "zarr.json").write_text(json.dumps(metadata))
    return f"zarr3://{folder}"


def _n5(folder: Path, side: int) -> str:
    metadata = {
        "dimensions": [side * CHUNK] * 3,
        "blockSize": [CHUNK] * 3,
        "dataType": "uint8",
        "compression": {"type": "raw"},
    }
    numbers = [str(number) for number in range(side)]
    _touch(folder, map("/".join, product(numbers, repeat=3)))
    (folder / "attributes.json").write_text(json.dumps(metadata))
    return f"n5://{folder}"


def _precomputed(folder: Path, side: int) -> str:
    scale = {
        "key": "10_10_10",
        "size": [side * CHUNK] * 3,
        "chunk_sizes": [[CHUNK] * 3],
        "resolution": [10, 10, 10],
        "voxel_offset": [0, 0, 0],
        "encoding": "raw",
    }
    info = {"type": "image", "data_type": "uint8", "num_channels": 1, "scales": [scale]}
    spans = [f"{first}-{first + CHUNK}" for first in range(0, side * CHUNK, CHUNK)]
    _touch(folder, (f"10_10_10/{'_'.join(parts)}" for parts in product(spans, repeat=3)))
    (folder / "info").write_text(json.dumps(info))
    return f"precomputed://{folder}"


def _touch(folder: Path, names: Iterator[str]) -> None:
    """Create empty files, with the folders that they need."""
    folders: set[str] = set()
    for name in names:
        path = f"{folder}/{name}"
        parent = os.path.dirname(path)
        if parent not in folders:
            os.makedirs(parent, exist_ok=True)
            folders.add(parent)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))


LAYOUTS: dict[str, Callable[[Path, int], str]] = {
    "zarr 2, nested": _zarr("/"),
    "zarr 2, flat": _zarr("."),
    "zarr 3, nested": _zarr3,
    "n5": _n5,
    "precomputed": _precomputed,
}


if __name__ == "__main__":
    main()
