"""The outcome of following chosen cells: labels, cells of one object, and cells without one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from volflow.track.cells import Cell


def cells_result(cells: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """The result of a step that follows chosen cells, for JSON.

    Parameters
    ----------
    cells, labels : integers, (N,)
        The chosen cells, and the label of each; 0: there is no object.

    Returns
    -------
    dict
        `cells`, the number of chosen cells; `followed`, that of different labels; `in_another`,
        pairs of a cell and the label of the cell whose object it is in; `without_object`, the cells
        that are not followed.
    """
    rows = sorted(zip(cells.tolist(), labels.tolist(), strict=True))
    return {
        "cells": len(rows),
        "followed": len({label for _, label in rows if label}),
        "in_another": [[cell, label] for cell, label in rows if label not in (0, cell)],
        "without_object": [cell for cell, label in rows if label == 0],
    }


def cell_warnings(cells: Iterable[Cell], result: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each cell that got no label of its own."""
    places = {cell.id: f"cell {cell.id} ({cell.place})" for cell in cells}
    for cell, label in result["in_another"]:
        other = places.get(label, f"cell {label}")
        yield f"{places[cell]} is in the same object as {other}; both have the label {label}"
    for cell in result["without_object"]:
        yield f"{places[cell]} is not followed: no object of min_area pixels is there"
