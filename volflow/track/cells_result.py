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
        The chosen cells, and the label of each; 0: there is no object. A cell that is painted in
        several parts has a row for each, of which its own label counts before any other.

    Returns
    -------
    dict
        `cells`, the number of chosen cells; `followed`, that of different labels; `in_another`,
        pairs of a cell and the label of the cell whose object it is in; `without_object`, the cells
        that are not followed.
    """
    labelled: dict[int, int] = {}
    for cell, label in zip(cells.tolist(), labels.tolist(), strict=True):
        if label == cell or not labelled.get(cell):
            labelled[cell] = label
    rows = sorted(labelled.items())
    return {
        "cells": len(rows),
        "followed": len({label for _, label in rows if label}),
        "in_another": [[cell, label] for cell, label in rows if label not in (0, cell)],
        "without_object": [cell for cell, label in rows if label == 0],
    }


def cell_warnings(cells: Iterable[Cell], result: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each cell that got no label of its own; those without a place are painted."""
    places = {cell.id: f"cell {cell.id} ({cell.place})" for cell in cells}

    def named(cell: int) -> str:
        return places.get(cell, f"{'cell' if places else 'painted label'} {cell}")

    for cell, label in result["in_another"]:
        both = f"both have the label {label}"
        yield f"{named(cell)} is in the same object as {named(label)}; {both}"
    for cell in result["without_object"]:
        yield f"{named(cell)} is not followed: no object of min_area pixels is there"
