"""A figure of several planes, drawn with Pillow: axes in voxels, a scale bar and a legend.

Every plane is drawn at one pixel per sample, so its pixels are exactly those of its panel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

FONT = 15  # pixels
LEFT, TOP, RIGHT, BOTTOM = 64, 26, 22, 44  # pixels around a panel: tick labels, title, axis label
FOOT = 62  # pixels below the panels: scale bar and legend
LEAST_WIDTH = 620  # pixels: the legend has to fit
TICK = 5  # pixels
SPACING = 90  # pixels: least distance of two ticks
BAR_SHARE = 0.3  # of the widest panel: greatest length of the scale bar
INK, PAPER = (34, 34, 34), (250, 250, 250)


class Axis(NamedTuple):
    """One axis of a panel: its name, the voxel coordinate of its edge, and pixels per voxel."""

    name: str
    start: float
    scale: float


@dataclass(frozen=True)
class Panel:
    """A plane with its title and axes.

    Parameters
    ----------
    pixels : uint8 array, (H, W, 3)
    title : str
    rows, columns : Axis
        Vertical and horizontal axis.
    """

    pixels: np.ndarray
    title: str
    rows: Axis
    columns: Axis


def draw_figure(
    grid: Sequence[Sequence[Panel]], *, pixel_nm: float | None, voxel: float, legend: str
) -> np.ndarray:
    """A figure with the panels in rows and columns.

    Parameters
    ----------
    grid : rows of Panel
        Rows may differ in length.
    pixel_nm : float or None
        Side of a pixel in nanometres; None if the resolution is not known.
    voxel : float
        Pixels per voxel, for a scale bar in voxels where `pixel_nm` is None.
    legend : str
        One line below the panels.

    Returns
    -------
    uint8 array, (H, W, 3)
    """
    from PIL import Image, ImageDraw

    width, height = _size(grid)
    image = Image.new("RGB", (width, height), PAPER)
    drawing = ImageDraw.Draw(image)
    for panel, left, top in panel_positions(grid):
        image.paste(Image.fromarray(panel.pixels), (left, top))
        _draw_axes(drawing, panel, left, top)
    widest = max(panel.pixels.shape[1] for row in grid for panel in row)
    length, label = scale_bar(BAR_SHARE * max(widest, 200), pixel_nm, voxel)
    top = height - FOOT + 12
    drawing.rectangle((LEFT, top, LEFT + length, top + 5), fill=INK)
    drawing.text((LEFT + length + 10, top + 2), label, INK, _font(), anchor="lm")
    drawing.text((LEFT, top + 32), legend, INK, _font(), anchor="lm")
    return np.asarray(image)


def panel_positions(grid: Sequence[Sequence[Panel]]) -> Iterator[tuple[Panel, int, int]]:
    """Each panel with the column and row of its first pixel in the figure."""
    widths, heights = _cells(grid)
    top = 0
    for row, height in zip(grid, heights, strict=True):
        left = 0
        for panel, width in zip(row, widths, strict=False):
            yield panel, left + LEFT, top + TOP
            left += width
        top += height


def scale_bar(most: float, pixel_nm: float | None, voxel: float) -> tuple[int, str]:
    """Length in pixels of the longest bar of a round size that fits, and its label.

    Parameters
    ----------
    most : float
        Greatest length in pixels.
    pixel_nm, voxel : float or None, float
        See `draw_figure`.
    """
    if pixel_nm is None:
        voxels = max(1.0, round_down(most / voxel))
        return max(1, round(voxels * voxel)), f"{voxels:g} voxel{'' if voxels == 1 else 's'}"
    nm = round_down(most * pixel_nm)
    return max(1, round(nm / pixel_nm)), length_text(nm)


def length_text(nm: float) -> str:
    """A length in the unit that suits it: `500 nm`, `2 µm`, `1.5 mm`."""
    for unit, size in (("mm", 1e6), ("µm", 1e3)):
        if nm >= size:
            return f"{nm / size:.3g} {unit}"
    return f"{nm:.3g} nm"


def round_down(value: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above a value."""
    power = 10.0 ** math.floor(math.log10(value))
    return float(next(n for n in (5, 2, 1) if n * power <= value * (1 + 1e-9)) * power)


def ticks(axis: Axis, length: int) -> list[tuple[float, str]]:
    """Pixel and label of the ticks along an axis of `length` pixels, at round voxel numbers."""
    step = max(1, int(round_down(SPACING / axis.scale)))
    step *= 1 if step * axis.scale >= SPACING / 2 else 2
    stop = axis.start + length / axis.scale
    first = math.ceil(axis.start / step) * step
    return [((n - axis.start) * axis.scale, f"{n:,}") for n in range(first, math.ceil(stop), step)]


def _draw_axes(drawing: ImageDraw, panel: Panel, left: int, top: int) -> None:
    height, width = panel.pixels.shape[:2]
    font = _font()
    drawing.text((left, top - TOP / 2), panel.title, INK, font, anchor="lm")
    bottom = top + height
    for x, label in ticks(panel.columns, width):
        drawing.line((left + x, bottom, left + x, bottom + TICK), INK)
        drawing.text((left + x, bottom + TICK + 8), label, INK, font, anchor="mm")
    for y, label in ticks(panel.rows, height):
        drawing.line((left - TICK - 1, top + y, left - 1, top + y), INK)
        drawing.text((left - TICK - 4, top + y), label, INK, font, anchor="rm")
    drawing.text((left + width / 2, bottom + TICK + 26), panel.columns.name, INK, font, "mm")
    drawing.text((left - LEFT + 6, top + height / 2), panel.rows.name, INK, font, anchor="lm")


def _size(grid: Sequence[Sequence[Panel]]) -> tuple[int, int]:
    """Width and height of the figure."""
    widths, heights = _cells(grid)
    return max(LEAST_WIDTH, sum(widths)), sum(heights) + FOOT


def _cells(grid: Sequence[Sequence[Panel]]) -> tuple[list[int], list[int]]:
    """Widths of the columns and heights of the rows, margins included."""
    columns = max(map(len, grid))
    widths = [
        LEFT + RIGHT + max(row[n].pixels.shape[1] for row in grid if n < len(row))
        for n in range(columns)
    ]
    heights = [TOP + BOTTOM + max(panel.pixels.shape[0] for panel in row) for row in grid]
    return widths, heights


@lru_cache
def _font() -> FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib; Pillow's own font has no µ."""
    from PIL import ImageFont

    matplotlib = find_spec("matplotlib")  # found, not imported, which would take 0.3 s
    assert matplotlib is not None
    fonts = Path(str(matplotlib.origin)).parent / "mpl-data/fonts/ttf"
    return ImageFont.truetype(fonts / "DejaVuSans.ttf", FONT)
