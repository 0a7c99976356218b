"""The layers to show: those of a run, or volumes given by their addresses."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from volflow.config.pipeline import Pipeline, VolumeSpec, from_dict
from volflow.core.geometry import Resolution
from volflow.errors import PlanError, StorageError
from volflow.io.address import SKELETONS, TABLES, Address
from volflow.io.annotations.precomputed import TYPE as ANNOTATIONS
from volflow.io.formats.as_precomputed import scales_of
from volflow.io.run.stored_outline import NAME as OUTLINE
from volflow.io.run.stored_outline import stored_outline
from volflow.io.run.stored_pipeline import holds_run, stored_document
from volflow.io.store import Store
from volflow.io.volume import Volume

KINDS = ("image", "affinity", "segmentation")  # in the order in which they are drawn
UNKNOWN: Resolution = (1.0, 1.0, 1.0)
LABEL_WORDS = ("seg", "label", "truth", "fragment", "supervoxel", "neuron", "mask", "gt")


@dataclass(frozen=True)
class StoredLayer:
    """A layer and where it is stored; its volumes are opened at the first access.

    Parameters
    ----------
    name : str
    spec : VolumeSpec
        The address and, for a volume of the user's, the declaration of how to read it.
    kind : str
        One of `KINDS`.
    written : bool
        Whether the run wrote it.
    skeletons, meshes : str
        Of a segmentation: the folder of its precomputed skeletons or meshes; "": none.
    """

    name: str
    spec: VolumeSpec
    kind: str
    written: bool
    skeletons: str = ""
    meshes: str = ""

    @cached_property
    def scales(self) -> list[Volume]:
        """Its scales, the finest first; a chunk that is not written yet reads as zeros."""
        return scales_of(self.spec)


@dataclass(frozen=True)
class AnnotationLayer:
    """Annotations of a run, and the layer whose segments they belong to.

    Parameters
    ----------
    name : str
        That of the step.
    folder : str
        On this machine, with their `info`.
    lines : bool
        Whether they are lines; else points.
    relations : tuple of str
        The names of their relations to segments.
    segmentation : str
        The layer that these are in; "": unknown.
    """

    name: str
    folder: str
    lines: bool
    relations: tuple[str, ...]
    segmentation: str


@dataclass(frozen=True)
class LayerSet:
    """Layers that can be opened, and notes on those that cannot.

    Parameters
    ----------
    address : str
        The run's folder or address, for messages; of volumes without a run, their addresses.
    layers : tuple of StoredLayer
    notes : tuple of str
        Why a layer is missing.
    declared : 3 float, optional
        Nanometres per voxel, z y x, as the pipeline states them.
    annotations : tuple of AnnotationLayer
    """

    address: str
    layers: tuple[StoredLayer, ...]
    notes: tuple[str, ...] = ()
    declared: Resolution | None = None
    annotations: tuple[AnnotationLayer, ...] = ()

    @property
    def known_resolution(self) -> Resolution | None:
        """Nanometres per voxel, z y x, as declared or as the first volume records it."""
        if self.declared is not None:
            return self.declared
        return next(filter(None, (layer.scales[0].resolution for layer in self.layers)), None)

    @property
    def resolution(self) -> Resolution:
        """The known resolution, or 1 nm."""
        return self.known_resolution or UNKNOWN

    def of_kind(self, kind: str) -> list[StoredLayer]:
        """The layers of a kind: those that the run wrote first, the latest of them in front."""
        layers = [layer for layer in self.layers if layer.kind == kind]
        written = [layer for layer in layers if layer.written]
        return written[::-1] + [layer for layer in layers if not layer.written]

    def first(self, kind: str, name: str) -> StoredLayer | None:
        """The layer of a kind that has the name used in bundled pipelines, or else another."""
        layers = self.of_kind(kind)
        named = (layer for layer in layers if layer.name == name)
        return next(named, layers[0] if layers else None)


@dataclass(frozen=True, kw_only=True)
class RunLayers(LayerSet):
    """The layers of a run, with its pipeline."""

    pipeline: Pipeline


def is_run(address: str) -> bool:
    """Whether a folder or address holds a run."""
    try:
        return holds_run(address)
    except StorageError:
        return False


def run_layers(run: str) -> RunLayers:
    """The layers of a run, also of one that is unfinished, failed or was moved.

    Parameters
    ----------
    run : str
        Folder or address.

    Raises
    ------
    PlanError
        If there is no run.
    """
    store = Store(run)
    content, outline = stored_document(run), stored_outline(run)
    if outline is None:
        raise PlanError(f"{run} holds no run (it has no {OUTLINE})")
    pipeline = from_dict(content, (f"run={store.location}",))
    layers, notes = [], []
    skeletons, meshes = (_objects(outline, store.location, o) for o in ("skeletons", "meshes"))
    moved = _Moved(str(content["run"]), store.location)
    for layer in _declared(pipeline, outline, moved):
        try:
            _require_inside(layer, store.location)
            volume = layer.scales[0]
        except StorageError as error:
            notes.append(f"{layer.name}: {error}")
            continue
        kind = layer.kind or volume_kind(volume, layer.name)
        own = skeletons.get(layer.name, ""), meshes.get(layer.name, "")
        layers.append(replace(layer, kind=kind, skeletons=own[0], meshes=own[1]))
    taken = [layer.name for layer in layers]
    annotations = []
    for each in _annotations(outline, store.location):
        annotations.append(replace(each, name=_unused(each.name, taken)))
        taken.append(annotations[-1].name)
    return RunLayers(
        run,
        tuple(layers),
        tuple(notes),
        pipeline.resolution,
        tuple(annotations),
        pipeline=pipeline,
    )


def volume_layers(addresses: Sequence[str], kinds: Mapping[str, str] | None = None) -> LayerSet:
    """Layers of volumes that need not belong to a run.

    Parameters
    ----------
    addresses : sequence of str
        In any format that can be read. A layer has the name of its file without the ending, or
        of its dataset.
    kinds : mapping of str to str, optional
        Kind by layer name; default: guessed by `volume_kind`.

    Raises
    ------
    PlanError
        If a volume cannot be opened, chunks or sections of it are missing (`Volume.verify`), or
        `kinds` names a layer that is not there.
    """
    layers: list[StoredLayer] = []
    problems = []
    for address in addresses:
        name = _unused(layer_name(address), [layer.name for layer in layers])
        layer = StoredLayer(name, VolumeSpec(path=address), "", False)
        try:
            _require_volume(address)
            for volume in layer.scales:
                volume.verify()
            kind = volume_kind(layer.scales[0], name)
        except StorageError as error:
            problems.append(str(error))
            continue
        layers.append(replace(layer, kind=(kinds or {}).get(name, kind)))
    known = ", ".join(layer.name for layer in layers)
    for name in kinds or {}:
        if not problems and name not in known.split(", "):
            problems.append(f"--kind {name}=...: expected one of the layers {known}, got {name!r}")
    if problems:
        raise PlanError(*problems)
    return LayerSet(" ".join(addresses), tuple(layers))


def layer_name(address: str) -> str:
    """The name of a volume's file without its ending, or of its dataset; safe in a URL.

    `precomputed://gs://bucket/em` is `em`, `cells.ome.zarr` is `cells`, and
    `hdf5://v.h5?dataset=volumes/raw` is `raw`.
    """
    place = Address.parse(address)
    dataset = dict(place.query).get("dataset", "")
    name = PurePosixPath(dataset or place.location).name
    name = re.sub(r"(\.ome)?\.[A-Za-z][A-Za-z0-9]{0,10}$", "", name)
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_.") or "volume"


def volume_kind(volume: Volume, name: str) -> str:
    """The likely kind of a volume: by its metadata, its channels, its dtype, and its name.

    A volume that records that it is a segmentation is one. Otherwise three channels or more are
    affinities; unsigned integers of 32 or 64 bits are labels, and so are other integers if a word
    of the name is one of `LABEL_WORDS` or the volume is in the folder `labels` of an OME-Zarr.
    The rest are images.
    """
    if volume.kind in KINDS and volume.kind != "image":
        return volume.kind
    if volume.channels:
        return "affinity" if volume.channels >= 3 else "image"
    if volume.dtype.kind not in "iu":
        return "image"
    wide = volume.dtype.kind == "u" and volume.dtype.itemsize >= 4
    folder = PurePosixPath(Address.parse(volume.address).location).parent.name
    words = re.split(r"[^a-z]+", name.lower())
    named = folder == "labels" or any(word.startswith(LABEL_WORDS) for word in words)
    return "segmentation" if wide or named else "image"


@dataclass(frozen=True)
class _Moved:
    """The location of a run when it was started, and its present one."""

    before: str
    now: str

    def path(self, path: str) -> str:
        """A volume's present path."""
        address, old = Address.parse(path), Address.parse(self.before).location
        if not address.location.startswith(old + "/"):
            return path
        return str(replace(address, location=self.now + address.location[len(old) :]))


