"""Which layers a run has to show: those it wrote, and the volumes that its pipeline declares."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import yaml

from volflow.config.pipeline import Pipeline, VolumeSpec, from_dict
from volflow.errors import PlanError, StorageError
from volflow.io.address import Address
from volflow.io.formats.as_precomputed import scales_of
from volflow.io.formats.stored_array import Resolution
from volflow.io.store import Store
from volflow.io.volume import Volume

KINDS = ("image", "affinity", "segmentation")  # in the order in which they are drawn
_PLACE = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class RunLayer:
    """A layer of a run; its volumes are opened when they are asked for.

    `spec` says how it is read: what the run wrote, as it is; a volume of the user's, as the
    pipeline declares it. `own` is whether the run wrote it.
    """

    name: str
    spec: VolumeSpec
    kind: str
    own: bool

    @cached_property
    def scales(self) -> list[Volume]:
        """Its scales, the finest first; a chunk that is not written yet reads as zeros."""
        return scales_of(self.spec)


@dataclass(frozen=True)
class RunLayers:
    """The layers of a run that can be opened, and why others cannot."""

    address: str
    pipeline: Pipeline
    layers: tuple[RunLayer, ...]
    notes: tuple[str, ...]

    @property
    def resolution(self) -> Resolution:
        """Nanometres per voxel, z y x, of the run; 1 where nobody knows."""
        if self.pipeline.resolution is not None:
            return self.pipeline.resolution
        known = [layer.scales[0].resolution for layer in self.layers]
        return next(filter(None, known), _PLACE)

    def of_kind(self, kind: str) -> list[RunLayer]:
        """The layers of a kind: those that the run wrote first, what was written last before."""
        found = [layer for layer in self.layers if layer.kind == kind]
        return [x for x in found if x.own][::-1] + [x for x in found if not x.own]

    def first(self, kind: str, name: str) -> RunLayer | None:
        """The layer of a kind that has the name which shipped pipelines give it, or another."""
        found = self.of_kind(kind)
        return next((x for x in found if x.name == name), found[0] if found else None)


def run_layers(run: str) -> RunLayers:
    """The layers of a run, also of one that is under way, failed, or was moved.

    Parameters
    ----------
    run : str
        Folder or address.

    Raises
    ------
    PlanError
        If nothing was ever run there.
    """
    store = Store(run)
    text, outline = store.read("pipeline.yaml"), store.read_json("outline.json")
    if text is None or outline is None:
        raise PlanError(f"{run} holds no run (it has no pipeline.yaml)")
    content = yaml.safe_load(text)
    pipeline = from_dict(content, (f"run={store.location}",))
    layers, notes = [], []
    moved = _Moved(str(content["run"]), store.location)
    for name, spec, kind, own in _declared(pipeline, outline, moved):
        layer = RunLayer(name, spec, kind, own)
        try:
            _require_inside(layer, store.location)
            volume = layer.scales[0]
        except StorageError as error:
            notes.append(f"{name}: {error}")
            continue
        layers.append(RunLayer(name, spec, kind or _guess(volume, name), own))
    return RunLayers(run, pipeline, tuple(layers), tuple(notes))


@dataclass(frozen=True)
class _Moved:
    """Places of a run that may lie elsewhere than when it was started."""

    before: str
    now: str

    def path(self, path: str) -> str:
        """A volume's path as it is now."""
        address, old = Address.parse(path), Address.parse(self.before).location
        if not address.location.startswith(old + "/"):
            return path
        return str(replace(address, location=self.now + address.location[len(old) :]))


def _declared(
    pipeline: Pipeline, outline: dict[str, Any], moved: _Moved
) -> Iterable[tuple[str, VolumeSpec, str, bool]]:
    """Name, declaration, kind and owner of every layer, in the order of the steps."""
    written = {entry["name"]: entry for entry in outline.get("layers", []) if entry["written"]}
    kinds = {entry["name"]: entry["kind"] for entry in outline.get("layers", [])}
    for name, spec in pipeline.volumes.items():
        if name not in written and spec.path:
            path = moved.path(spec.path)
            yield name, spec.model_copy(update={"path": path}), kinds.get(name, ""), False
    for name, entry in written.items():
        yield name, VolumeSpec(path=moved.path(entry["path"])), entry["kind"], True


def _require_inside(layer: RunLayer, run: str) -> None:
    """A layer in the run's folder that leads out of it by a link is none of the run."""
    place, folder = Address.parse(layer.spec.path).local, Address.parse(run).local
    if place is None or folder is None or not place.is_relative_to(folder):
        return
    if not os.path.realpath(place).startswith(os.path.realpath(folder) + os.sep):
        raise StorageError(f"{place} is a link that leads out of the run")


def _guess(volume: Volume, name: str) -> str:
    """The kind of a volume that no stage has said anything of."""
    if volume.kind in KINDS and volume.kind != "image":
        return volume.kind
    if volume.channels:
        return "affinity" if volume.channels >= 3 else "image"
    wide = volume.dtype.kind == "u" and volume.dtype.itemsize >= 4
    return "segmentation" if wide or name in ("truth", "segmentation", "labels") else "image"
