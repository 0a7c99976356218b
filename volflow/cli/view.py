"""`view`: a run, or volumes, in Neuroglancer."""

from __future__ import annotations

import contextlib
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from volflow.cli.terminal import options, view_options
from volflow.cli.terminal.visible import visible
from volflow.errors import PlanError

if TYPE_CHECKING:
    from rich.console import Console

    from volflow.view.layers import LayerSet
    from volflow.view.neuroglancer.scene import Scene
    from volflow.view.server import LayerServer

SHOWN_ERRORS = 5  # of the browser


@click.command()
@click.argument("addresses", metavar="RUN | VOLUME...", nargs=-1, required=True)
@click.option(
    "--at",
    callback=view_options.place,
    metavar="Z,Y,X",
    help="Zoom in on this voxel of the finest scale.",
)
@click.option(
    "--segments",
    multiple=True,
    callback=view_options.segments,
    metavar="[LAYER=]ID,ID,...",
    help="Show these segments in full colour. Default layer: `segmentation`, or the only one. "
    "May be repeated.",
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    callback=view_options.kinds,
    metavar="LAYER=KIND",
    help="Show a volume as image, affinity or segmentation, if the guess is wrong. "
    "May be repeated.",
)
@click.option(
    "--port",
    default=0,
    type=click.IntRange(0, 65534),
    help="TCP port of the layers; the viewer uses the next one. Default: any free ports.",
)
@click.option("--no-open", is_flag=True, help="Print the viewer's address without opening it.")
@click.option(
    "--screenshot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Render the scene in a headless browser into this file, and exit.",
)
@click.option(
    "--size",
    default="1400x900",
    callback=view_options.size,
    metavar="WxH",
    show_default=True,
    help="Width and height of the screenshot in pixels.",
)
def view(
    addresses: tuple[str, ...],
    at: tuple[float, float, float] | None,
    segments: dict[str, tuple[int, ...]],
    kinds: dict[str, str],
    port: int,
    no_open: bool,
    screenshot: Path | None,
    size: tuple[int, int],
) -> None:
    """Show a RUN, or VOLUMEs by their addresses, in Neuroglancer.

    The layers are served on 127.0.0.1, for this machine only, until Ctrl-C. Formats that
    Neuroglancer does not read (HDF5, TIFF, PNG sections, ...) are translated on the fly. The
    layers of volumes are named after their files; whether one is an image or a segmentation is
    guessed from its metadata, dtype and name.

    If the RUN has scores (`volflow score --out RUN`, or a step `score`), its report is served as
    well, with a link to each error.
    """
    from volflow.cli.terminal.formatting import output
    from volflow.view.neuroglancer.scene import make_scene

    if screenshot is not None:
        _check_screenshot(screenshot)
    console = output()
    run = addresses[0] if _shows_run(addresses) else None
    scene = make_scene(_layers(addresses, run, kinds))
    if at is not None or segments:
        _look_at(scene, at, segments)
    with scene.serve(port) as server:
        if not options.quiet():
            _print_layers(console, scene, server)
        if screenshot is not None:
            _screenshot(console, scene, server, screenshot, size)
        else:
            _show(console, scene, server, port, not no_open, run)


def _shows_run(addresses: tuple[str, ...]) -> bool:
    from volflow.view.layers import is_run

    return len(addresses) == 1 and is_run(addresses[0])


def _layers(addresses: tuple[str, ...], run: str | None, kinds: dict[str, str]) -> LayerSet:
    """The layers of the run, or of the volumes."""
    from volflow.view.layers import run_layers, volume_layers

    if run is None:
        try:
            return volume_layers(addresses, kinds)
        except PlanError as error:
            if len(addresses) > 1 or kinds:
                raise
            problem = error.problems[0]
            raise PlanError(f"{addresses[0]} holds no run, nor a volume: {problem}") from error
    if kinds:
        raise PlanError("--kind applies to volumes; the layers of a run have their kinds")
    return run_layers(run)


