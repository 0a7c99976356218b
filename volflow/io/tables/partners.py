"""Tables of synaptic partners: CSV, a pair of sites per line.

    pre_z,pre_y,pre_x,post_z,post_y,post_x,pre_neuron,post_neuron
    4000,812.5,300,4040,860,310,17,23

    csv://pairs.csv?unit_nm=8           numbers in voxels of 8 nm
    csv://pairs.csv?unit_nm=40,4,4      in voxels of 40 x 4 x 4 nm (z,y,x)
    pairs.csv                           a plain path: nanometres

Columns are identified by name, in any order; others are ignored. The two of neurons may be missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from volflow.config.problems import closest
from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.reading import reading
from volflow.io.store import Store
from volflow.io.tables.csv_rows import csv_rows
from volflow.io.tables.units import unit_of
from volflow.io.text_end import end_warnings

SITES = ("pre_z", "pre_y", "pre_x", "post_z", "post_y", "post_x")
NEURONS = ("pre_neuron", "post_neuron")
LARGEST = 1 << 64  # neurons are uint64


@dataclass(frozen=True, slots=True, eq=False)
class PartnerTable:
    """Directed pairs of synaptic sites, in the order of the file.

    Attributes
    ----------
    address : str
    line : int64 array, (N,)
        Line of each pair in the file; the first line is 1.
    pre, post : float64 array, (N, 3)
        z, y, x in nanometres, finite.
    neurons : uint64 array, (N, 2), or None
        Presynaptic and postsynaptic; None if the table has none.
    warnings : tuple of str
        A sentence if the table may be cut short.
    """

    address: str
    line: np.ndarray
    pre: np.ndarray
    post: np.ndarray
    neurons: np.ndarray | None
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.line)


def read_partners(text: str) -> PartnerTable:
    """Read the table at an address.

    Raises
    ------
    StorageError
        If it is missing or empty, lacks a column, or a value is invalid; with file and line.
    """
    with reading(text):
        return _read(Address.parse(text))


def _read(address: Address) -> PartnerTable:
    if address.format_name not in ("", "csv"):
        raise StorageError(f"{address}: expected CSV, got {address.format_name}")
    unit = unit_of(address)
    folder, _, file = address.location.rpartition("/")
    body = Store(folder or "/").read(file)
    if body is None:
        raise StorageError(f"{address.location}: no such file")
    try:
        content = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StorageError(f"{address.location}: expected UTF-8 text") from error
    header, line, rows = csv_rows(content, address.location, _check_header)
    place = {name: at for at, name in enumerate(header)}
    columns = [[row[place[name]] for row in rows] for name in SITES]
    sites = _numbers(columns, line, address.location) * np.array([*unit, *unit])
    neurons = None
    if NEURONS[0] in place:
        ids = [
            _ids([row[place[name]] for row in rows], name, line, address.location)
            for name in NEURONS
        ]
        neurons = np.stack(ids, axis=1)
    where = np.array(line, np.int64)
    warnings = end_warnings({address.location: body})
    return PartnerTable(str(address), where, sites[:, :3], sites[:, 3:], neurons, warnings)


def _check_header(header: list[str], file: str, line: int) -> None:
    twice = sorted({name for name in header if header.count(name) > 1} & {*SITES, *NEURONS})
    if twice:
        raise StorageError(f"{file}:{line}: column {', '.join(twice)} occurs twice")
    expected = SITES if not set(header) & set(NEURONS) else (*SITES, *NEURONS)
    missing = [name for name in expected if name not in header]
    if missing:
        others = [name for name in header if name not in expected]
        names = ", ".join(f"'{name}'{closest(name, others)}" for name in missing)
        raise StorageError(
            f"{file}:{line}: columns are missing: {names} (present: {', '.join(header)})"
        )


def _numbers(columns: list[list[str]], line: Sequence[int], file: str) -> np.ndarray:
    """The sites, float64 (N, 6), all finite."""
    try:
        sites = np.array(columns, np.float64).T.reshape(-1, len(SITES))
    except ValueError:
        for name, words in zip(SITES, columns, strict=True):
            for at, word in zip(line, words, strict=True):
                if not _is_number(word):
                    raise StorageError(
                        f"{file}:{at}: {name} is {word!r}; expected a number"
                    ) from None
        raise
    wrong = ~np.isfinite(sites)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise StorageError(
            f"{file}:{line[row]}: {SITES[column]} is {sites[row, column]:g}; expected finite "
            f"numbers ({wrong.any(axis=1).sum()} of {len(sites)} pairs have others)"
        )
    return sites


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _ids(words: Sequence[str], name: str, line: Sequence[int], file: str) -> np.ndarray:
    """A column of neurons, read as integers, because a float has only 53 bits."""
    ids = []
    for at, word in zip(line, words, strict=True):
        text = word.strip()
        if not (text.isascii() and text.isdecimal() and int(text) < LARGEST):
            raise StorageError(
                f"{file}:{at}: {name} is {word!r}; expected a whole number from 0 to 2^64 - 1"
            )
        ids.append(int(text))
    return np.array(ids, np.uint64)
