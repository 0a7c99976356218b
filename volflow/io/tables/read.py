"""Tables of numbers by column, of CSV or Parquet.

    synapses.csv                      a plain path: CSV, or Parquet where it ends in .parquet
    csv://synapses.csv?unit_nm=8      positions in units of 8 nm
    parquet://out/results/synapses.parquet     a file, or a folder of parts

Columns are identified by name. Those whose first value is not a number are left out. Positions are
the columns `z`, `y`, `x` and those that end in `_z`, `_y`, `_x`; they are returned in nanometres.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from volflow.errors import StorageError
from volflow.io.address import TABLES, Address
from volflow.io.reading import reading
from volflow.io.store import Store
from volflow.io.tables.csv_rows import csv_rows
from volflow.io.tables.parquet import parquet_columns
from volflow.io.tables.units import unit_of
from volflow.io.text_end import end_warnings

AXES = ("z", "y", "x")
PARQUET = ".parquet"
LARGEST = 1 << 64


@dataclass(frozen=True, slots=True, eq=False)
class StoredTable:
    """Columns of numbers by name: uint64, int64 or float64, each (N,), N the same for all.

    `content` is the digest of the stored bytes and the unit. `warnings` has a sentence if the table
    may be cut short.
    """

    columns: dict[str, np.ndarray]
    content: str
    warnings: tuple[str, ...] = ()


def read_table(text: str, content: str = "") -> StoredTable:
    """Read the table at an address.

    Parameters
    ----------
    text : str
        Its address.
    content : str
        The digest that it has to have; "": any.

    Raises
    ------
    StorageError
        If it is missing, empty or changed, or a value is invalid; with file and line.
    """
    address = Address.parse(text)
    with reading(text, "table"):
        bodies = _bodies(address)
        unit = unit_of(address)
        content_digest = _digest(bodies, unit)
        if content and content_digest != content:
            raise StorageError(f"{address.location} has changed since the run was planned")
        warnings = () if _is_parquet(address) else end_warnings(bodies)
        return StoredTable(_columns(address, bodies, unit), content_digest, warnings)


def _columns(
    address: Address, bodies: Mapping[str, bytes], unit: Sequence[float]
) -> dict[str, np.ndarray]:
    if _is_parquet(address):
        columns = parquet_columns(bodies)
    else:
        ((file, body),) = bodies.items()
        columns = _csv_columns(body, file)
    for name, column in columns.items():
        axis = name.rpartition("_")[2]
        if axis in AXES and unit[AXES.index(axis)] != 1:
            columns[name] = column * unit[AXES.index(axis)]
    return columns


def _is_parquet(address: Address) -> bool:
    plain = not address.format_name and address.location.endswith(PARQUET)
    return address.format_name == "parquet" or plain


def _bodies(address: Address) -> dict[str, bytes]:
    """The bytes of the file, or of the parts in the folder, by location."""
    if address.format_name not in ("", *TABLES):
        raise StorageError(f"{address}: expected CSV or Parquet, got {address.format_name}")
    folder, _, file = address.location.rpartition("/")
    body = Store(folder or "/").read(file) if not _is_folder(address) else None
    if body is not None:
        return {address.location: body}
    if _is_parquet(address):
        store = Store(address.location)
        keys = sorted(key for key in store.list() if key.endswith(PARQUET))
        if keys:
            parts = store.read_many(keys)
            return {f"{address.location}/{key}": parts[key] for key in keys}
    raise StorageError(f"{address.location}: no such file")


def _is_folder(address: Address) -> bool:
    return address.local is not None and address.local.is_dir()


def _digest(bodies: dict[str, bytes], unit: Sequence[float]) -> str:
    digest = hashlib.blake2b(repr(tuple(unit)).encode(), digest_size=8)
    for body in bodies.values():
        digest.update(len(body).to_bytes(8, "little") + body)
    return digest.hexdigest()


def _csv_columns(body: bytes, file: str) -> dict[str, np.ndarray]:
    try:
        content = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StorageError(f"{file}: expected UTF-8 text") from error
    header, line, rows = csv_rows(content, file, _check_header)
    if not rows:
        return {name: np.zeros(0) for name in header}
    columns = {}
    for name, words in zip(header, zip(*rows, strict=True), strict=True):
        if _number(words[0]) is not None:
            columns[name] = _values(words, name, line, file)
    return columns


def _check_header(header: list[str], file: str, line: int) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise StorageError(f"{file}:{line}: column {', '.join(twice)} occurs twice")


def _values(words: Sequence[str], name: str, line: Sequence[int], file: str) -> np.ndarray:
    """A column as uint64, int64 or float64; integers are exact, a float has only 53 bits."""
    numbers: list[Any] = []
    try:
        numbers = [int(word) for word in words]
    except ValueError:
        try:
            return np.array([float(word) for word in words])
        except ValueError:
            row = next(n for n, word in enumerate(words) if _number(word) is None)
            raise StorageError(
                f"{file}:{line[row]}: {name} is {words[row]!r}; expected a number"
            ) from None
    low, high = min(numbers), max(numbers)
    if low < -(1 << 63) or high >= (LARGEST if low >= 0 else 1 << 63):
        row = next(n for n, value in enumerate(numbers) if value in (low, high))
        raise StorageError(
            f"{file}:{line[row]}: {name} has values from {low} to {high}; expected integers of 64 "
            f"bits"
        )
    return np.array(numbers, np.uint64 if low >= 0 else np.int64)


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
