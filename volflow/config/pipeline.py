"""The pipeline file: volumes, steps, and where the run is written; read, checked, written back.

Relative paths, in the file and in options alike, start at the current working directory.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    WithJsonSchema,
)

from volflow.config.file import read_yaml
from volflow.config.overrides import Overridden, apply
from volflow.config.problems import KeyPath, Problems, Where, keys_of
from volflow.core.geometry import Box, Triple
from volflow.errors import PlanError

NAME_PATTERN = r"[A-Za-z][A-Za-z0-9_-]*"
FORMATS = ("precomputed", "zarr", "zarr3", "n5", "tiff", "hdf5", "swc", "precomputed-skeletons")


def _name(text: str) -> str:
    if not re.fullmatch(NAME_PATTERN, text):
        raise ValueError(
            "expected a name of letters, digits, '_' and '-' that begins with a letter"
        )
    return text


def _box(text: str) -> str:
    box = Box.parse(text)
    if not box.size:
        raise ValueError("expected bounds with voxels in them")
    return text


def _run_address(text: str) -> str:
    if not text or text.partition("://")[0] in FORMATS:
        raise ValueError(
            "expected a folder or an address such as s3://BUCKET/KEY, without a format"
        )
    if "://" in text and "?" in text:
        raise ValueError(
            "expected an address without '?': a run's store is told by the environment"
        )
    return text


Name = Annotated[
    str,
    AfterValidator(_name),
    WithJsonSchema({"type": "string", "pattern": f"^{NAME_PATTERN}$"}),
]
Side = Annotated[int, Field(ge=1)]
BlockShape = tuple[Side, Side, Side]
Nanometres = Annotated[float, Field(gt=0)]


class Spec(BaseModel):
    """A part of the pipeline file: frozen, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True
    )


class VolumeSpec(Spec):
    """A volume: where it is, what its numbers mean, and how it is written if volflow writes it."""

    path: str = ""
    """Address; default, for a volume that a step writes: `precomputed://RUN/NAME`."""
    resolution: tuple[Nanometres, Nanometres, Nanometres] | None = None
    """Nanometres per voxel, z y x, where the format does not tell."""
    offset: Triple | None = None
    """Voxel coordinate of the first voxel, where the format does not tell."""
    level: Annotated[int, Field(ge=0)] = 0
    """Which scale of a volume with several is read."""
    channels: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Which stored channels are read, in which order; for affinities z, y, x."""
    offset_sign: Literal[-1, 1] = -1
    """Affinities: -1 if entry v joins v with the voxel before it, 1 with the one after it."""
    scale: float | None = None
    """Values are multiplied by this, rounded and clipped to uint8 (255 for affinities in 0..1)."""
    boundary: bool = False
    """One channel of boundary probability, from which affinities are made."""
    version: str | int | None = None
    """Raise it to say that the voxels of a foreign volume changed."""
    chunk: BlockShape | None = None
    """Chunk of a volume that volflow writes; default: from its writer's block."""
    shard: BlockShape | None = None
    """Voxels of a shard (precomputed, zarr3); default: not sharded."""
    encoding: str | None = None
    """precomputed: raw, compressed_segmentation, jpeg; zarr and n5: raw, gzip, zstd, blosc."""


class StepSpec(Spec):
    """A step: a stage, its parameters and what it is wired to."""

    use: Annotated[str, Field(min_length=1)]
    """Name of an installed stage, or `module:Class` of one of your own."""
    name: Name | None = None
    """Default: the name of its stage."""
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    """The parameters of the stage."""
    in_: dict[str, Name] = Field(default_factory=dict, alias="in")
    """Volume for each input; default: the volume of the input's own name."""
    out: dict[str, Name] = Field(default_factory=dict)
    """Volume for each output; default: the volume of the output's own name."""
    block: BlockShape | None = None
    """Voxels of a block, z y x; default: the pipeline's."""
    pool: str | None = None
    """Kind of worker; default: the stage's."""
    attempts: Annotated[int, Field(ge=1, le=10)] = 1
    """How often a block that raises is tried."""


def _some(steps: tuple[StepSpec, ...]) -> tuple[StepSpec, ...]:
    if not steps:
        raise ValueError("expected at least one step")
    return steps


class Pipeline(Spec):
    """A whole pipeline file."""

    run: Annotated[str, AfterValidator(_run_address)]
    """Folder or address that everything is written under."""
    volumes: dict[Name, VolumeSpec] = Field(default_factory=dict)
    """Volumes that exist, and those that are to be written in another way than by default."""
    steps: Annotated[tuple[StepSpec, ...], AfterValidator(_some)]
    """What is done; the order follows from who reads what."""
    block: BlockShape = (64, 64, 64)
    """Voxels of a block, z y x, for steps that give none."""
    bounds: Annotated[str, AfterValidator(_box)] | None = None
    """z0:z1,y0:y1,x0:x1 in voxels; default: those of the first input."""
    resolution: tuple[Nanometres, Nanometres, Nanometres] | None = None
    """Nanometres per voxel, z y x; default: that of the first input."""
    mask: Name | None = None
    """Volume (also a coarser one) that is zero where nothing is to be done."""
    bad_sections: tuple[int, ...] = ()
    """z of sections treated as masked."""

    _where: Where = PrivateAttr(default_factory=Where)

    @property
    def where(self) -> Where:
        """Where each part was written."""
        return self._where


