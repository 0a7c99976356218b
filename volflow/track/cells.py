"""Chosen cells: a point or a box in one section each, from a list or a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from volflow.core.geometry import Box

POINT = ("z", "y", "x")
BOX = ("z", "y0", "x0", "y1", "x1")
LARGEST_ID = 2**63 - 1


class Cell(NamedTuple):
    """A cell that is to be followed: coordinates are those of the volume, in voxels."""

    id: int
    """Its label."""
    z: int
    box: tuple[int, int, int, int]
    """y and x of the first voxel, y and x after the last; a point is a box of one voxel."""

    @property
    def point(self) -> tuple[int, int] | None:
        """Y and x, if the box is a single voxel."""
        y, x, end_y, end_x = self.box
        return (y, x) if (end_y - y, end_x - x) == (1, 1) else None

    @property
    def place(self) -> str:
        """Its point or box in words, such as `z 3, y 9, x 12:20`."""
        y, x, end_y, end_x = self.box
        sides = f"y {y}, x {x}" if self.point else f"y {y}:{end_y}, x {x}:{end_x}"
        return f"z {self.z}, {sides}"


def cells_of_points(points: Iterable[tuple[int, int, int]]) -> tuple[Cell, ...]:
    """Cells at points z y x, with the ids 1, 2, ..."""
    return tuple(
        Cell(number, z, (y, x, y + 1, x + 1)) for number, (z, y, x) in enumerate(points, 1)
    )


def read_cells(text: str) -> tuple[Cell, ...]:
    """The cells of a CSV file.

    Parameters
    ----------
    text : str
        A header, and a row per cell: whole numbers `z`, `y`, `x` of a point, or `z`, `y0`, `x0`,
        `y1`, `x1` of a box whose ends `y1`, `x1` are excluded. `id`, if given, is the cell's label;
        otherwise labels are the numbers of the rows from 1. Further columns are ignored.

    Raises
    ------
    ValueError
        If a column is missing, a number is none, a box is empty, or an id occurs twice.
    """
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    columns = reader.fieldnames or []
    kind = next((names for names in (POINT, BOX) if set(names) <= set(columns)), None)
    if kind is None:
        raise ValueError(
            f"expected columns {', '.join(POINT)} or {', '.join(BOX)}; got "
            f"{', '.join(columns) or 'none'}"
        )
    cells = tuple(_cell(row, number, kind) for number, row in enumerate(reader, 1))
    if not cells:
        raise ValueError("expected a row for each cell; got none")
    ids = [cell.id for cell in cells]
    twice = sorted({label for label in ids if ids.count(label) > 1})
    if twice:
        raise ValueError(f"expected distinct ids; twice: {', '.join(map(str, twice))}")
    return cells


def _cell(row: dict[str, str], number: int, kind: tuple[str, ...]) -> Cell:
    try:
        z, *sides = (int(row[name]) for name in kind)
        label = int(row.get("id") or number)
    except (TypeError, ValueError):
        raise ValueError(
            f"row {number}: expected whole numbers {', '.join(kind)}; got "
            f"{', '.join(str(row[name]) for name in kind)}, id {row.get('id')}"
        ) from None
    if not 1 <= label <= LARGEST_ID:
        raise ValueError(f"row {number}: expected an id from 1 to 2**63 - 1; got {label}")
    y, x, *ends = sides
    end_y, end_x = ends or (y + 1, x + 1)
    if end_y <= y or end_x <= x:
        raise ValueError(f"row {number}: the box y {y}:{end_y}, x {x}:{end_x} is empty")
    return Cell(label, z, (y, x, end_y, end_x))


def cells_outside(cells: Iterable[Cell], bounds: Box) -> Iterator[str]:
    """A sentence for each cell outside the bounds."""
    for cell in cells:
        y, x, end_y, end_x = cell.box
        if not bounds.covers(Box((cell.z, y, x), (cell.z + 1, end_y, end_x))):
            yield f"cell {cell.id} at {cell.place} is outside the bounds {bounds}"
