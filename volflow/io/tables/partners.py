"""Tables of synaptic partners: CSV, a pair of sites to each line.

    pre_z,pre_y,pre_x,post_z,post_y,post_x,pre_neuron,post_neuron
    4000,812.5,300,4040,860,310,17,23

    csv://found.csv?unit_nm=8           numbers in voxels of 8 nm
    csv://found.csv?unit_nm=40,4,4      the same of other voxels, z,y,x
    found.csv                           a plain path: nanometres

Columns are found by name, in any order; others than these are passed over. The two of neurons may
be missing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from volflow.config.problems import closest
from volflow.errors import StorageError
from volflow.io.address import TABLES, Address
from volflow.io.store import Store

SITES = ("pre_z", "pre_y", "pre_x", "post_z", "post_y", "post_x")
NEURONS = ("pre_neuron", "post_neuron")
OPTIONS = ("unit_nm",)
LARGEST = 1 << 64  # neurons are uint64


@dataclass(frozen=True, slots=True, eq=False)
class PartnerTable:
    """Directed pairs of synaptic sites as they are stored.

    Attributes
    ----------
    address : str
    line : int64 array, (N,)
        Where in the file each pair stands, 1 the first line.
    pre, post : float64 array, (N, 3)
        z, y, x in nanometres, finite.
    neurons : uint64 array, (N, 2), or None
        Presynaptic and postsynaptic, where the table tells.
    """

    address: str
    line: np.ndarray
    pre: np.ndarray
    post: np.ndarray
    neurons: np.ndarray | None

    def __len__(self) -> int:
        return len(self.line)


def read_partners(text: str) -> PartnerTable:
    """The table at an address.

    Raises
    ------
    StorageError
        If it is missing or empty, lacks a column, or a value is none; with file and line.
    """
    address = Address.parse(text)
    if address.format not in ("", *TABLES):
        raise StorageError(f"{text}: partners are read from CSV; {address.format} is none")
    unit = _unit(address)
    folder, _, file = address.location.rpartition("/")
    body = Store(folder or "/").read(file)
    if body is None:
        raise StorageError(f"{address.location}: there is no such file")
    try:
        content = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StorageError(f"{address.location}: it is no UTF-8 text") from error
    header, line, rows = _table(content, address.location)
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
    return PartnerTable(str(address), where, sites[:, :3], sites[:, 3:], neurons)


def _unit(address: Address) -> tuple[float, float, float]:
    """Nanometres of a unit along z, y, x."""
    given = dict(address.query)
    for name in given:
        if name not in OPTIONS:
            raise StorageError(
                f"{address}: there is no option '{name}'{closest(name, OPTIONS)} (options: "
                f"{', '.join(OPTIONS)})"
            )
    text = given.get("unit_nm", "1")
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = []
    if len(found) not in (1, 3) or not all(0 < side < float("inf") for side in found):
        raise StorageError(
            f"{address}: unit_nm is one positive number of nanometres, or three for z,y,x; "
            f"got {text!r}"
        )
    z, y, x = found * 3 if len(found) == 1 else found
    return z, y, x


def _table(content: str, file: str) -> tuple[list[str], list[int], list[list[str]]]:
    """Column names, and the lines that are not empty with their numbers; all as wide."""
    reader = csv.reader(io.StringIO(content, newline=""))
    header: list[str] = []
    line, rows = [], []
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if not header:
                header = [cell.strip() for cell in row]
                _check_header(header, file, reader.line_num)
            elif len(row) != len(header):
                raise StorageError(
                    f"{file}:{reader.line_num}: expected {len(header)} values, one to each column; "
                    f"got {len(row)}"
                )
            else:
                line.append(reader.line_num)
                rows.append(row)
    except csv.Error as error:
        raise StorageError(f"{file}:{reader.line_num}: {error}") from error
    if not header:
        raise StorageError(f"{file}: it is empty; expected a line of column names first")
    return header, line, rows


def _check_header(header: Sequence[str], file: str, line: int) -> None:
    twice = sorted({name for name in header if header.count(name) > 1} & {*SITES, *NEURONS})
    if twice:
        raise StorageError(f"{file}:{line}: column {', '.join(twice)} is there twice")
    wanted = SITES if not set(header) & set(NEURONS) else (*SITES, *NEURONS)
    missing = [name for name in wanted if name not in header]
    if missing:
        others = [name for name in header if name not in wanted]
        told = ", ".join(f"'{name}'{closest(name, others)}" for name in missing)
        raise StorageError(
            f"{file}:{line}: columns are missing: {told} (there are: {', '.join(header)})"
        )


def _numbers(columns: list[list[str]], line: Sequence[int], file: str) -> np.ndarray:
    """The sites, float64 (N, 6), all of them finite."""
    try:
        found = np.array(columns, np.float64).T.reshape(-1, len(SITES))
    except ValueError:
        for name, words in zip(SITES, columns, strict=True):
            for at, word in zip(line, words, strict=True):
                if not _is_number(word):
                    raise StorageError(
                        f"{file}:{at}: {name} is {word!r}; expected a number"
                    ) from None
        raise
    wrong = ~np.isfinite(found)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise StorageError(
            f"{file}:{line[row]}: {SITES[column]} is {found[row, column]:g}; expected finite "
            f"numbers ({wrong.any(axis=1).sum()} of {len(found)} pairs have others)"
        )
    return found


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _ids(words: Sequence[str], name: str, line: Sequence[int], file: str) -> np.ndarray:
    """A column of neurons; read as integers, because a float has only 53 bits."""
    found = []
    for at, word in zip(line, words, strict=True):
        text = word.strip()
        if not (text.isascii() and text.isdecimal() and int(text) < LARGEST):
            raise StorageError(
                f"{file}:{at}: {name} is {word!r}; expected a whole number from 0 to 2^64 - 1"
            )
        found.append(int(text))
    return np.array(found, np.uint64)
