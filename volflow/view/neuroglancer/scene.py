"""A scene: the layers of a run or of volumes as they are served, and the state that shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Resolution
from volflow.errors import PlanError, StorageError
from volflow.io.address import Address
from volflow.io.formats.as_precomputed import Translated
from volflow.io.formats.precomputed import SEGMENTATIONS
from volflow.view.layers import KINDS, AnnotationLayer, LayerSet, StoredLayer
from volflow.view.neuroglancer.position import contrast, initial_view
from volflow.view.neuroglancer.state import (
    PUBLIC_VIEWER,
    ViewerLayer,
    Viewpoint,
    link,
    viewer_state,
)
from volflow.view.neuroglancer.stored_objects import having_objects
from volflow.view.server import FolderSource, LayerServer, LayerSource, MemorySource

SCHEMES = {"precomputed": "precomputed", "zarr": "zarr2", "zarr3": "zarr3"}  # Neuroglancer's names
STATE = "_state"  # no layer's name begins with `_`
SKELETONS, MESHES = ".skeletons", ".meshes"  # after the name of a layer, in their addresses
CLOSE = 0.5  # voxels per pixel around a target: a contact of two segments fills a panel


@dataclass(frozen=True)
class Target:
    """A position to look at closely, and the segments to show there.

    Parameters
    ----------
    position : 3 float or None
        Voxels z, y, x in the scene's resolution; None keeps the scene's viewpoint.
    segments : mapping of str to tuple of int
        Ids to show in full colour, by layer.
    """

    position: tuple[float, float, float] | None
    segments: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass
class Scene:
    """Layers, the sources that serve them, and the initial view.

    Attributes
    ----------
    sources : dict of str to LayerSource
        By layer.
    layers : list of ViewerLayer
        In the order in which they are drawn; `{url}` in their sources stands for the server's.
    viewpoint : Viewpoint
    resolution : 3 float
        Nanometres per voxel, z y x.
    notes : list of str
        Layers that are not shown, or not as they are stored, and why.
    target : Target or None
        What to look at instead of `viewpoint`.
    """

    viewpoint: Viewpoint
    resolution: Resolution
    sources: dict[str, LayerSource] = field(default_factory=dict)
    layers: list[ViewerLayer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    target: Target | None = None

    def state(self, url: str, target: Target | None = None) -> dict[str, Any]:
        """Neuroglancer's state, with the layers at a server's address.

        Parameters
        ----------
        url : str
            Of the server.
        target : Target, optional
            A position and segments to show. Default: `self.target`.
        """
        layers, viewpoint, target = self.layers, self.viewpoint, target or self.target
        if target is not None:
            layers = [
                replace(layer, segments=target.segments[layer.name], visible=True)
                if layer.name in target.segments and layer.kind == "segmentation"
                else layer
                for layer in layers
            ]
        if target is not None and target.position is not None:
            middle = zip(target.position, self.resolution, strict=True)
            z, y, x = ((voxel + 0.5) * side for voxel, side in middle)
            viewpoint = replace(viewpoint, centre_nm=(z, y, x))
        state = viewer_state(layers, viewpoint)
        if target is not None and target.position is not None:
            state["crossSectionScale"] = min(CLOSE, state["crossSectionScale"])
        for layer in state["layers"]:
            sources = layer["source"]
            if isinstance(sources, str):
                layer["source"] = sources.replace("{url}", url)
            else:
                layer["source"] = [source.replace("{url}", url) for source in sources]
        return state

    def serve(self, port: int = 0) -> LayerServer:
        """A server of these layers, and of the state that shows them."""
        server = LayerServer(self.sources, port)
        body = json.dumps(self.state(server.url), indent=1).encode()
        server.layers[STATE] = MemorySource({"state.json": body})
        return server


def public_link(server: LayerServer) -> str:
    """The URL at which Neuroglancer's public site shows a server's layers."""
    return link(PUBLIC_VIEWER, f"{server.url}/{STATE}/state.json")


def make_scene(layers: LayerSet) -> Scene:
    """Choose how each layer is served and shown.

    Raises
    ------
    PlanError
        If no layer can be shown.
    """
    notes = list(layers.notes)
    sources: dict[str, tuple[LayerSource, str]] = {}
    for layer in layers.layers:
        try:
            sources[layer.name] = _source(layers, layer, notes)
        except StorageError as error:
            notes.append(f"{layer.name} is not shown: {error}")
    shown = [layer for layer in layers.layers if layer.name in sources]
    if not shown:
        raise PlanError(*(notes or [f"{layers.address} has no layer to show"]))
    layers = replace(layers, layers=tuple(shown), notes=())
    front = layers.first("segmentation", "segmentation")
    back = layers.first("image", "em") or layers.first("affinity", "affinity")
    viewpoint, segments = initial_view(layers, front)
    for folder in (front.skeletons, front.meshes) if front is not None else ():
        segments = having_objects(folder, segments) if folder else segments
    by_name = {name: source for name, (source, _) in sources.items()}
    scene = Scene(viewpoint, layers.resolution, by_name, notes=notes)
    for layer in shown:
        for ending, folder in ((SKELETONS, layer.skeletons), (MESHES, layer.meshes)):
            if folder:
                by_name[layer.name + ending] = FolderSource(folder)
    for layer in sorted(shown, key=lambda layer: (KINDS.index(layer.kind), layer is front)):
        scene.layers.append(
            ViewerLayer(
                layer.name,
                sources[layer.name][1],
                layer.kind,
                channels=layer.scales[0].channels,
                visible=layer in (front, back),
                segments=segments if layer is front else (),
                contrast=contrast(layers, layer) if layer.kind == "image" else None,
                objects=_objects_of(layer),
            )
        )
    scene.layers += [_annotations(layers, layer, by_name) for layer in layers.annotations]
    return scene


def _annotations(
    layers: LayerSet, layer: AnnotationLayer, sources: dict[str, LayerSource]
) -> ViewerLayer:
    """A layer of annotations, linked to the segmentation that its segments are in."""
    shown = [each.name for each in layers.layers if each.kind == "segmentation"]
    front = layers.first("segmentation", "segmentation")
    linked = layer.segmentation if layer.segmentation in shown else ""
    if not layer.segmentation and front is not None:
        linked = front.name
    sources[layer.name] = FolderSource(layer.folder)
    return ViewerLayer(
        layer.name,
        f"precomputed://{{url}}/{layer.name}/",
        "lines" if layer.lines else "points",
        relations=layer.relations,
        linked=linked,
    )


def _objects_of(layer: StoredLayer) -> tuple[str, ...]:
    """The addresses of a layer's skeletons and meshes in Neuroglancer's notation."""
    folders = {SKELETONS: layer.skeletons, MESHES: layer.meshes}
    return tuple(
        f"precomputed://{{url}}/{layer.name}{ending}/" for ending, at in folders.items() if at
    )


def _source(layers: LayerSet, layer: StoredLayer, notes: list[str]) -> tuple[LayerSource, str]:
    """The source that serves a layer, and its address in Neuroglancer's notation.

    An image that the run averages is shown as it is stored, at its own voxel size.
    """
    volume, resolution = layer.scales[0], layers.resolution
    if layer.spec.downsample is not None:
        z, y, x = (side / f for side, f in zip(resolution, volume.downsample, strict=True))
        resolution = (z, y, x)
        layer = replace(layer, spec=layer.spec.model_copy(update={"downsample": None}))
    address = Address.parse(volume.address)
    if layer.kind == "segmentation" and volume.dtype.name not in SEGMENTATIONS:
        raise StorageError(
            f"Neuroglancer displays segmentations of {', '.join(SEGMENTATIONS)}, "
            f"not of {volume.dtype}; convert it with `volflow convert`"
        )
    if address.local is not None and _is_readable_as_stored(layer, address.format_name):
        source = f"{SCHEMES[address.format_name]}://{{url}}/{layer.name}/"
        return FolderSource(address.local), source
    translated = Translated(layer.spec, layer.kind, resolution)
    reason = f"is {address.format_name}"
    if address.local is None:
        reason = "is not on this machine"
    elif layer.spec != VolumeSpec(path=layer.spec.path):
        reason += " and read as declared"
    notes.append(f"{layer.name} {reason}, so it is translated while it is viewed")
    return translated, f"precomputed://{{url}}/{layer.name}/"


def _is_readable_as_stored(layer: StoredLayer, format_: str) -> bool:
    """Whether Neuroglancer reads the files of a volume, with the same meaning as the run.

    Zarr is served as stored only if volflow wrote it: other volumes may lack a resolution or
    axes. Zarr with several channels is not, because Neuroglancer takes them for another axis.
    """
    declared = layer.spec.model_dump(exclude={"path", "version", "chunk", "shard", "encoding"})
    if declared != VolumeSpec().model_dump(include=set(declared)):
        return False
    zarr = format_ in SCHEMES and layer.written and not layer.scales[0].channels
    return format_ == "precomputed" or zarr
