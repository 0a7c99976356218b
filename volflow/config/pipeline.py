"""The pipeline file: volumes, steps, and where the run is written; read, checked, written back.

Relative paths, in the file and in options, start at the current working directory.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import yaml
from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, ValidationError

from volflow.config.checked_file import check, read_data
from volflow.config.keys import KeyPath
from volflow.config.overrides import Overridden, apply_overrides
from volflow.config.problems import Problems, Where
from volflow.config.spec import BlockShape, Name, Nanometres, Spec
from volflow.core.geometry import Box, Triple
from volflow.core.stage.units import quantity
from volflow.errors import PlanError

FORMATS = ("precomputed", "zarr", "zarr3", "n5", "tiff", "hdf5", "swc", "precomputed-skeletons")


def _box(text: str) -> str:
    box = Box.parse(text)
    if not box.size:
        raise ValueError("expected bounds that contain voxels")
    return text


def _run_address(text: str) -> str:
    if not text or text.partition("://")[0] in FORMATS:
        raise ValueError(
            "expected a folder or an address such as s3://BUCKET/KEY, without a format"
        )
    if "://" in text and "?" in text:
        raise ValueError(
            "expected an address without '?'; the environment configures a run's store"
        )
    return text


def _values(given: Any) -> Any:
    """One value as a list of it."""
    return (given,) if isinstance(given, int) and not isinstance(given, bool) else given


def _downsampling(given: Any) -> Any:
    """Factors z y x, or the text of a length."""
    wanted = "expected factors z y x of 1 to 64 such as [1, 2, 2], or a length such as 6 nm"
    if isinstance(given, str):
        try:
            length = quantity(given, "6 nm")
        except ValueError as error:
            raise ValueError(wanted) from error
        if length.power != 1 or not length.number:
            raise ValueError(wanted)
        return given
    factors = given if isinstance(given, list | tuple) and len(given) == 3 else ()
    whole = [each for each in factors if isinstance(each, int) and not isinstance(each, bool)]
    if len(whole) != 3 or not all(1 <= factor <= 64 for factor in whole):
        raise ValueError(wanted)
    return tuple(given)


Downsampling: TypeAlias = Annotated[Triple | str, BeforeValidator(_downsampling)]
"""Factors z y x, or the least length of a voxel's sides."""
Ignored: TypeAlias = Annotated[
    tuple[Annotated[int, Field(ge=-(2**63), lt=2**64)], ...], BeforeValidator(_values)
]
"""Values of labels that are read as 0."""


class VolumeSpec(Spec):
    """A volume: its address, the meaning of its values, and how volflow writes it."""

    path: str = ""
    """Address; default, for a volume that a step writes: `precomputed://RUN/NAME`."""
    resolution: tuple[Nanometres, Nanometres, Nanometres] | None = None
    """Voxel size z y x, nanometres; default: as the format stores it."""
    offset: Triple | None = None
    """Coordinate of the first voxel z y x, voxels; default: as the format stores it, else 0."""
    level: Annotated[int, Field(ge=0)] = 0
    """The scale to read of a volume with several; 0 is the finest."""
    downsample: Downsampling | None = None
    """Read an image at coarser voxels, each the mean of a box of stored ones: factors z y x of 1 to
    64, such as [1, 2, 2]; or a length such as 6 nm: along each axis the factor is the smallest of
    1, 2, 4, ... for which voxels are at least that long. `resolution` and `offset` are those of
    the stored voxels. Default: as stored."""
    channels: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """The stored channels to read, in order, from 0; for affinities z, y, x. Default: all."""
    offset_sign: Literal[-1, 1] = -1
    """For affinities: -1 if the value at v joins v with the voxel before it, 1 if with the next."""
    scale: float | None = None
    """Factor that values are multiplied by before they are rounded and clipped to uint8; 255 for
    affinities in 0 to 1. Default: values are read unchanged."""
    boundary: bool = False
    """Whether the volume is one channel of boundary probability, to derive affinities from."""
    ignore: Ignored | None = None
    """Values of labels that stand for "not labelled", one or a list, such as -1; they are read as
    0, and signed labels as unsigned ones. An empty list declares that there are none. Default:
    none; the plan warns of such a value where it finds one."""
    missing: Literal["background"] | None = None
    """`background` declares that chunks which a volume of another program lacks, all of them
    perhaps, are background, whatever other files there are. Default: some chunk has to exist, and
    where one is missing no file of another name."""
    version: str | int | None = None
    """Version of the voxels of a volume that volflow did not write; a new version redoes the steps
    that read it."""
    chunk: BlockShape | None = None
    """Chunk shape z y x of a volume that volflow writes, voxels; default: from the block of the
    step that writes it."""
    shard: BlockShape | None = None
    """Shard shape z y x, voxels (precomputed, zarr3); default: not sharded."""
    encoding: str | None = None
    """precomputed: raw, compressed_segmentation, jpeg; zarr and n5: raw, gzip, zstd, blosc.
    Default: chosen by the kind of the volume."""


