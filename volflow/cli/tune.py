"""`tune`: thresholds and sizes of an agglomeration, compared on a part of a run."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from volflow.cli.terminal import options

if TYPE_CHECKING:
    from volflow.cli.tuning.variants import Chain, Variant
    from volflow.core.geometry import Triple
    from volflow.engine.executors.profile import OnStall
    from volflow.view.report.run.segments import SegmentSizes

PICTURE = "tune.png"

Size: TypeAlias = int | str
"""Voxels, or a size in units."""


def _triple(context: click.Context, parameter: click.Parameter, text: str | None) -> Triple | None:
    from volflow.core.geometry import zyx

    if text is None:
        return None
    try:
        numbers = [int(number) for number in text.split(",")]
        if len(numbers) != 3 or (parameter.name == "shape" and min(numbers) < 1):
            raise ValueError
    except ValueError as error:
        raise click.BadParameter(f"expected Z,Y,X in voxels, got {text!r}") from error
    return zyx(numbers)


def _numbers(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[float, ...]:
    try:
        numbers = sorted({float(number) for number in text.split(",")} if text else ())
        if not all(0 <= number <= 1 for number in numbers):
            raise ValueError
    except ValueError as error:
        raise click.BadParameter(
            f"expected numbers of 0 to 1, separated by commas, got {text!r}"
        ) from error
    return tuple(numbers)


def _sizes(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[Size, ...]:
    try:
        return tuple(_size(each) for each in text.split(",")) if text else ()
    except ValueError as error:
        raise click.BadParameter(
            f"expected sizes in voxels or units, separated by commas, got {text!r}: {error}"
        ) from error


def _size(text: str) -> Size:
    """Voxels, or the text of a size in units.

    Raises
    ------
    ValueError
        If it is neither.
    """
    from volflow.core.stage.units import check_size

    return int(text) if text.strip().isdecimal() else check_size(text.strip())


def _choice(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[float, Size | None] | None:
    if text is None:
        return None
    threshold, comma, size = text.partition(",")
    try:
        chosen = float(threshold), _size(size) if comma else None
        if not 0 <= chosen[0] <= 1:
            raise ValueError
    except ValueError as error:
        raise click.BadParameter(
            f"expected THRESHOLD or THRESHOLD,MIN_SIZE such as 0.4,200, got {text!r}"
        ) from error
    return chosen


@click.command()
@click.argument("address", metavar="RUN", type=click.Path())
@click.option(
    "--at",
    callback=_triple,
    metavar="Z,Y,X",
    help="Voxel in the middle of the part. Default: the middle of the run.",
)
@click.option(
    "--shape",
    callback=_triple,
    metavar="Z,Y,X",
    help="Shape of the part, voxels. Default: 64,256,256.",
)
@click.option(
    "--thresholds",
    callback=_numbers,
    metavar="T,T,...",
    help="Thresholds to compare, 0 to 1. Default: the run's, and two below and above it.",
)
@click.option(
    "--min-sizes",
    "min_sizes",
    callback=_sizes,
    metavar="N,N,...",
    help="Values of `min_size` to compare, voxels or units such as 0.002 µm³. "
    "Default: the run's, and a tenth of it.",
)
@click.option(
    "--out", metavar="FOLDER", help="Folder or address for the comparison. Default: RUN-tune."
)
@click.option(
    "--choose",
    callback=_choice,
    metavar="T[,N]",
    help="Compare nothing: print the command that uses this threshold and `min_size`.",
)
@click.option(
    "--write",
    "file",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE.yaml",
    help="With --choose: write both into this pipeline file.",
)
@options.watchdog
@options.workers
def tune(
    address: str,
    at: Triple | None,
    shape: Triple | None,
    thresholds: tuple[float, ...],
    min_sizes: tuple[Size, ...],
    out: str | None,
    choose: tuple[float, Size | None] | None,
    file: str | None,
    cluster: str,
    workers: int | None,
    timeout: float | None,
    stall: float | None,
    on_stall: OnStall | None,
) -> None:
    """Compare thresholds and sizes on a part of RUN.

    The affinities of the run are used, so no network runs. A contact sheet, tune.png, shows the
    middle section of each segmentation; `volflow view` shows all of them in Neuroglancer. Near the
    faces of the part segments differ from those of the whole.
    """
    from volflow.cli.tuning.variants import chain_of
    from volflow.engine.executors.profile import find_profile
    from volflow.errors import PlanError
    from volflow.io.run.stored_pipeline import stored_document

    address = address.rstrip("/")
    document = stored_document(address)
    chain = chain_of(address, document)
    if choose is not None:
        _choose(address, chain, choose, file)
        return
    if file is not None:
        raise PlanError("--write needs --choose THRESHOLD,MIN_SIZE")
    profile = find_profile(
        cluster, workers=workers, timeout=timeout, stall=stall, on_stall=on_stall
    )
    part = {"at": at, "shape": shape}
    _compare(address, document, chain, part, thresholds, min_sizes, out, profile)


def _choose(
    address: str, chain: Chain, choose: tuple[float, Size | None], file: str | None
) -> None:
    from volflow.cli.tuning.choice import setting_text, write_settings

    threshold, size = choose
    settings: dict[str, float | str] = {"threshold": threshold}
    if size is not None:
        settings["min_size"] = size
    if file is not None:
        write_settings(file, "agglomerate", settings)
        changed = ", ".join(f"{name}: {setting_text(value)}" for name, value in settings.items())
        click.echo(f"{file}: {changed}")
    name = chain.agglomerate.get("name", "agglomerate")
    given = shlex.join(
        word
        for key, value in settings.items()
        for word in ("--set", f"steps.{name}.{key}={setting_text(value)}")
    )
    click.echo(f"for this run: volflow retry {address} {given}")


def _compare(
    address: str,
    document: dict[str, Any],
    chain: Chain,
    part: dict[str, Triple | None],
    thresholds: tuple[float, ...],
    min_sizes: tuple[Size, ...],
    out: str | None,
    profile: Any,
) -> None:
    from volflow.cli.terminal.execution import run_with_progress
    from volflow.cli.terminal.formatting import output
    from volflow.cli.tuning import variants as tuning
    from volflow.engine.api import make_plan
    from volflow.io.run.stored_outline import stored_outline
    from volflow.io.store import Store
    from volflow.view.layers import run_layers
    from volflow.view.report.contact_sheet import Cell, contact_sheet
    from volflow.view.report.run.segments import count_segments

    of_run = run_layers(address)
    stored = {entry["name"] for entry in (stored_outline(address) or {}).get("layers", ())}
    finest = (of_run.first("segmentation", "fragments") or of_run.layers[0]).scales[0]
    bounds, voxels = finest.bounds, tuning.SizeInVoxels(of_run.resolution, finest.bounds)
    chosen = tuning.compared(chain, thresholds, min_sizes, voxels)
    box = tuning.part(bounds, **part)
    place = out or f"{address}-tune"
    tuning.require_free(place)
    pipeline = tuning.variants_pipeline(address, document, stored, box, chosen, place)
    run_with_progress(make_plan(pipeline, profile=profile), profile, temporary=True)
    layers = run_layers(place)
    by_name = {layer.name: layer for layer in layers.layers}
    counted = {v: count_segments(layers, by_name[v.layer]) for v in chosen}
    rows = [
        [Cell(by_name[v.layer], _title(v, counted[v])) for v in chosen if v.min_size == size]
        for size in sorted({v.min_size for v in chosen})
    ]
    image = of_run.first("image", "em") or of_run.first("affinity", "affinity")
    Store(place).write(PICTURE, contact_sheet(layers, image, rows))
    console = output()
    _print_table(console, chain, counted, voxels(chain.min_size))
    console.print(f"{place}/{PICTURE}; or: volflow view {place}", markup=False, soft_wrap=True)
    console.print(
        f"choose one with: volflow tune {address} --choose THRESHOLD,MIN_SIZE [--write FILE.yaml]",
        markup=False,
        soft_wrap=True,
    )


def _title(variant: Variant, sizes: SegmentSizes | None) -> str:
    title = f"{variant.threshold:g} | {variant.min_size:,}"
    return f"{title}: {sizes.number:,}, {sizes.largest_share:.0%}" if sizes else title


def _print_table(
    console: Any, chain: Chain, counted: dict[Variant, SegmentSizes | None], min_size: int
) -> None:
    from volflow.cli.terminal.formatting import print_table

    heads = ("threshold", "min_size", "segments", "largest", "background", " ")
    rows = []
    for variant, sizes in counted.items():
        same = variant.threshold in chain.thresholds and variant.min_size == min_size
        numbers = ("?", "?", "?")
        if sizes is not None:
            shares = f"{sizes.largest_share:.1%}", f"{sizes.background:.1%}"
            numbers = (f"{sizes.number:,}", *shares)
        settings = f"{variant.threshold:g}", f"{variant.min_size:,}"
        rows.append((*settings, *numbers, "as in the run" if same else ""))
    print_table(console, heads, rows)
