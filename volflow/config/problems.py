"""Problems of a YAML file as sentences with file and line, and the places of its parts.

A problem reads `file:line: path.to.key: problem; expected X, got Y`. A value given on the command
line is placed by its option instead of a line.
"""

from __future__ import annotations

import difflib
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from volflow.config.keys import KeyPath, keys_of, model_at
from volflow.errors import PlanError

LONGEST_VALUE = 60  # characters of a wrong value that are shown


class Problem(NamedTuple):
    """Something wrong at a path of a file, or on a line where no path exists."""

    path: KeyPath
    text: str
    line: int = 0


T = TypeVar("T")
Checked: TypeAlias = Generator[Problem, None, T]
"""Yields the problems of something, and returns it as far as it can be used."""


def dotted(path: KeyPath) -> str:
    """A path as text: `steps[1].with.threshold`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def closest(word: object, words: Iterable[str]) -> str:
    """`; did you mean 'x'?` if one of the words resembles this one, else nothing."""
    close = difflib.get_close_matches(str(word), list(words), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def unknown_key(key: object, model: type[BaseModel] | None) -> str:
    """The text of the problem that a model has no such key."""
    renamed = getattr(model, "RENAMED", {}).get(key)
    if renamed is not None:
        return f"unknown key '{key}': it was renamed to '{renamed}'"
    known = [] if model is None else keys_of(model)
    return f"unknown key '{key}'{closest(key, known)} (known: {', '.join(known) or 'none'})"


@dataclass(frozen=True)
class Where:
    """The lines of a file and the options that changed it, by path.

    Not compared: two pipelines of the same content are equal wherever they were written.
    """

    file: str = field(default="", compare=False)
    lines: Mapping[KeyPath, int] = field(default_factory=dict, compare=False)
    options: Mapping[KeyPath, str] = field(default_factory=dict, compare=False)
    folders: tuple[str, ...] = field(default=(), compare=False)
    """Folders in which modules of the user's own stages are searched."""

    def of(self, path: KeyPath) -> str:
        """The option, or the file and line, of a path or of the nearest one above it."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.options:
                return self.options[path[:end]]
            if path[:end] in self.lines:
                return f"{self.file}:{self.lines[path[:end]]}"
        return self.file


class Problems:
    """All problems of a file as sentences, collected so that one error reports them all."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self.found: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.found)

    def add(self, path: KeyPath, text: str, line: int = 0) -> None:
        """Add a problem at a path, or on a given line; duplicates are dropped."""
        place = f"{self.where.file}:{line}" if line else self.where.of(path)
        self.add_sentence(": ".join(part for part in (place, dotted(path), text) if part))

    def add_sentence(self, sentence: str) -> None:
        """Add a problem that names its place itself; duplicates are dropped."""
        if sentence not in self.found:
            self.found.append(sentence)

    def collect(self, checked: Checked[T]) -> T:
        """Add the problems that a generator yields; return what the generator returns."""
        while True:
            try:
                problem = next(checked)
            except StopIteration as end:
                result: T = end.value
                return result
            self.add(*problem)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Add several problems."""
        for problem in problems:
            self.add(*problem)

    def check(self) -> None:
        """Raise a PlanError with all problems, if there are any."""
        if self.found:
            raise PlanError(*self.found)


def validation_problems(
    error: ValidationError, data: object, model: type[BaseModel], base: KeyPath = ()
) -> Iterator[Problem]:
    """The problems of data that pydantic rejected, one for each path.

    Parameters
    ----------
    error : ValidationError
    data : object
        The data that were validated.
    model : type of BaseModel
        The model that they were validated with.
    base : KeyPath
        The path of the data in the file.
    """
    sentences: dict[KeyPath, list[str]] = {}
    about_keys: set[KeyPath] = set()
    for item in error.errors(include_url=False):
        path = _path_in_data(item, data)
        sentence = _sentence(item, model)
        texts = sentences.setdefault(path, [])
        if sentence not in texts:
            texts.append(sentence)
        if item["type"] == "extra_forbidden" or item["loc"][-1:] == ("[key]",):
            about_keys.add(path)
    for path, texts in sentences.items():
        value = _ABSENT if path in about_keys else _shown(data, path)
        text = texts[-1] if texts[-1].startswith("expected at least") else " or ".join(texts)
        yield Problem((*base, *path), text if value is _ABSENT else f"{text}; got {value}")


_ABSENT = object()


def _path_in_data(item: ErrorDetails, data: object) -> KeyPath:
    """The part of pydantic's location that exists in the data: it also names arms of unions."""
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
    """The value at a path as text, shortened; absent for a mapping."""
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return _ABSENT
    if isinstance(data, Mapping):  # a problem of several keys; their values are in the file
        return _ABSENT
    text = repr(data)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def _sentence(item: ErrorDetails, model: type[BaseModel]) -> str:
    kind, message = item["type"], item["msg"]
    if kind == "missing":
        last = item["loc"][-1] if item["loc"] else ""
        if isinstance(last, int):
            return f"expected at least {last + 1} items"
        return "missing, and has no default"
    if kind == "extra_forbidden":
        *above, key = item["loc"]
        return unknown_key(key, model_at(model, above))
    if kind in ("model_type", "dict_type", "mapping_type", "model_attributes_type"):
        return "expected keys and values"
    if kind in ("tuple_type", "list_type"):
        return "expected a list"
    for start in ("Input should be ", "Value error, "):
        if message.startswith(start):
            rest = message.removeprefix(start)
            return f"expected {rest}" if start.startswith("Input") else rest
    return message[:1].lower() + message[1:]
