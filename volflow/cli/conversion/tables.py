"""Conversion of tables: CSV and Parquet, names of other projects, matrices and graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volflow.errors import PlanError, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from volflow.io.address import Address

ENDINGS = (".csv", ".parquet", ".npz", ".graphml", ".zarr")
CONTACTS = ("contacts.csv", "contacts.parquet")


def is_of_table(text: str) -> bool:
    """Whether an address is that of a table."""
    from volflow.io.address import TABLES, Address

    address = Address.parse(text)
    plain = not address.format_name and address.location.endswith(ENDINGS[:2])
    return address.format_name in TABLES or plain


def convert_table(source: str, destination: str, names: str | None, overwrite: bool) -> int:
    """Write a table in another format; the number of its rows.

    Parameters
    ----------
    source : str
        Address of a table.
    destination : str
        A file; its ending determines what it is. `.zarr`: a folder, the segments of supervoxels as
        webKnossos reads them, with the contacts in a table next to the source.
    names : str or None
        A convention of `io/tables/names.py` for the columns.
    overwrite : bool
        Whether to replace a file.

    Raises
    ------
    PlanError
        If the source cannot be read, there is something at the destination, or it cannot be
        written.
    """
    from volflow.cli.terminal.formatting import print_warnings
    from volflow.io.address import Address
    from volflow.io.store import Store
    from volflow.io.tables.names import renamed
    from volflow.io.tables.read import read_table

    place = Address.parse(destination)
    folder, _, file = place.location.rpartition("/")
    if not file.endswith(ENDINGS):
        raise PlanError(f"DST: {destination}: expected a name that ends in {', '.join(ENDINGS)}")
    if names is not None and not file.endswith(ENDINGS[:2]):
        raise PlanError(f"--names: expected a table as DST (.csv or .parquet), got {file}")
    try:
        table = read_table(source)
    except StorageError as error:
        raise PlanError(f"SRC: {error}") from error
    print_warnings(table.warnings)
    try:
        store = Store(folder or "/")
        if file.endswith(ENDINGS[-1]):
            return _convert_agglomerates(source, table.columns, place, overwrite)
        if store.read(file) is not None and not overwrite:
            raise PlanError(f"DST: {place} exists; choose another path, or give --overwrite")
        columns = table.columns if names is None else renamed(table.columns, names)
        store.write(file, _body(place, columns))
    except (StorageError, OSError) as error:
        raise PlanError(f"DST: {error}") from error
    return len(next(iter(table.columns.values()), ()))


def _convert_agglomerates(
    source: str, parts: Mapping[str, np.ndarray], place: Address, overwrite: bool
) -> int:
    """Write supervoxels and their segments for webKnossos; the number of supervoxels."""
    from volflow.io.address import Address
    from volflow.io.export.agglomerates import write_agglomerates
    from volflow.io.store import Store
    from volflow.io.tables.read import read_table

    folder = Address.parse(source).location.rpartition("/")[0]
    near = Store(folder or "/")
    names = [name for name in CONTACTS if name in {key.partition("/")[0] for key in near.list()}]
    if not names:
        raise PlanError(f"SRC: {folder}: expected {' or '.join(CONTACTS)} next to it; got neither")
    if Store(place.location).list() and not overwrite:
        raise PlanError(f"DST: {place} exists; choose another path, or give --overwrite")
    write_agglomerates(place.location, parts, read_table(f"{folder}/{names[0]}").columns)
    return len(parts["supervoxel"])


def _body(place: Address, columns: dict[str, np.ndarray]) -> bytes:
    from volflow.io.tables.columns import csv_of
    from volflow.io.tables.graphs import graphml_bytes, matrix_bytes
    from volflow.io.tables.parquet import parquet_bytes

    writers = {".parquet": parquet_bytes, ".npz": matrix_bytes, ".graphml": graphml_bytes}
    for ending, writer in writers.items():
        if place.location.endswith(ending):
            return writer(columns)
    return csv_of(columns).encode()