def _declared(pipeline: Pipeline, outline: dict[str, Any], moved: _Moved) -> Iterable[StoredLayer]:
    """Every layer, in the order of the steps; `kind` is empty where no stage declares it."""
    written = {entry["name"]: entry for entry in outline.get("layers", []) if entry["written"]}
    kinds = {entry["name"]: entry["kind"] for entry in outline.get("layers", [])}
    for name, spec in pipeline.volumes.items():
        if name not in written and spec.path:
            path = moved.path(spec.path)
            moved_spec = spec.model_copy(update={"path": path})
            yield StoredLayer(name, moved_spec, kinds.get(name, ""), False)
    for name, entry in written.items():
        yield StoredLayer(name, VolumeSpec(path=moved.path(entry["path"])), entry["kind"], True)


def _objects(outline: dict[str, Any], run: str, kind: str) -> dict[str, str]:
    """The folders of finished skeletons or meshes on this machine, by their segments' layer."""
    if Address.parse(run).local is None:
        return {}
    steps = {step["name"] for step in outline["steps"]}
    folders = {}
    for entry in outline.get("layers", []):
        step = entry.get(kind, "")
        folder = f"{run}/results/{step}/precomputed"
        if step in steps and os.path.exists(f"{folder}/info") and _is_inside(folder, run):
            folders[entry["name"]] = folder
    return folders


