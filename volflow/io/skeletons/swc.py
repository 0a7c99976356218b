"""SWC: a neuron as lines of `id type x y z radius parent`.

    # comments begin with a hash
    # OFFSET 0.0 100.0 50.0           added to the positions of all nodes, in their unit
    1 1 10.0 20.0 30.0 5.0 -1        a root
    2 3 12.0 20.0 30.0 2.0 1         its child

Ids may have gaps and any order; a parent may come before or after its children. There may be
several roots, each with a parent below 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from volflow.core.skeleton import Skeleton
from volflow.errors import StorageError

SUFFIX = ".swc"
COLUMNS = ("id", "type", "x", "y", "z", "radius", "parent")
AXES = {"xyz": (4, 3, 2), "zyx": (2, 3, 4)}  # the columns of z, y, x
UNKNOWN = -1.0  # an unknown radius, as tracing tools write it
_HEADER = re.compile(r"\s*#\s*(OFFSET|SCALE)\b[\s:=]*(.*\d.*)$", re.IGNORECASE)

LARGEST = 2.0**53  # ids up to here are exact in the float that a column is read as


class Scaling(NamedTuple):
    """The units of a file's numbers: nanometres per unit along z, y, x and of the radius."""

    axis_order: str = "xyz"
    unit_nm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    radius_nm: float = 1.0
    header: bool = True
    """Whether a header's OFFSET counts."""


def parse_swc(text: str, name: int, file: str, scaling: Scaling) -> Skeleton:
    """The skeleton of an SWC file.

    Nodes keep the order of their lines. A radius of -1 is unknown and becomes 0.

    Parameters
    ----------
    text : str
    name : int
        Id of the skeleton.
    file : str
        For messages.
    scaling : Scaling

    Raises
    ------
    StorageError
        If the file is empty, a line has too few columns, a value is not a finite number, a radius
        is negative, an id occurs twice, a parent is missing, or edges form a cycle; with file and
        line.
    """
    lines, table = _table(text, file)
    ids, parents = _names(table, 0, lines, file), _names(table, 6, lines, file)
    _refuse_repeated(ids, lines, file)
    parent = _indices(ids, parents, lines, file)
    _refuse_cycles(parent, ids, lines, file)
    radius = np.where(table[:, 5] == UNKNOWN, 0.0, table[:, 5])
    _refuse(radius < 0, lines, file, lambda n: f"the radius {radius[n]:g} is negative")
    columns = AXES[scaling.axis_order]
    moved = _header_offset(text, file) if scaling.header else np.zeros(3)
    shift = moved[[column - 2 for column in columns]]
    position = (table[:, columns] + shift) * np.array(scaling.unit_nm)
    return Skeleton(name, position, parent, radius * scaling.radius_nm)


def format_swc(skeleton: Skeleton, scaling: Scaling, soma_nm: float = 0.0) -> str:
    """A skeleton as SWC that `parse_swc` reads back to the same nodes in the same order.

    Numbers are written to their last bit; with units other than 1 nm the division may change it.
    Roots with a radius of at least `soma_nm` are of type 1 (soma), other nodes of type 0.
    """
    position = skeleton.position / np.array(scaling.unit_nm)
    if scaling.axis_order == "xyz":
        position = position[:, ::-1]
    radius = skeleton.radius / scaling.radius_nm
    parents = np.where(skeleton.parent < 0, -1, skeleton.parent + 1)
    soma = (skeleton.parent < 0) & (skeleton.radius >= soma_nm)
    rows = zip(position.tolist(), soma.tolist(), radius.tolist(), parents.tolist(), strict=True)
    axes = " ".join(scaling.axis_order)
    lines = [f"# id type {axes} radius parent"]
    for number, ((a, b, c), is_soma, r, above) in enumerate(rows, 1):
        lines.append(f"{number} {int(is_soma)} {a!r} {b!r} {c!r} {r!r} {above}")
    return "\n".join(lines) + "\n"


# --- header --------------------------------------------------------------------------------------


def _header_offset(text: str, file: str) -> np.ndarray:
    """The OFFSET of a file's header, which is added to its positions, float64 (3,); 0 without one.

    Raises
    ------
    StorageError
        If it is no three numbers, or the header has a SCALE other than 1.
    """
    offset = np.zeros(3)
    for number, line in enumerate(text.splitlines(), 1):
        match = _HEADER.match(line)
        if match is None:
            continue
        words = match.group(2).replace(",", " ").split()
        try:
            values = np.array([float(word) for word in words])
        except ValueError:
            values = np.zeros(0)
        if len(values) != 3 or not np.isfinite(values).all():
            raise StorageError(
                f"{file}:{number}: expected three numbers after {match.group(1)}, got "
                f"{match.group(2)[:60]!r}; correct it, or add ?header=ignore"
            )
        if match.group(1).upper() == "OFFSET":
            offset = values
        elif (values != 1).any():
            raise StorageError(
                f"{file}:{number}: expected a SCALE of 1, got {match.group(2)[:60]!r}; programs "
                f"disagree on whether positions are scaled: write them scaled, or add "
                f"?header=ignore and set unit_nm"
            )
    return offset


