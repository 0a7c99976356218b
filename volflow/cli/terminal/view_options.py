"""The options of `view` that are parsed into numbers, ids and kinds."""

from __future__ import annotations

import click

LARGEST = 8192  # pixels along a side of a screenshot


def size(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, int]:
    """Width and height in pixels, from WIDTHxHEIGHT."""
    width, mark, height = text.partition("x")
    if not (mark and width.isdecimal() and height.isdecimal()):
        raise click.BadParameter(f"expected WIDTHxHEIGHT in pixels, got {text!r}")
    sides = int(width), int(height)
    if not all(200 <= side <= LARGEST for side in sides):
        raise click.BadParameter(f"expected sides of 200 to {LARGEST} pixels, got {text!r}")
    return sides


def place(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[float, float, float] | None:
    """A voxel z, y, x, from Z,Y,X."""
    if text is None:
        return None
    try:
        z, y, x = (float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"expected Z,Y,X in voxels, got {text!r}") from error
    return (z, y, x)


def segments(
    context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """Ids of segments by layer; "" stands for the default layer."""
    by_layer: dict[str, tuple[int, ...]] = {}
    for text in texts:
        layer, mark, ids = text.rpartition("=")
        numbers = ids.split(",")
        if not all(number.isdecimal() for number in numbers) or (mark and not layer):
            raise click.BadParameter(f"expected ID,ID,... or LAYER=ID,ID,..., got {text!r}")
        by_layer[layer] = by_layer.get(layer, ()) + tuple(map(int, numbers))
    return by_layer


def kinds(
    context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, str]:
    """Kinds of volumes by layer."""
    from volflow.view.layers import KINDS

    by_layer = {}
    for text in texts:
        layer, _, kind = text.rpartition("=")
        if not layer or kind not in KINDS:
            raise click.BadParameter(
                f"expected LAYER=KIND with one of the kinds {', '.join(KINDS)}, got {text!r}"
            )
        by_layer[layer] = kind
    return by_layer
