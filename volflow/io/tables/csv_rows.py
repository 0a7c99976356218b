"""The rows of a CSV text, with the line of each."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

from volflow.errors import StorageError


def csv_rows(
    content: str, file: str, check: Callable[[list[str], str, int], None]
) -> tuple[list[str], list[int], list[list[str]]]:
    """Column names, and line numbers and cells of the rows that are not empty, all of one width.

    Parameters
    ----------
    content : str
    file : str
        Its address, for messages.
    check : function
        Called with the column names, the file and their line, before any row is read; it raises an
        error if the names do not fit.

    Raises
    ------
    StorageError
        If there are no column names, or a row has another number of cells; with file and line.
    """
    reader = csv.reader(io.StringIO(content, newline=""))
    header: list[str] = []
    line: list[int] = []
    rows: list[list[str]] = []
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if not header:
                header = [cell.strip() for cell in row]
                check(header, file, reader.line_num)
            elif len(row) != len(header):
                raise StorageError(
                    f"{file}:{reader.line_num}: expected {len(header)} values, one per column; "
                    f"got {len(row)}"
                )
            else:
                line.append(reader.line_num)
                rows.append(row)
    except csv.Error as error:
        raise StorageError(f"{file}:{reader.line_num}: {error}") from error
    if not header:
        raise StorageError(f"{file}: expected a line of column names, got an empty file")
    return header, line, rows
