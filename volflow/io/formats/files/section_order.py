"""The order of sections, from the numbers in their names: a gap or a duplicate is an error.

A missing section would move all that follow to a wrong z, and an overview among the sections
would become one of them. `?order=names` declares that the natural order of the names is right,
`?order=signed` that a hyphen before a number is always its sign.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

FIX = "add, rename or remove files, or declare that the order of names is right: ?order=names"
_MARKED = re.compile(r"((?:(?<![^\W_])(?<!-)[+-])?\d+)")
"""A number; a sign before it counts if it follows no letter or digit: -3, z_-3, but scan-3."""
_SIGNED = re.compile(r"([+-]?\d+)")
_AMBIGUOUS = re.compile(r"(?<=[^\W\d_])-[1-9]\d*(?!\d)")  # after a letter, without leading zeros


class SectionOrderError(ValueError):
    """The names of sections contradict that they are one row of sections."""


class NamesDifferError(SectionOrderError):
    """Names differ in more than numbers."""


def natural(text: str) -> tuple[list[tuple[int, str]], str]:
    """A key that sorts s9 before s10, and -2 before -1."""
    parts = _MARKED.split(text)  # words and numbers in turns
    return [(int(part), "") if at % 2 else (0, part) for at, part in enumerate(parts)], text


def sections_in_order(files: Sequence[Path], signed: bool = False) -> tuple[list[Path], list[str]]:
    """Files in order of their folders, then of the section numbers in their names.

    Parameters
    ----------
    files : sequence of Path
    signed : bool
        Whether a hyphen before a number of a file is its sign, also after a letter.

    Returns
    -------
    list of Path, list of str
        The files, and warnings about names that leave the order open.

    Raises
    ------
    SectionOrderError
        If the numbers have a gap or a duplicate, or names differ in more than numbers.
    """
    folders: dict[str, list[Path]] = {}
    for path in files:
        folders.setdefault(str(path.parent), []).append(path)
    groups, numbers, warnings = [], [], []
    try:
        names, _ = _ordered(list(folders), list(folders))
    except NamesDifferError:
        names = sorted(folders, key=natural)
        warnings.append(f"{len(names)} folders of sections are joined in order of their names")
    for name in names:
        group = folders[name]
        stems = [path.stem for path in group]
        order, row = _ordered(stems, [path.name for path in group], signed)
        by_stem = {path.stem: path for path in group}
        groups.append([by_stem[stem] for stem in order])
        numbers.append(row)
    _require_continuation(names, numbers)
    first = numbers[0]
    if not first and len(groups[0]) > 1:
        warnings.append("the names of the sections have no numbers; they are in order of names")
    elif len(first) > 1 and first[1] - first[0] > 1:
        step = first[1] - first[0]
        warnings.append(f"the section numbers go in steps of {step}; none counts as missing")
    if not signed and len(groups[0]) > 1 and all(_AMBIGUOUS.search(p.stem) for p in groups[0]):
        first_name, last_name = groups[0][0].name, groups[0][-1].name
        warnings.append(
            f"the hyphen before the section numbers is read as a separator, from {first_name} to "
            f"{last_name}; if it is a sign, declare it with ?order=signed"
        )
    return list(itertools.chain.from_iterable(groups)), warnings


def _ordered(
    texts: list[str], shown: list[str], signed: bool = False
) -> tuple[list[str], list[int]]:
    """Texts in the order of their numbers, and the number of each; none if there are no numbers."""
    doubled = [text for text, count in Counter(texts).items() if count > 1]
    if doubled:
        both = [name for name, text in zip(shown, texts, strict=True) if text == doubled[0]]
        raise SectionOrderError(f"{' and '.join(both[:2])} are the same section; {FIX}")
    if len(texts) == 1 or not any(map(_MARKED.search, texts)):
        in_name = _MARKED.findall(texts[0])
        alone = len(texts) == 1 and len(in_name) == 1
        return sorted(texts, key=natural), [int(in_name[0])] if alone else []
    rows = _numbers(texts, shown, signed)
    order = sorted(range(len(texts)), key=lambda i: (rows[i], texts[i]))
    names = [shown[i] for i in order]
    row = _section_numbers(np.array([rows[i] for i in order], dtype=object), names)
    return [texts[i] for i in order], row


def _numbers(texts: list[str], shown: list[str], signed: bool) -> list[tuple[int, ...]]:
    """All numbers in each text; the rest of the texts has to be equal.

    A sign after a letter or digit counts if some texts have one where others have none: z-1, z0,
    z1. Otherwise it separates a name from its number: scan-1, scan-2.
    """
    for pattern in (_SIGNED,) if signed else (_MARKED, _SIGNED):
        split = [pattern.split(text) for text in texts]
        words = [tuple(word.lower() for word in parts[::2]) for parts in split]
        if len(set(words)) == 1:
            return [tuple(int(number) for number in parts[1::2]) for parts in split]
    split = [_MARKED.split(text) for text in texts]
    words = [tuple(word.lower() for word in parts[::2]) for parts in split]
    common = Counter(words).most_common(1)[0][0]
    odd = [name for name, own in zip(shown, words, strict=True) if own != common]
    usual = next(name for name, own in zip(shown, words, strict=True) if own == common)
    more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
    raise NamesDifferError(
        f"names differ in more than numbers; expected names like {usual}, got "
        f"{', '.join(sorted(odd)[:3])}{more}; {FIX}"
    )


def _section_numbers(rows: np.ndarray, names: list[str]) -> list[int]:
    """The column that counts sections, of the numbers (N, K) in N sorted names.

    Other columns may be times or counters of an instrument. A column that counts in even steps
    with few exceptions is taken to count sections, and its exceptions to be gaps or duplicates.
    """
    steps = {}
    for column in range(rows.shape[1]):
        differences = [int(b - a) for a, b in itertools.pairwise(rows[:, column])]
        if any(differences):
            steps[column] = differences
    for column, differences in steps.items():
        zero = differences.count(0)
        mostly_rising = min(differences) >= 0 and 2 * zero <= len(differences)
        if zero and (mostly_rising or len(steps) == 1):
            at = differences.index(0)
            number = rows[at, column]
            raise SectionOrderError(
                f"section {number} is there twice: {names[at]} and {names[at + 1]}; {FIX}"
            )
    rising = {column: each for column, each in steps.items() if min(each) > 0}
    if any(max(each) < 0 for each in steps.values()):
        raise SectionOrderError(
            f"two numbers order the sections in opposite ways, as in {names[0]} and {names[1]}; "
            f"{FIX}"
        )
    for each in rising.values():
        least = min(each)
        regular = all(step % least == 0 for step in each) and 2 * each.count(least) >= len(each)
        if max(each) != least and (regular or len(steps) == 1):
            at = next(i for i, step in enumerate(each) if step != least)
            raise SectionOrderError(
                f"sections are missing between {names[at]} and {names[at + 1]}; expected steps of "
                f"{least}, got {each[at]}; {FIX}"
            )
    for column, each in rising.items():
        if min(each) == max(each):
            return [int(number) for number in rows[:, column]]
    raise SectionOrderError(
        f"several numbers change from {names[0]} to {names[-1]}, and none counts sections in even "
        f"steps; {FIX}"
    )


def _require_continuation(names: list[str], numbers: list[list[int]]) -> None:
    """Raise unless each folder begins like the first, or where the one before it ended."""
    if not all(numbers):
        return
    first = numbers[0]
    step = first[1] - first[0] if len(first) > 1 else 1
    for (before, row), (name, after) in itertools.pairwise(zip(names, numbers, strict=True)):
        if after[0] not in (first[0], row[-1] + step):
            raise SectionOrderError(
                f"{name}: expected sections from {first[0]} or, after {before}, from "
                f"{row[-1] + step}; got {after[0]} first; {FIX}"
            )
