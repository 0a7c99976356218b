"""`view`: a run in Neuroglancer."""

from __future__ import annotations

import contextlib
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from volflow.errors import PlanError

if TYPE_CHECKING:
    from rich.console import Console

    from volflow.view.neuroglancer.scene import Scene
    from volflow.view.server import LayerServer

COMPLAINTS = 5  # of the browser that are printed
LARGEST = 8192  # pixels along a side of a screenshot


def _size(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, int]:
    width, mark, height = text.partition("x")
    if not (mark and width.isdecimal() and height.isdecimal()):
        raise click.BadParameter(f"expected WIDTHxHEIGHT in pixels, got {text!r}")
    sides = int(width), int(height)
    if not all(200 <= side <= LARGEST for side in sides):
        raise click.BadParameter(f"expected sides of 200 to {LARGEST} pixels, got {text!r}")
    return sides


def _place(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        z, y, x = (float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"expected Z,Y,X in voxels, got {text!r}") from error
    return (z, y, x)


def _segments(
    context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for text in texts:
        layer, mark, ids = text.rpartition("=")
        numbers = ids.split(",")
        if not all(number.isdecimal() for number in numbers) or (mark and not layer):
            raise click.BadParameter(f"expected ID,ID,... or LAYER=ID,ID,..., got {text!r}")
        layer = layer or "segmentation"
        found[layer] = found.get(layer, ()) + tuple(map(int, numbers))
    return found


@click.command()
@click.argument("address", metavar="RUN")
@click.option("--at", callback=_place, metavar="Z,Y,X", help="Look closely at this voxel.")
@click.option(
    "--segments",
    multiple=True,
    callback=_segments,
    metavar="LAYER=ID,ID,...",
    help="Show these in full colour, of `segmentation` where no layer is named. May be repeated.",
)
@click.option(
    "--port",
    default=0,
    type=click.IntRange(0, 65534),
    help="For the layers; the viewer has the next one. Default: any that are free.",
)
@click.option("--no-open", is_flag=True, help="Print the viewer's address, open no browser.")
@click.option(
    "--screenshot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Render it in a headless browser, and end.",
)
@click.option(
    "--size",
    default="1400x900",
    callback=_size,
    metavar="WxH",
    show_default=True,
    help="Of the screenshot, in pixels.",
)
def view(
    address: str,
    at: tuple[float, float, float] | None,
    segments: dict[str, tuple[int, ...]],
    port: int,
    no_open: bool,
    screenshot: Path | None,
    size: tuple[int, int],
) -> None:
    """Look at RUN in Neuroglancer.

    Its layers are served on 127.0.0.1 until Ctrl-C, to nobody but this machine. What Neuroglancer
    does not read (HDF5, TIFF, PNG sections) is translated for it. Where RUN was scored (`volflow
    score --out RUN`, or a step `score`) the report is served, too, with a link to each error.
    """
    from volflow.cli.terminal.formatting import output
    from volflow.view.neuroglancer.layers import run_layers
    from volflow.view.neuroglancer.scene import make_scene

    if screenshot is not None:
        _check_screenshot(screenshot)
    console = output()
    scene = make_scene(run_layers(address))
    if at is not None or segments:
        _look_at(scene, at, segments)
    with scene.serve(port) as server:
        _tell(console, scene, server)
        if screenshot is not None:
            _shoot(console, scene, server, screenshot, size)
        else:
            _show(console, scene, server, port, not no_open, address)


def _look_at(
    scene: Scene, at: tuple[float, float, float] | None, segments: dict[str, tuple[int, ...]]
) -> None:
    """Turn a scene to a voxel and to some ids, if it has them."""
    from volflow.view.neuroglancer.scene import Spot

    shown = {layer.name: layer.kind for layer in scene.layers}
    labels = [name for name, kind in shown.items() if kind == "segmentation"]
    wrong = [
        f"--segments {name}=...: there is no segmentation of that name "
        f"(shown: {', '.join(labels) or 'none'})"
        for name in segments
        if name not in labels
    ]
    if wrong:
        raise PlanError(*wrong)
    scene.spot = Spot(at, segments)


def _check_screenshot(path: Path) -> None:
    """Say what is wrong with a screenshot before anything is started."""
    from volflow.view.neuroglancer.viewer import missing_browser

    lacking = missing_browser()
    if lacking:
        raise PlanError(f"--screenshot needs {lacking}")
    if path.suffix.lower() != ".png":
        raise PlanError(f"--screenshot {path}: expected a name that ends in .png")
    if not path.absolute().parent.is_dir():
        raise PlanError(f"--screenshot {path}: there is no folder {path.absolute().parent}")


def _tell(console: Console, scene: Scene, server: LayerServer) -> None:
    for layer in scene.layers:
        source = layer.source.replace("{url}", server.url)
        console.print(f"{layer.name:<14} {layer.kind:<13} {source}", markup=False, soft_wrap=True)
    for note in scene.notes:
        console.print(note, markup=False, style="dim", soft_wrap=True)


def _show(
    console: Console, scene: Scene, server: LayerServer, port: int, open_: bool, run: str
) -> None:
    """Open a browser, and go on until Ctrl-C."""
    from volflow.view.neuroglancer.scene import public_link
    from volflow.view.neuroglancer.viewer import (
        another_viewer,
        missing_package,
        neuroglancer_viewer,
    )
    from volflow.view.report.score_document import find_document
    from volflow.view.report.score_links import serve_scores

    lacking = missing_package("neuroglancer")
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        url = page = ""
        if lacking:
            console.print(f"\nthere is no viewer here: {lacking}", markup=False, soft_wrap=True)
        else:
            state = scene.state(server.url)
            viewer = stack.enter_context(neuroglancer_viewer(state, port + 1 if port else 0))
            url = viewer.get_viewer_url()
            console.print(f"\n{url}", markup=False, soft_wrap=True, style="bold")
        document = find_document(run)
        if document is not None:
            viewers: list[Any] = []

            def show(state: dict[str, Any]) -> str:
                viewers.append(another_viewer(state))
                return str(viewers[-1].get_viewer_url())

            page = serve_scores(server, scene, document, run, show if url else None)
            told = f"the scores, with a link to each error: {page}"
            console.print(told, markup=False, soft_wrap=True, style="bold")
        console.print(
            f"any Neuroglancer in a browser on this machine shows the same: {public_link(server)}",
            markup=False,
            soft_wrap=True,
            style="dim",
        )
        console.print("Ctrl-C ends it", style="dim")
        if open_ and (page or url):
            webbrowser.open(url if scene.spot else page or url)
        threading.Event().wait()


def _shoot(
    console: Console, scene: Scene, server: LayerServer, path: Path, size: tuple[int, int]
) -> None:
    from volflow.view.neuroglancer.viewer import neuroglancer_viewer, screenshot

    with neuroglancer_viewer(scene.state(server.url)) as viewer:
        shot = screenshot(viewer, size)
    path.write_bytes(shot.png)
    for complaint in shot.complaints[:COMPLAINTS]:
        click.echo(f"volflow: the browser said: {complaint}", err=True)
    more = len(shot.complaints) - COMPLAINTS
    if more > 0:
        click.echo(f"volflow: and {more} more of the kind", err=True)
    console.print(f"wrote {path}", markup=False, soft_wrap=True)
