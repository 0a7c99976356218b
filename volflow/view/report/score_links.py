"""The page of a scoring while its layers are served: every error is a link to its place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from volflow.view.neuroglancer.scene import Scene, Spot
from volflow.view.neuroglancer.state import PUBLIC_VIEWER, link
from volflow.view.report.offenders import Offender
from volflow.view.report.score_page import PAGE, drawn, link_names, page
from volflow.view.server import Fixed, LayerServer

SCORES = "_scores"  # beside the layers, whose names do not begin with `_`


def serve_scores(
    server: LayerServer,
    scene: Scene,
    document: Mapping[str, Any],
    run: str,
    show: Callable[[dict[str, Any]], str] | None = None,
) -> str:
    """Add the page of a scoring to what a server answers for.

    Parameters
    ----------
    server : LayerServer
        Made by `scene.serve`.
    scene : Scene
    document : mapping
        See `volflow.view.report.score_document.make_document`.
    run : str
        Where the scoring is.
    show : function, optional
        Gives the address of a viewer that shows a state. Without one the states are served, too,
        and the links lead to the Neuroglancer that its makers host.

    Returns
    -------
    str
        The page's address.
    """
    served, links = {}, {}
    for name, each, number in link_names(document):
        state = scene.state(server.url, spot(document, scene, each, number))
        if show is not None:
            links[name] = show(state)
        else:
            served[f"{name}.json"] = json.dumps(state).encode()
            links[name] = link(PUBLIC_VIEWER, f"{server.url}/{SCORES}/{name}.json")
    body = page(document, run, drawn(document), links)
    server.layers[SCORES] = Fixed({PAGE: body.encode(), **served})
    return f"{server.url}/{SCORES}/{PAGE}"


def spot(
    document: Mapping[str, Any], scene: Scene, each: Offender, number: int | None = None
) -> Spot:
    """Where an error, or one of its parts, is looked at, and the ids to see there."""
    part = None if number is None else each.parts[number]
    shown = {layer.name for layer in scene.layers}
    segments = {}
    for place, labels in each.ids(part).items():
        volume = document["inputs"].get(place, {}).get("volume", "")
        if volume in shown:
            segments[volume] = tuple(label for label in labels if label)  # 0 is no object
    return Spot(each.place if part is None else part.position, segments)
