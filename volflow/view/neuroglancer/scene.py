"""A run as Neuroglancer is given it: who answers for each layer, and the state that shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from volflow.config.pipeline import VolumeSpec
from volflow.errors import PlanError, StorageError
from volflow.io.address import Address
from volflow.io.formats.as_precomputed import Translated
from volflow.io.formats.precomputed import SEGMENTATIONS
from volflow.io.formats.stored_array import Resolution
from volflow.view.neuroglancer.layers import KINDS, RunLayer, RunLayers
from volflow.view.neuroglancer.position import contrast, useful_place
from volflow.view.neuroglancer.state import PUBLIC_VIEWER, LinkLayer, Place, link, viewer_state
from volflow.view.server import Fixed, Folder, Found, LayerServer

SCHEMES = {"precomputed": "precomputed", "zarr": "zarr2", "zarr3": "zarr3"}  # Neuroglancer's names
STATE = "_state"  # no layer's name begins with `_`
CLOSE = 0.5  # voxels per pixel around a spot: what touches there fills a panel


@dataclass(frozen=True)
class Spot:
    """What is to be looked at: a voxel z y x, counted in the run's resolution, and ids by layer.

    `position` None leaves the place as it is.
    """

    position: tuple[float, float, float] | None
    segments: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass
class Scene:
    """What is served and shown of a run.

    Attributes
    ----------
    sources : dict of str to Found
        Who answers for a layer.
    layers : list of LinkLayer
        In the order in which they are drawn; `{url}` in their sources stands for the server's.
    place : Place
    resolution : 3 float
        Nanometres per voxel of the run, z y x.
    notes : list of str
        What is not shown, or not as it is stored, and why.
    spot : Spot or None
        What is looked at instead of `place`.
    """

    place: Place
    resolution: Resolution
    sources: dict[str, Found] = field(default_factory=dict)
    layers: list[LinkLayer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    spot: Spot | None = None

    def state(self, url: str, spot: Spot | None = None) -> dict[str, Any]:
        """Neuroglancer's state, with the layers at a server's address.

        Parameters
        ----------
        url : str
            Of the server.
        spot : Spot, optional
            A place to be looked at closely; of its layers the ids are shown in full colour.
            Default: `self.spot`.
        """
        layers, place, spot = self.layers, self.place, spot or self.spot
        if spot is not None:
            layers = [
                replace(layer, segments=spot.segments[layer.name], visible=True)
                if layer.name in spot.segments and layer.kind == "segmentation"
                else layer
                for layer in layers
            ]
        if spot is not None and spot.position is not None:
            middle = zip(spot.position, self.resolution, strict=True)
            z, y, x = ((voxel + 0.5) * side for voxel, side in middle)
            place = replace(place, centre_nm=(z, y, x))
        state = viewer_state(layers, place)
        if spot is not None and spot.position is not None:
            state["crossSectionScale"] = min(CLOSE, state["crossSectionScale"])
        for layer in state["layers"]:
            layer["source"] = layer["source"].replace("{url}", url)
        return state

    def serve(self, port: int = 0) -> LayerServer:
        """A server of these layers, and of the state that shows them."""
        server = LayerServer(self.sources, port)
        body = json.dumps(self.state(server.url), indent=1).encode()
        server.layers[STATE] = Fixed({"state.json": body})
        return server


def public_link(server: LayerServer) -> str:
    """The address at which the Neuroglancer that its makers host shows what is served here."""
    return link(PUBLIC_VIEWER, f"{server.url}/{STATE}/state.json")


def make_scene(run: RunLayers) -> Scene:
    """Find out how each layer of a run is served and shown.

    Raises
    ------
    PlanError
        If there is no layer that can be shown.
    """
    notes = list(run.notes)
    answers: dict[str, tuple[Found, str]] = {}
    for layer in run.layers:
        try:
            answers[layer.name] = _answer(run, layer, notes)
        except StorageError as error:
            notes.append(f"{layer.name} is not shown: {error}")
    shown = [layer for layer in run.layers if layer.name in answers]
    if not shown:
        raise PlanError(*(notes or [f"{run.address} has no layer to show"]))
    run = RunLayers(run.address, run.pipeline, tuple(shown), ())
    front = run.first("segmentation", "segmentation")
    back = run.first("image", "em") or run.first("affinity", "affinity")
    place, segments = useful_place(run, front)
    sources = {name: found for name, (found, _) in answers.items()}
    scene = Scene(place, run.resolution, sources, notes=notes)
    for layer in sorted(shown, key=lambda layer: (KINDS.index(layer.kind), layer is front)):
        scene.layers.append(
            LinkLayer(
                layer.name,
                answers[layer.name][1],
                layer.kind,
                channels=layer.scales[0].channels,
                visible=layer in (front, back),
                segments=segments if layer is front else (),
                contrast=contrast(run, layer) if layer.kind == "image" else None,
            )
        )
    return scene


def _answer(run: RunLayers, layer: RunLayer, notes: list[str]) -> tuple[Found, str]:
    """Who answers for a layer, and its source as Neuroglancer writes it."""
    volume = layer.scales[0]
    address = Address.parse(volume.address)
    if layer.kind == "segmentation" and volume.dtype.name not in SEGMENTATIONS:
        raise StorageError(
            f"a segmentation of {volume.dtype} does not display in Neuroglancer "
            f"(it does of {', '.join(SEGMENTATIONS)})"
        )
    if address.local is not None and _as_it_stands(layer, address.format):
        source = f"{SCHEMES[address.format]}://{{url}}/{layer.name}/"
        return Folder(address.local), source
    found = Translated(layer.spec, layer.kind, run.resolution)
    why = f"is {address.format}"
    if address.local is None:
        why = "is not on this machine"
    elif layer.spec != VolumeSpec(path=layer.spec.path):
        why += " and read as declared"
    notes.append(f"{layer.name} {why}, so it is translated while it is looked at")
    return found, f"precomputed://{{url}}/{layer.name}/"


def _as_it_stands(layer: RunLayer, format_: str) -> bool:
    """Whether Neuroglancer reads the files of a volume, and reads them as the run does.

    Of zarr that is sure of what volflow wrote: other people's may lack a resolution or axes. Not
    of several channels either, which Neuroglancer takes for one more place to go through.
    """
    declared = layer.spec.model_dump(exclude={"path", "version", "chunk", "shard", "encoding"})
    if declared != VolumeSpec().model_dump(include=set(declared)):
        return False
    zarr = format_ in SCHEMES and layer.own and not layer.scales[0].channels
    return format_ == "precomputed" or zarr
