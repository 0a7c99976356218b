"""Each file of a run is damaged, then read by `status`, `retry`, `view`, and a score."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.fuzz.damage import Damage
from tests.fuzz.kind import VOXELS, Content, Kind, Refusals, Traceback, differences
from tests.fuzz.run_files import call, make_left_run, make_run
from volflow.config.pipeline import VolumeSpec
from volflow.errors import VolflowError
from volflow.io.volume import Volume
from volflow.view.layers import run_layers
from volflow.view.neuroglancer.scene import make_scene
from volflow.view.report.score.document import errors_of, find_document

FORMATS = ("zarr3", "zarr", "n5", "precomputed")
REFUSALS = (2, 3, 4)
METADATA_FILES = ("info", ".zarray", ".zattrs", ".zgroup", "zarr.json", "attributes.json")


def _read(format_: str, commands: Sequence[str], folder: Path, intact: Content | None) -> Content:
    """Outputs of a run after commands.

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


_SCORE = (
    "score", "--segmentation", "{format}://{folder}/run/segmentation",
    "--truth", "zarr3://{folder}/truth", "--json",
)  # fmt: skip
_COMMANDS = {
    "status": _command("status", "{folder}/run", "--json"),
    "retry": _command("retry", "{folder}/run"),
    "again": _command("run", "{folder}/pipeline.yaml"),
    "view": _view,
    "score": _command(*_SCORE),
}
ALL = ("status", "retry", "view")


def _make_scored(folder: Path) -> None:
    """A run, and a folder with the report of its scores."""
    make_run("zarr3", False, False, folder)
    problem = _command(*_SCORE, "--out", "{folder}/scored")(folder, "zarr3")
    assert not problem, problem


def _read_scored(folder: Path, intact: Content | None) -> Content:
    """The document of a scoring, and the errors in it, as `volflow view` reads them."""
    document = find_document(str(folder / "scored"))
    assert document is not None
    refused = _command("status", "{folder}/scored")(folder, "")
    if refused:
        raise Refusals(refused)
    text = json.dumps(document, sort_keys=True, default=str)
    return {"document": text, "errors": repr(errors_of(document))}


def _sealed(damage: Damage, warnings: tuple[str, ...]) -> str:
    return ""


def _unsealed_chunks(damage: Damage, warnings: tuple[str, ...]) -> str:
    """Chunks without a checksum may be changed, but not lost."""
    is_metadata = damage.name in METADATA_FILES or damage.name.startswith("volflow.")
    return "" if is_metadata or damage.how == "deleted" else VOXELS


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
    make = partial(make_run, format_, half, sharded)
    return Kind(name, make, read, unknowable, only=only, by_folder=by_folder, weight=weight)


RUNS = [
    _kind("run: pipeline.yaml", "run/pipeline.yaml"),
    _kind("run: outline.json", "run/outline.json"),
    _kind("run: profile.json", "run/profile.json"),
    _kind("run: results", "run/results/*"),
    _kind("run: report data", "run/summary.json", "run/events/*", commands=(*ALL, "again")),
    _kind("run: markers", "run/ledger/*/done/*", half=True),
    Kind(
        "run: lock and failures", make_left_run, partial(_read, "zarr3", ALL),
        only=("run/volflow.lock.json", "run/ledger/*/failed/*"), weight=1,
    ),
    Kind(
        "run: report of scores", _make_scored, _read_scored,
        only=("scored/scores.json", "scored/outline.json", "scored/pipeline.yaml"), weight=1,
    ),
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