def _look_at(
    scene: Scene, at: tuple[float, float, float] | None, segments: dict[str, tuple[int, ...]]
) -> None:
    """Point a scene at a voxel, and show some segments in full colour."""
    from volflow.view.neuroglancer.scene import Target

    labels = [layer.name for layer in scene.layers if layer.kind == "segmentation"]
    default = labels[0] if len(labels) == 1 else "segmentation"
    by_layer: dict[str, tuple[int, ...]] = {}
    for name, ids in segments.items():
        by_layer[name or default] = by_layer.get(name or default, ()) + ids
    problems = [
        f"--segments {name}=...: expected a segmentation of this scene, got {name!r} "
        f"(shown: {', '.join(labels) or 'none'})"
        for name in by_layer
        if name not in labels
    ]
    if problems:
        raise PlanError(*problems)
    scene.target = Target(at, by_layer)


def _check_screenshot(path: Path) -> None:
    """Raise if a screenshot cannot be made or written, before anything is started."""
    from volflow.view.neuroglancer.viewer import missing_browser

    missing = missing_browser()
    if missing:
        raise PlanError(f"--screenshot needs {missing}")
    if path.suffix.lower() != ".png":
        raise PlanError(f"--screenshot {path}: expected a name that ends in .png")
    if not path.absolute().parent.is_dir():
        raise PlanError(f"--screenshot {path}: there is no folder {path.absolute().parent}")


def _print_layers(console: Console, scene: Scene, server: LayerServer) -> None:
    for layer in scene.layers:
        source = layer.source.replace("{url}", server.url)
        console.print(f"{layer.name:<14} {layer.kind:<13} {source}", markup=False, soft_wrap=True)
    for note in scene.notes:
        console.print(note, markup=False, style="dim", soft_wrap=True)


def _show(
    console: Console,
    scene: Scene,
    server: LayerServer,
    port: int,
    in_browser: bool,
    run: str | None,
) -> None:
    """Open a browser, and serve until Ctrl-C."""
    from volflow.view.neuroglancer.scene import public_link
    from volflow.view.neuroglancer.viewer import (
        another_viewer,
        missing_package,
        neuroglancer_viewer,
    )
    from volflow.view.report.score.document import find_document
    from volflow.view.report.score.links import serve_scores

    missing = missing_package("neuroglancer")
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        url = page = ""
        if missing:
            console.print(f"\nno local viewer: it needs {missing}", markup=False, soft_wrap=True)
        else:
            state = scene.state(server.url)
            viewer = stack.enter_context(neuroglancer_viewer(state, port + 1 if port else 0))
            url = viewer.get_viewer_url()
            gap = "" if options.quiet() else "\n"
            console.print(f"{gap}{url}", markup=False, soft_wrap=True, style="bold")
        document = None if run is None else find_document(run)
        if document is not None and run is not None:
            viewers: list[Any] = []

            def show(state: dict[str, Any]) -> str:
                viewers.append(another_viewer(state))
                return str(viewers[-1].get_viewer_url())

            page = serve_scores(server, scene, document, run, show if url else None)
            line = f"the scores, with a link to each error: {page}"
            console.print(line, markup=False, soft_wrap=True, style="bold")
        if not (options.quiet() and url):
            line = "any Neuroglancer in a browser on this machine shows the same: "
            line += public_link(server)
            console.print(line, markup=False, soft_wrap=True, style="dim")
        if not options.quiet():
            console.print("press Ctrl-C to stop", style="dim")
        if in_browser and (page or url):
            webbrowser.open(url if scene.target else page or url)
        threading.Event().wait()


def _screenshot(
    console: Console, scene: Scene, server: LayerServer, path: Path, size: tuple[int, int]
) -> None:
    from volflow.view.neuroglancer.viewer import neuroglancer_viewer, screenshot

    with neuroglancer_viewer(scene.state(server.url)) as viewer:
        shot = screenshot(viewer, size)
    path.write_bytes(shot.png)
    for message in shot.errors[:SHOWN_ERRORS]:
        click.echo(f"volflow: browser error: {visible(message)}", err=True)
    more = len(shot.errors) - SHOWN_ERRORS
    if more > 0:
        click.echo(f"volflow: and {more} more browser errors", err=True)
    if not options.quiet():
        console.print(f"wrote {path}", markup=False, soft_wrap=True)