# --- reading -------------------------------------------------------------------------------------


def _table(text: str, file: str) -> tuple[np.ndarray, np.ndarray]:
    """Line numbers (N,), and the seven columns, float64 (N, 7), all finite."""
    lines, rows = [], []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) < len(COLUMNS):
            raise StorageError(
                f"{file}:{number}: expected {len(COLUMNS)} columns ({' '.join(COLUMNS)}); "
                f"got {len(words)}: {line.strip()[:60]!r}"
            )
        lines.append(number)
        rows.append(words[:7])
    try:
        table = np.array(rows, dtype=np.float64).reshape(-1, len(COLUMNS))
    except ValueError:
        table = np.array([_numbers(*row, file) for row in zip(lines, rows, strict=True)])
    if not text.strip():
        raise StorageError(f"{file}: expected nodes, got an empty file")
    where = np.array(lines, np.int64)
    wrong = ~np.isfinite(table)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise StorageError(
            f"{file}:{where[row]}: {COLUMNS[column]} is {table[row, column]:g}; expected finite "
            f"numbers ({wrong.any(axis=1).sum()} of {len(table)} nodes have others)"
        )
    return where, table


def _numbers(line: int, words: Sequence[str], file: str) -> list[float]:
    numbers = []
    for name, word in zip(COLUMNS, words, strict=True):
        try:
            numbers.append(float(word))
        except ValueError:
            raise StorageError(f"{file}:{line}: {name} is {word!r}; expected a number") from None
    return numbers


def _names(table: np.ndarray, column: int, lines: np.ndarray, file: str) -> np.ndarray:
    """A column of ids as int64."""
    values = table[:, column]
    wrong = (values != np.floor(values)) | (np.abs(values) > LARGEST)
    what = COLUMNS[column]
    _refuse(wrong, lines, file, lambda n: f"{what} is {values[n]:g}; expected an integer")
    return values.astype(np.int64)


def _indices(ids: np.ndarray, parents: np.ndarray, lines: np.ndarray, file: str) -> np.ndarray:
    """Parents as indices of nodes, -1 at roots."""
    roots = parents < 0
    if not len(ids):
        return parents
    order = np.argsort(ids, kind="stable")
    place = np.minimum(np.searchsorted(ids[order], parents), len(ids) - 1)
    indices = order[place]
    missing = (ids[indices] != parents) & ~roots
    _refuse(
        missing,
        lines,
        file,
        lambda n: f"node {ids[n]} has the parent {parents[n]}, which is not in the file",
    )
    return np.where(roots, -1, indices)


def _refuse_repeated(ids: np.ndarray, lines: np.ndarray, file: str) -> None:
    _, first = np.unique(ids, return_index=True)
    again = np.ones(len(ids), bool)
    again[first] = False

    def problem(n: int) -> str:
        return f"node {ids[n]} occurs already in line {lines[np.argmax(ids == ids[n])]}"

    _refuse(again, lines, file, problem)


def _refuse_cycles(parent: np.ndarray, ids: np.ndarray, lines: np.ndarray, file: str) -> None:
    """Raise if edges form a cycle: doubling the steps up, its nodes never reach a root."""
    above = parent.copy()
    for _ in range(max(len(parent), 1).bit_length() + 1):
        under = np.flatnonzero(above >= 0)
        above[under] = above[above[under]]
    wrong = above >= 0
    # among the nodes that lead to a cycle, those on it are ancestors of others
    on_it = np.zeros(len(parent), bool)
    on_it[above[wrong]] = True
    _refuse(on_it, lines, file, lambda n: f"node {ids[n]} is its own ancestor: edges form a cycle")


def _refuse(wrong: np.ndarray, lines: np.ndarray, file: str, problem: Callable[[int], str]) -> None:
    """Raise for the first wrong line, with the number of such lines."""
    count = int(np.count_nonzero(wrong))
    if not count:
        return
    first = int(np.argmax(wrong))
    more = f" ({count} such lines)" if count > 1 else ""
    raise StorageError(f"{file}:{lines[first]}: {problem(first)}{more}")
