"""Parquet, by pyarrow: an optional package."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from volflow.errors import StorageError

MISSING = "Parquet needs the package pyarrow: pip install '.[parquet]'"


def missing_parquet() -> str:
    """The reason why Parquet cannot be read or written here, and the remedy; "" if it can."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        return MISSING
    return ""


def parquet_bytes(columns: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a table as a Parquet file, compressed with zstd; equal columns, equal bytes.

    Parameters
    ----------
    columns : mapping of str to array, (N,)
        Integers, floats and booleans.

    Raises
    ------
    StorageError
        If pyarrow is missing.
    """
    if missing_parquet():
        raise StorageError(MISSING)
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: pa.array(np.ascontiguousarray(c)) for name, c in columns.items()})
    body = io.BytesIO()
    pq.write_table(table, body, compression="zstd", store_schema=False)
    return body.getvalue()


def parquet_columns(bodies: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    """The columns of numbers of Parquet files, one file after the other.

    Raises
    ------
    StorageError
        If pyarrow is missing, a file is damaged or lacks a column, or a value is missing.
    """
    if missing_parquet():
        raise StorageError(MISSING)
    import pyarrow.parquet as pq

    parts: list[dict[str, np.ndarray]] = []
    for file, body in bodies.items():
        table: Any = pq.read_table(io.BytesIO(body))
        columns = {}
        for name in table.column_names:
            column = table.column(name)
            if column.null_count:
                raise StorageError(f"{file}: column '{name}' has rows without a value")
            values = column.to_numpy()
            if values.dtype.kind in "biuf":
                columns[name] = _widened(values)
        parts.append(columns)
    names = list(parts[0])
    for file, part in zip(bodies, parts, strict=True):
        if list(part) != names:
            raise StorageError(f"{file}: expected the columns {names}, got {list(part)}")
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _widened(values: np.ndarray) -> np.ndarray:
    wide = {"b": np.uint64, "u": np.uint64, "i": np.int64, "f": np.float64}
    return values.astype(wide[values.dtype.kind])
