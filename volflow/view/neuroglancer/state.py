"""Neuroglancer's own JSON state for a set of layers and a viewpoint.

Neuroglancer's axes are x, y, z; everything else here stays z, y, x.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from volflow.core.geometry import Resolution

PUBLIC_VIEWER = "https://neuroglancer-demo.appspot.com"

_GREY = """#uicontrol invlerp normalized
void main() {
  emitGrayscale(normalized());
}
"""
_RGB = """#uicontrol float brightness slider(min=0.2, max=3, default=1)
void main() {
  emitRGB(brightness * vec3(%s));
}
"""
_ARROW = """#uicontrol vec3 from color(default="#ffd400")
#uicontrol vec3 to color(default="#ff3b30")
void main() {
  setLineColor(vec4(from, 1.0), vec4(to, 1.0));
  setLineWidth(2.0);
  setEndpointMarkerColor(vec4(from, 1.0), vec4(to, 1.0));
  setEndpointMarkerSize(2.0, 6.0);
  setEndpointMarkerBorderWidth(0.0);
}
"""
_DOT = """#uicontrol vec3 colour color(default="#2ec4ff")
void main() {
  setColor(vec4(colour, 1.0));
  setPointMarkerSize(5.0);
}
"""
_PLAIN = "/:,{}[]@!$&'()*+;=?"  # characters that stay readable in a URL's fragment

# A quaternion x, y, z, w that turns a box so that three of its faces are seen.
_TILTED = [0.2064, -0.2936, -0.0651, 0.9311]

ANNOTATIONS = {"lines": _ARROW, "points": _DOT}
"""Shaders by the kind of annotations; lines grow from a thin end to a thick one, as arrows do."""


@dataclass(frozen=True)
class ViewerLayer:
    """A layer as Neuroglancer shows it.

    Parameters
    ----------
    name : str
    source : str
        Its address in Neuroglancer's notation: `precomputed://http://...`.
    kind : str
        image, affinity, segmentation, or one of annotations: lines or points.
    channels : int
        Of an affinity layer: the first three are red, green and blue.
    visible : bool
        Whether it is shown from the start; every layer can be switched on.
    segments : sequence of int
        The ids shown in full colour.
    contrast : (low, high), optional
        Of an image: the values shown as black and as white.
    objects : tuple of str
        Of a segmentation: the addresses of its skeletons and meshes.
    relations : sequence of str
        Of annotations: the names of their relations to the segments of `linked`.
    linked : str
        Of annotations: the layer of their segments; "": none.
    """

    name: str
    source: str
    kind: str
    channels: int = 0
    visible: bool = True
    segments: tuple[int, ...] = ()
    contrast: tuple[float, float] | None = None
    objects: tuple[str, ...] = ()
    relations: tuple[str, ...] = ()
    linked: str = ""


@dataclass(frozen=True)
class Viewpoint:
    """A point and the extent around it, in nanometres z, y, x, and the size of a voxel."""

    centre_nm: tuple[float, float, float]
    extent_nm: tuple[float, float, float]
    resolution: Resolution


def viewer_state(
    layers: Sequence[ViewerLayer], viewpoint: Viewpoint, panel: int = 450
) -> dict[str, Any]:
    """The state of a viewer with these layers, at a viewpoint.

    Parameters
    ----------
    layers : sequence of ViewerLayer
        The last one is drawn on top.
    viewpoint : Viewpoint
    panel : int
        Side of a panel in pixels, into which the extent has to fit.

    Returns
    -------
    dict
        JSON. Ids are text, because JavaScript's numbers are exact only up to 2**53.
    """
    unit = min(viewpoint.resolution)  # Neuroglancer's scales count the smallest side of a voxel
    extent = max(viewpoint.extent_nm) / unit
    centre = [c / r for c, r in zip(viewpoint.centre_nm, viewpoint.resolution, strict=True)]
    dimensions = zip("xyz", viewpoint.resolution[::-1], strict=True)
    front = [layer.name for layer in layers if layer.kind == "segmentation" and layer.visible]
    state: dict[str, Any] = {
        "dimensions": {axis: [side * 1e-9, "m"] for axis, side in dimensions},
        "position": centre[::-1],
        "crossSectionScale": extent / panel,
        "projectionScale": 1.9 * extent,
        "projectionOrientation": _TILTED,
        "layers": [_layer(layer) for layer in layers],
        "layout": "4panel-alt",
        "showSlices": True,
        "crossSectionBackgroundColor": "#181818",
        "hideCrossSectionBackground3D": True,
    }
    if front or layers:
        state["selectedLayer"] = {"layer": front[-1] if front else layers[0].name}
    return state


def link(viewer: str, state: str | dict[str, Any]) -> str:
    """The URL at which a Neuroglancer shows a state, or loads it from the URL given."""
    text = state if isinstance(state, str) else json.dumps(state, separators=(",", ":"))
    return f"{viewer}/#!{quote(text, safe=_PLAIN)}"


def _layer(layer: ViewerLayer) -> dict[str, Any]:
    """One entry of the state's list of layers."""
    common = {"name": layer.name, "source": layer.source, "visible": layer.visible}
    if layer.kind == "segmentation":
        sources = [layer.source, *layer.objects] if layer.objects else layer.source
        return {
            "type": "segmentation",
            **common,
            "source": sources,
            "segments": [str(segment) for segment in layer.segments],
            "selectedAlpha": 0.45,
            "notSelectedAlpha": 0.12,
        }
    if layer.kind in ANNOTATIONS:
        linked = {name: layer.linked for name in layer.relations if layer.linked}
        return {
            "type": "annotation",
            **common,
            "shader": ANNOTATIONS[layer.kind],
            "linkedSegmentationLayer": linked,
        }
    if layer.kind == "affinity" and layer.channels >= 2:
        colours = [f"toNormalized(getDataValue({c}))" for c in range(min(3, layer.channels))]
        colours += ["0.0"] * (3 - len(colours))
        return {"type": "image", **common, "shader": _RGB % ", ".join(colours)}
    controls = {"normalized": {"range": list(layer.contrast)}} if layer.contrast else {}
    return {"type": "image", **common, "shader": _GREY, "shaderControls": controls}
