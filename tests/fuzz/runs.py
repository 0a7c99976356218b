"""Runs of volflow's own: each file that a run writes, then `status`, `retry`, `view`, and a score.

Two runs are damaged: a finished one, and one whose agglomeration stopped half way, so that its
records and layers are read again.
"""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from click.testing import CliRunner

from tests.fuzz.damage import Damage
from tests.fuzz.kind import VOXELS, Content, Kind, Refusals, Traceback, differences
from volflow.cli import main
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.errors import VolflowError
from volflow.io.volume import Volume
from volflow.view.layers import run_layers
from volflow.view.neuroglancer.scene import make_scene
from volflow.view.report.score.document import errors_of, find_document

BOUNDS = Box((2, 0, 4), (34, 32, 36))
RESOLUTION = (40.0, 8.0, 8.0)
FORMATS = ("zarr3", "zarr", "n5", "precomputed")
REFUSALS = (2, 3, 4)
METADATA_FILES = ("info", ".zarray", ".zattrs", ".zgroup", "zarr.json", "attributes.json")
DIAGNOSTIC = "a diagnosis, on which no voxel depends"


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


def _make(format_: str, half: bool, sharded: bool, folder: Path) -> None:
    labels = _labels()
    _written(f"zarr3://{folder}/truth", labels, Layer("uint64", 0, "segmentation"))
    _written(f"zarr3://{folder}/affinity", _affinity(labels), Layer("uint8", 3, "affinity"))
    file = folder / "pipeline.yaml"
    file.write_text(yaml.safe_dump(run_pipeline(folder, format_, sharded), sort_keys=False))
    code, output = call("run", file)
    assert code == 0, output
    if half:
        _undo(folder / "run")


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


# --- reading -------------------------------------------------------------------------------------


def _read(format_: str, commands: Sequence[str], folder: Path, intact: Content | None) -> Content:
    """The content of a run after commands.

    Where the last command that runs blocks ended well, all outputs have to be right, or refused
    when they are read, whatever the other commands refused.
    """
    refused: dict[str, str] = {}
    for command in commands:
        problem = _COMMANDS[command](folder, format_)
        if problem:
            refused[command] = problem
    runs = [command for command in commands if command in ("retry", "again")]
    if runs[-1] in refused:
        raise Refusals(*refused.values())
    content = _outputs(format_, folder / "run")
    if refused and (intact is None or not differences(intact, content)):
        raise Refusals(*refused.values())
    return content


def _outputs(format_: str, run: Path) -> Content:
    """The volumes and scores that a run wrote."""
    address = f"{format_}://{run}/segmentation"
    content: dict[str, Any] = {}
    for level in (0, 1):
        volume = Volume.open(VolumeSpec(path=address, level=level))
        content[f"bounds {level}"] = volume.bounds
        content[f"resolution {level}"] = volume.resolution
        content[f"voxels {level}"] = volume.read(volume.bounds)
    content["score"] = json.loads((run / "results/score.json").read_text())
    return content


def _command(*arguments: str) -> Callable[[Path, str], str]:
    """A command that is called in this process, and returns what it refuses; "" if it ends well."""

    def run(folder: Path, format_: str) -> str:
        texts = [each.format(folder=folder, format=format_) for each in arguments]
        code, output = call(*texts)
        if code and code not in REFUSALS:
            raise Traceback(f"{texts}: exit code {code}: {output}")
        return output if code else ""

    return run


def _view(folder: Path, format_: str) -> str:
    """The scene of a run and the sites of its errors, as `volflow view` makes them."""
    try:
        scene = make_scene(run_layers(str(folder / "run")))
        scene.state("http://127.0.0.1:1")
        document = find_document(str(folder / "run"))
        if document is not None:
            errors_of(document)
    except VolflowError as error:
        return str(error)
    return ""


_COMMANDS = {
    "status": _command("status", "{folder}/run", "--json"),
    "retry": _command("retry", "{folder}/run"),
    "again": _command("run", "{folder}/pipeline.yaml"),
    "view": _view,
    "score": _command(
        "score", "--segmentation", "{format}://{folder}/run/segmentation",
        "--truth", "zarr3://{folder}/truth", "--json",
    ),
}  # fmt: skip
ALL = ("status", "retry", "view")


def _sealed(damage: Damage, warnings: tuple[str, ...]) -> str:
    return ""


def _unsealed_chunks(damage: Damage, warnings: tuple[str, ...]) -> str:
    """Chunks without a checksum may be changed, but not lost."""
    is_metadata = damage.name in METADATA_FILES or damage.name.startswith("volflow.")
    return "" if is_metadata or damage.how == "deleted" else VOXELS


def _diagnostic(damage: Damage, warnings: tuple[str, ...]) -> str:
    return DIAGNOSTIC


def _kind(
    name: str,
    *only: str,
    half: bool = False,
    format_: str = "zarr3",
    commands: Sequence[str] = ALL,
    unknowable: Any = _sealed,
    sharded: bool = False,
    by_folder: bool = False,
    weight: int = 1,
) -> Kind:
    read = partial(_read, format_, commands)
    make = partial(_make, format_, half, sharded)
    return Kind(name, make, read, unknowable, only=only, by_folder=by_folder, weight=weight)


RUNS = [
    _kind("run: pipeline.yaml", "run/pipeline.yaml"),
    _kind("run: outline.json", "run/outline.json"),
    _kind("run: profile.json", "run/profile.json"),
    _kind("run: results", "run/results/*"),
    _kind("run: report data", "run/summary.json", "run/events/*", commands=(*ALL, "again")),
    _kind("run: markers", "run/ledger/*/done/*", half=True),
    _kind("run: records", "run/records/*", half=True),
    _kind("run: owner", "*/volflow.owner.*.json", commands=("status", "again", "view")),
    _kind(
        "run: layers of a half run", "run/fragments/*", half=True, by_folder=True,
        unknowable=_unsealed_chunks,
    ),
    *(
        _kind(
            f"run: layer {format_}", "run/segmentation/*", format_=format_,
            commands=("score", *ALL), by_folder=True, weight=2,
            unknowable=_sealed if format_ == "zarr3" else _unsealed_chunks,
        )
        for format_ in FORMATS
    ),
    *(
        _kind(
            f"run: layer {format_}, sharded", "run/segmentation/*", format_=format_, sharded=True,
            commands=("score", *ALL), by_folder=True, weight=2,
        )
        for format_ in ("zarr3", "precomputed")
    ),
    _kind("run: input", "affinity/*", half=True, by_folder=True, commands=("again", "view")),
]  # fmt: skip
