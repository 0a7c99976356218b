"""The page of a scoring while its layers are served: every error links to its position."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from volflow.view.neuroglancer.scene import Scene, Target
from volflow.view.neuroglancer.state import PUBLIC_VIEWER, link
from volflow.view.report.score.error_sites import ErrorSite
from volflow.view.report.score.page import PAGE, link_names, page, score_plots
from volflow.view.server import LayerServer, MemorySource

SCORES = "_scores"  # no layer's name begins with `_`


def serve_scores(
    server: LayerServer,
    scene: Scene,
    document: Mapping[str, Any],
    run: str,
    show: Callable[[dict[str, Any]], str] | None = None,
) -> str:
    """Add the page of a scoring to a server.

    Parameters
    ----------
    server : LayerServer
        Made by `scene.serve`.
    scene : Scene
    document : mapping
        See `volflow.view.report.score.document.make_document`.
    run : str
        Folder or address of the scoring.
    show : function, optional
        Returns the address of a viewer with the given state. Without it the states are served
        too, and the links lead to Neuroglancer's public site.

    Returns
    -------
    str
        The page's address.
    """
    states, links = {}, {}
    for name, site, number in link_names(document):
        state = scene.state(server.url, target_of(document, scene, site, number))
        if show is not None:
            links[name] = show(state)
        else:
            states[f"{name}.json"] = json.dumps(state).encode()
            links[name] = link(PUBLIC_VIEWER, f"{server.url}/{SCORES}/{name}.json")
    body = page(document, run, score_plots(document), links)
    server.layers[SCORES] = MemorySource({PAGE: body.encode(), **states})
    return f"{server.url}/{SCORES}/{PAGE}"


def target_of(
    document: Mapping[str, Any], scene: Scene, site: ErrorSite, number: int | None = None
) -> Target:
    """The position of an error, or of one of its parts, and the segments to show there."""
    part = None if number is None else site.parts[number]
    shown = {layer.name for layer in scene.layers}
    segments = {}
    for place, labels in site.ids(part).items():
        volume = document["inputs"].get(place, {}).get("volume", "")
        if volume in shown:
            segments[volume] = tuple(label for label in labels if label)  # 0 is background
    return Target(site.place if part is None else part.position, segments)