class StepSpec(Spec):
    """A step: a stage, its parameters, inputs and outputs."""

    use: Annotated[str, Field(min_length=1)]
    """Name of an installed stage, or `module:Class` of your own."""
    name: Name | None = None
    """Name of the step, unique in the file; default: the name of its stage."""
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    """The parameters of the stage."""
    in_: dict[str, Name] = Field(default_factory=dict, alias="in")
    """The volume of each input; default: the volume of the same name as the input."""
    out: dict[str, Name] = Field(default_factory=dict)
    """The volume of each output; default: a volume of the same name as the output."""
    block: BlockShape | None = None
    """Block shape z y x, voxels; default: the pipeline's."""
    pool: str | None = None
    """Pool of workers that runs the step; default: the stage's."""
    attempts: Annotated[int, Field(ge=1, le=10)] = 1
    """Maximum number of attempts for a block that raises an error, 1 to 10."""


def _some(steps: tuple[StepSpec, ...]) -> tuple[StepSpec, ...]:
    if not steps:
        raise ValueError("expected at least one step")
    return steps


class Pipeline(Spec):
    """A whole pipeline file."""

    run: Annotated[str, AfterValidator(_run_address)]
    """Folder or address to which everything is written."""
    volumes: dict[Name, VolumeSpec] = Field(default_factory=dict)
    """Volumes that exist, and settings of volumes that steps write."""
    steps: Annotated[tuple[StepSpec, ...], AfterValidator(_some)]
    """The steps; their order follows from the volumes they read and write."""
    block: BlockShape = (64, 64, 64)
    """Block shape z y x, voxels, of steps that set none."""
    bounds: Annotated[str, AfterValidator(_box)] | None = None
    """The part to process, z0:z1,y0:y1,x0:x1 in voxels, as they are read (`downsample` of a
    volume); default: the bounds of the first input."""
    resolution: tuple[Nanometres, Nanometres, Nanometres] | None = None
    """Voxel size z y x, nanometres; default: that of the first input."""
    mask: Name | None = None
    """A volume, possibly of a coarser scale, that is zero where nothing is processed."""
    bad_sections: tuple[int, ...] = ()
    """z of sections that are treated as masked, voxels."""
    closed_sections: tuple[int, ...] = ()
    """z of sections that are left out, voxels: the others are closed up, and the labels of these
    are copied from the nearest section in the end."""

    _where: Where = PrivateAttr(default_factory=Where)

    @property
    def where(self) -> Where:
        """File and line, or option, of each part."""
        return self._where


@dataclass(frozen=True)
class Draft:
    """A pipeline as far as it can be read, and the problems of its file.

    `pipeline` is None where too little is valid to check any further.
    """

    pipeline: Pipeline | None
    problems: tuple[str, ...] = ()

    def checked(self) -> Pipeline:
        """The pipeline, if it has no problems.

        Raises
        ------
        PlanError
            With all problems.
        """
        if self.pipeline is None or self.problems:
            raise PlanError(*self.problems)
        return self.pipeline


def load(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), bounds: str | None = None
) -> Pipeline:
    """Read a pipeline file, with `--set` options and bounds in place of the file's.

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
        With all problems, each with its file, line and path.
    """
    return read(path, overrides, bounds).checked()


def from_dict(
    data: Mapping[str, Any], overrides: Sequence[str] = (), bounds: str | None = None
) -> Pipeline:
    """Check a pipeline given as a dict, as `load` does for a file.

    Raises
    ------
    PlanError
        With all problems, each with its path.
    """
    return read_dict(data, overrides, bounds).checked()


def read(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), bounds: str | None = None
) -> Draft:
    """Read a pipeline file as far as possible; see `load` for the parameters."""
    file = os.fspath(path)
    try:
        target, problems = read_data(path, Pipeline)
    except PlanError as error:
        return Draft(None, tuple(error.problems))
    folder = str(Path(file).expanduser().resolve().parent)
    return _draft(target, problems, (folder,), overrides, bounds)


def read_dict(
    data: Mapping[str, Any], overrides: Sequence[str] = (), bounds: str | None = None
) -> Draft:
    """Read a pipeline given as a dict as far as possible; see `load` for the parameters."""
    return _draft(Overridden(_plain(data), {}), Problems(Where()), (), overrides, bounds)


def dump(pipeline: Pipeline) -> str:
    """A pipeline as YAML text, from which `load` reads an equal one."""
    content = pipeline.model_dump(mode="json", by_alias=True, exclude_none=True)
    return yaml.safe_dump(content, sort_keys=False, width=100, allow_unicode=True)


def absolute(address: str) -> str:
    """An address with its relative or `~` path made absolute; other addresses are unchanged."""
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
    """A copy with paths as text and numpy numbers as Python's, as a file has them."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _draft(
    target: Overridden,
    problems: Problems,
    folders: tuple[str, ...],
    overrides: Sequence[str],
    bounds: str | None,
) -> Draft:
    here = os.getcwd()
    folders = folders if here in folders else (*folders, here)
    for problem in apply_overrides(target, overrides, Pipeline, folders):
        problems.add_sentence(problem)
    if bounds is not None:
        target.put(("bounds",), bounds, f"--bounds {bounds}")
    checked = check(target, Pipeline, problems, folders)
    pipeline = checked.value
    if pipeline is None:  # continue without the invalid keys, to find more problems
        try:
            pipeline = Pipeline.model_validate(
                _without(target.data, [problem.path for problem in checked.rejected])
            )
        except ValidationError:
            return Draft(None, tuple(problems.found))
    pipeline = _with_absolute_paths(pipeline)
    pipeline._where = problems.where
    return Draft(pipeline, tuple(problems.found))


def _without(data: dict[str, Any], paths: Sequence[KeyPath]) -> dict[str, Any]:
    """A copy without the keys at the paths, or without the lists that the paths lead into."""
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