@dataclass(frozen=True)
class Draft:
    """A pipeline as far as it can be read, and what is wrong with the file.

    `pipeline` is None where too little is right to go on looking for mistakes.
    """

    pipeline: Pipeline | None
    problems: tuple[str, ...] = ()

    def checked(self) -> Pipeline:
        """The pipeline, if nothing is wrong.

        Raises
        ------
        PlanError
            With all mistakes.
        """
        if self.pipeline is None or self.problems:
            raise PlanError(*self.problems)
        return self.pipeline


def load(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), bounds: str | None = None
) -> Pipeline:
    """Read a pipeline file, with `--set` options and bounds put in place of what it says.

    Parameters
    ----------
    path : path
        A YAML file; only plain values are read.
    overrides : sequence of str
        `dotted.key=value` each, values in YAML: `steps.agglomerate.threshold=0.4`,
        `volumes.em.path=em.zarr`, `block=[64,64,64]`, `run=DIR`.
    bounds : str, optional
        `z0:z1,y0:y1,x0:x1` in voxels.

    Raises
    ------
    PlanError
        With all mistakes in the file, each with its file, line and path.
    """
    return read(path, overrides, bounds).checked()


def from_dict(
    data: Mapping[str, Any], overrides: Sequence[str] = (), bounds: str | None = None
) -> Pipeline:
    """Check a pipeline given as a dict, as `load` does for a file.

    Raises
    ------
    PlanError
        With all mistakes, each with its path.
    """
    return read_dict(data, overrides, bounds).checked()


def read(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), bounds: str | None = None
) -> Draft:
    """Read a pipeline file as far as possible; see `load` for the parameters."""
    file = os.fspath(path)
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        return Draft(None, (f"{file}: cannot be read: {reason}",))
    found = read_yaml(text)
    problems = Problems(Where(file))
    for place, line, problem in found.problems:
        problems.add(place, problem, line)
    if not isinstance(found.data, dict):
        if not problems:
            problems.add((), "expected keys and values (run, volumes, steps)", 1)
        return Draft(None, tuple(problems.found))
    folder = str(Path(file).expanduser().resolve().parent)
    draft = _draft(Overridden(found.data, found.lines), file, (folder,), overrides, bounds)
    return Draft(draft.pipeline, (*problems.found, *draft.problems))


def read_dict(
    data: Mapping[str, Any], overrides: Sequence[str] = (), bounds: str | None = None
) -> Draft:
    """Read a pipeline given as a dict as far as possible; see `load` for the parameters."""
    return _draft(Overridden(_plain(data), {}), "", (), overrides, bounds)


def dump(pipeline: Pipeline) -> str:
    """A pipeline as text that `load` reads back to an equal one."""
    content = pipeline.model_dump(mode="json", by_alias=True, exclude_none=True)
    return yaml.safe_dump(content, sort_keys=False, width=100, allow_unicode=True)


def absolute(address: str) -> str:
    """The address with a relative or `~` path in it made absolute; other addresses unchanged."""
    scheme, mark, rest = address.partition("://")
    prefix = ""
    if mark and scheme in FORMATS:
        prefix, address = f"{scheme}://", rest
    path, question, query = address.partition("?")  # HDF5: FILE?dataset=NAME
    if not path or "://" in path:
        return prefix + address
    return prefix + os.path.abspath(os.path.expanduser(path)) + question + query


# --- from data to a pipeline ---------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """A copy in which paths are text and numbers of numpy are Python's, as a file has them."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _draft(
    target: Overridden,
    file: str,
    folders: tuple[str, ...],
    overrides: Sequence[str],
    bounds: str | None,
) -> Draft:
    here = os.getcwd()
    folders = folders if here in folders else (*folders, here)
    fields = {"": keys_of(Pipeline), "volumes": keys_of(VolumeSpec), "steps": keys_of(StepSpec)}
    unplaced = Problems(Where())
    apply(target, overrides, fields, unplaced)
    if bounds is not None:
        target.put(("bounds",), bounds, f"--bounds {bounds}")
    where = Where(file, target.lines, target.options, folders)
    problems = Problems(where)
    problems.found += unplaced.found
    pipeline = _validated(target.data, problems)
    if pipeline is not None:
        pipeline = _with_absolute_paths(pipeline)
        pipeline._where = where
    return Draft(pipeline, tuple(problems.found))


def _validated(data: dict[str, Any], problems: Problems) -> Pipeline | None:
    """The pipeline, without the keys that are wrong if it still stands without them."""
    try:
        return Pipeline.model_validate(data)
    except ValidationError as error:
        wrong = problems.add_validation(error, data, _keys_at)
    try:
        return Pipeline.model_validate(_without(data, wrong))
    except ValidationError:
        return None


def _keys_at(path: KeyPath) -> list[str]:
    model: type[BaseModel] = Pipeline
    if path:
        model = VolumeSpec if path[0] == "volumes" else StepSpec
    return keys_of(model)


def _without(data: dict[str, Any], paths: Sequence[KeyPath]) -> dict[str, Any]:
    """A copy without the keys at the paths, or the keys whose lists the paths lead into."""
    left = copy.deepcopy(data)
    for path in paths:
        lists = [n for n, part in enumerate(path) if isinstance(part, int)]
        inner = [n for n in lists if path[:n] != ("steps",)]
        key = path[: inner[0]] if inner else path
        here: Any = left
        for part in key[:-1]:
            here = here[part]
        if key and isinstance(here, dict):
            here.pop(key[-1], None)
    return left


def _with_absolute_paths(pipeline: Pipeline) -> Pipeline:
    volumes = {
        name: spec.model_copy(update={"path": absolute(spec.path)})
        for name, spec in pipeline.volumes.items()
    }
    return pipeline.model_copy(update={"run": absolute(pipeline.run), "volumes": volumes})
