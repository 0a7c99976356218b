"""Columns of a table as CSV: a line of names, then a line per row."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

import numpy as np


def csv_of(columns: Mapping[str, np.ndarray]) -> str:
    """The text of a table, as `csv` and spreadsheets read it.

    Parameters
    ----------
    columns : mapping of str to array, (N,)
        Integers and floats.

    Raises
    ------
    ValueError
        If columns differ in length.
    """
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"expected columns of equal length; got {lengths}")
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    return text.getvalue()
