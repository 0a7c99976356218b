"""Where each part of a pipeline was written, and what is wrong with it, in sentences.

A mistake reads `file:line: path.to.key: what was expected, what came`; a value given on the command
line is placed by its option instead of a line.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from volflow.errors import PlanError

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top of the file."""

LONGEST_VALUE = 60  # characters of a wrong value that are shown


def dotted(path: KeyPath) -> str:
    """A path as it is shown: `steps[1].with.threshold`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def closest(word: object, words: Iterable[str]) -> str:
    """`; did you mean 'x'?` if one of the words looks like this one, else nothing."""
    close = difflib.get_close_matches(str(word), list(words), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys of a model as a file spells them."""
    return [entry.alias or name for name, entry in model.model_fields.items()]


@dataclass(frozen=True)
class Where:
    """The lines of a file and the options that changed it, by path.

    Two pipelines that say the same are equal wherever they were written, hence `compare=False`.
    """

    file: str = field(default="", compare=False)
    lines: Mapping[KeyPath, int] = field(default_factory=dict, compare=False)
    options: Mapping[KeyPath, str] = field(default_factory=dict, compare=False)
    folders: tuple[str, ...] = field(default=(), compare=False)
    """Where modules of the user's own stages are looked for."""

    def of(self, path: KeyPath) -> str:
        """The option, or the file and line, of this path or of what holds it."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.options:
                return self.options[path[:end]]
            if path[:end] in self.lines:
                return f"{self.file}:{self.lines[path[:end]]}"
        return self.file


class Problem(NamedTuple):
    """A problem at a path of the pipeline file."""

    path: KeyPath
    text: str


T = TypeVar("T")
Checked: TypeAlias = Generator[Problem, None, T]
"""Yields the problems of something, and returns it as far as it can be used."""


class Problems:
    """What is wrong with a pipeline, collected so that all of it is told at once."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self.found: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.found)

    def add(self, path: KeyPath, text: str, line: int = 0) -> None:
        """Note a mistake at a path, or at a given line; the same one twice counts once."""
        place = f"{self.where.file}:{line}" if line else self.where.of(path)
        parts = (place, dotted(path), text)
        sentence = ": ".join(part for part in parts if part)
        if sentence not in self.found:
            self.found.append(sentence)

    def collect(self, checked: Checked[T]) -> T:
        """Add the problems that a generator yields; returns what the generator returns."""
        while True:
            try:
                problem = next(checked)
            except StopIteration as end:
                result: T = end.value
                return result
            self.add(problem.path, problem.text)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Add all problems of an iterable."""
        for problem in problems:
            self.add(problem.path, problem.text)

    def add_validation(
        self,
        error: ValidationError,
        data: object,
        keys: Callable[[KeyPath], list[str]],
        base: KeyPath = (),
    ) -> list[KeyPath]:
        """Note what pydantic found in `data`, which stands at `base`.

        `keys` gives the keys that a mapping at a path may have. Returns the paths below `base`.
        """
        sentences: dict[KeyPath, list[str]] = {}
        about_keys: set[KeyPath] = set()
        for item in error.errors(include_url=False):
            path = _real_path(item, data)
            sentence = _sentence(item, keys)
            told = sentences.setdefault(path, [])
            if sentence not in told:
                told.append(sentence)
            if item["type"] == "extra_forbidden" or item["loc"][-1:] == ("[key]",):
                about_keys.add(path)
        for path, told in sentences.items():
            value = _ABSENT if path in about_keys else _shown(data, path)
            text = told[-1] if told[-1].startswith("expected at least") else " or ".join(told)
            self.add((*base, *path), text if value is _ABSENT else f"{text}; got {value}")
        return list(sentences)

    def check(self) -> None:
        """Raise what was found, if anything."""
        if self.found:
            raise PlanError(*self.found)


_ABSENT = object()


def _real_path(item: ErrorDetails, data: object) -> KeyPath:
    """The part of pydantic's location that is in the data: it also names arms of unions."""
    path: list[str | int] = []
    here: Any = data
    for part in item["loc"]:
        inside = isinstance(here, Mapping) and part in here
        if not inside and isinstance(here, list | tuple) and isinstance(part, int):
            inside = part < len(here)
        if not inside:
            if item["type"] == "missing" and isinstance(here, Mapping):
                path.append(part)
            break
        path.append(part)
        here = here[part]
    return tuple(path)


def _shown(data: Any, path: KeyPath) -> object:
    """The value at a path as text, shortened."""
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return _ABSENT
    text = repr(data)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def _sentence(item: ErrorDetails, keys: Callable[[KeyPath], list[str]]) -> str:
    kind, message = item["type"], item["msg"]
    if kind == "missing":
        last = item["loc"][-1] if item["loc"] else ""
        if isinstance(last, int):
            return f"expected at least {last + 1} items"
        return "missing, and has no default"
    if kind == "extra_forbidden":
        *above, key = item["loc"]
        known = keys(tuple(above))
        return f"unknown key '{key}'{closest(key, known)} (known: {', '.join(known)})"
    if kind in ("model_type", "dict_type", "mapping_type", "model_attributes_type"):
        return "expected keys and values"
    if kind in ("tuple_type", "list_type"):
        return "expected a list"
    for start in ("Input should be ", "Value error, "):
        if message.startswith(start):
            rest = message.removeprefix(start)
            return f"expected {rest}" if start.startswith("Input") else rest
    return message[:1].lower() + message[1:]