def _annotations(outline: dict[str, Any], run: str) -> Iterator[AnnotationLayer]:
    """The finished annotations on this machine."""
    if Address.parse(run).local is None:
        return
    steps = {step["name"] for step in outline["steps"]}
    for entry in outline.get("annotations", []):
        step = entry.get("step", "")
        folder = f"{run}/results/{step}/precomputed"
        if step not in steps or not _is_inside(folder, run):
            continue
        info = Store(folder).read_json("info")
        if not isinstance(info, dict) or info.get("@type") != ANNOTATIONS:
            continue
        relations = tuple(str(each["id"]) for each in info.get("relationships", []))
        lines = str(info.get("annotation_type", "")).lower() == "line"
        yield AnnotationLayer(step, folder, lines, relations, str(entry.get("segmentation", "")))


def _require_inside(layer: StoredLayer, run: str) -> None:
    """Refuse a layer in the run's folder that is a link to somewhere else."""
    place, folder = Address.parse(layer.spec.path).local, Address.parse(run).local
    if place is None or folder is None or not place.is_relative_to(folder):
        return
    if not _is_inside(place, folder):
        raise StorageError(f"{place} is a link that leads out of the run")


def _is_inside(place: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Whether a place is in a folder once all links are followed."""
    return os.path.realpath(place).startswith(os.path.realpath(folder) + os.sep)


def _require_volume(address: str) -> None:
    """Refuse what is no volume: a run, skeletons, a table."""
    if Address.parse(address).format_name in (*SKELETONS, *TABLES):
        raise StorageError(f"{address}: expected a volume, got skeletons or a table")
    if is_run(address):
        raise StorageError(f"{address} holds a run; expected volumes, or one run alone")


def _unused(name: str, taken: Sequence[str]) -> str:
    """The name, with a number after it if it is taken."""
    names = (name, *(f"{name}_{number}" for number in range(2, len(taken) + 2)))
    return next(name for name in names if name not in taken)
