"""Runs of volflow's own that are damaged: finished, stopped half way, or left by a dead driver.

The agglomeration of the second stopped, so that its records and layers are read again.
"""

from __future__ import annotations

import json
import shutil
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from click.testing import CliRunner

from tests.fuzz.kind import Traceback
from volflow.cli import main
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.io.run.ledger import Ledger
from volflow.io.run.lock import KEY as LOCK
from volflow.io.run.lock import _identity
from volflow.io.store import Store
from volflow.io.volume import Volume

BOUNDS = Box((2, 0, 4), (34, 32, 36))
RESOLUTION = (40.0, 8.0, 8.0)


def call(*arguments: object) -> tuple[int, str]:
    """The exit code and the output of a command, in this process.

    Raises
    ------
    Traceback
        If it ends with one, or as a bug of volflow's own.
    """
    result = CliRunner().invoke(main, [str(each) for each in arguments], prog_name="volflow")
    error = result.exception
    if error is not None and not isinstance(error, SystemExit):
        raise Traceback(f"{arguments[0]}: {''.join(traceback.format_exception(error))}")
    if result.exit_code == 1:
        raise Traceback(f"{arguments[0]}: {result.output[-4000:]}")
    return result.exit_code, result.output


def run_pipeline(folder: Path, format_: str, sharded: bool) -> dict[str, Any]:
    """A pipeline from affinities to scores, all of it below a folder."""
    layer = {"path": f"{format_}://{folder}/run/segmentation"}
    shard = {"chunk": [8, 8, 8], "shard": [16, 16, 16]} if sharded else {}
    return {
        "run": f"{folder}/run",
        "block": [16, 16, 16],
        "volumes": {
            "affinity": {"path": f"zarr3://{folder}/affinity"},
            "truth": {"path": f"zarr3://{folder}/truth"},
            "segmentation": {**layer, **shard},
        },
        "steps": [
            {"use": "fragments"},
            {"use": "agglomerate", "with": {"threshold": 0.3, "min_size": 20}},
            {"use": "relabel"},
            {"use": "pyramid", "in": {"labels": "segmentation"}, "with": {"levels": 1}},
            {"use": "score"},
        ],
    }


def make_run(format_: str, half: bool, sharded: bool, folder: Path) -> None:
    labels = _labels()
    _written(f"zarr3://{folder}/truth", labels, Layer("uint64", 0, "segmentation"))
    _written(f"zarr3://{folder}/affinity", _affinity(labels), Layer("uint8", 3, "affinity"))
    file = folder / "pipeline.yaml"
    file.write_text(yaml.safe_dump(run_pipeline(folder, format_, sharded), sort_keys=False))
    code, output = call("run", file)
    assert code == 0, output
    if half:
        _undo(folder / "run")


def make_left_run(folder: Path) -> None:
    """A half run whose driver died: its lock is left, and the record of a failed block."""
    make_run("zarr3", True, False, folder)
    run = folder / "run"
    holder = {**_identity(5.0), "pid": 2**22 + 1}  # more than Linux gives out
    Store(str(run)).write_json(LOCK, holder)
    step = next(s for s in json.loads((run / "outline.json").read_text())["steps"] if s["after"])
    failure = {"index": [0, 1, 0], "reason": "memory", "error": "137", "traceback": "line 12"}
    job = f"{step['name']}/{step['digest']}/{step['passes'][-1][0]}"
    Ledger(str(run)).mark_failed(job, 0, failure)


def _labels() -> np.ndarray:
    """Labels of a few boxes with gaps of 0 between them, uint64 (Z, Y, X)."""
    z, y, x = np.indices(BOUNDS.shape)
    labels = 1 + (z // 11) * 9 + (y // 11) * 3 + x // 11
    inside = (z % 11 > 0) & (y % 11 > 0) & (x % 11 > 0)
    return np.where(inside, labels, 0).astype(np.uint64)


def _affinity(labels: np.ndarray) -> np.ndarray:
    """Affinities of labels with noise, uint8 (3, Z, Y, X)."""
    rng = np.random.default_rng(0)
    channels = []
    for axis in range(3):
        same = (labels == np.roll(labels, 1, axis)) & (labels > 0)
        noise = rng.integers(0, 60, labels.shape)
        channels.append(np.where(same, 255 - noise, noise))
    return np.stack(channels).astype(np.uint8)


def _written(address: str, array: np.ndarray, layer: Layer) -> None:
    volume, _ = Volume.create(VolumeSpec(path=address), layer, BOUNDS, RESOLUTION, (16, 16, 16))
    volume.write(BOUNDS, array)


def _undo(run: Path) -> None:
    """Remove the markers of the later half of a run."""
    stored = json.loads((run / "outline.json").read_text())
    for step in stored["steps"]:
        if step["name"] == "fragments":
            continue
        names = [name for name, _ in step["passes"]]
        remaining = names[: len(names) // 2] if step["name"] == "agglomerate" else []
        for name in names:
            if name not in remaining:
                ledger = run / "ledger" / step["name"] / step["digest"] / name
                shutil.rmtree(ledger, ignore_errors=True)
    shutil.rmtree(run / "results", ignore_errors=True)
