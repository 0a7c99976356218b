"""YAML read safely, with the line of every key and list item."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from volflow.config.keys import KeyPath
from volflow.config.problems import Problem, Problems, Where
from volflow.errors import PlanError

MOST_VALUES = 100_000  # nested aliases grow without bound; no pipeline comes near
MOST_CHARACTERS = 10_000_000
DEEPEST = 100  # lists and mappings within one another
LONGEST_NUMBER = 100  # characters
NUMBER_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
COLLECTION_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
MERGE_TAG = "tag:yaml.org,2002:merge"


@dataclass
class Content:
    """The data of a YAML text, the line of each path, and the problems of the text."""

    data: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read_yaml(text: str) -> Content:
    """The content of a YAML text with the line of each key and list item, counted from 1.

    Only plain values, lists and mappings are built. A duplicate key is a problem (the first one
    counts), and so is a tag that would build any other object.
    """
    content = Content()
    try:
        problem = _beyond_limits(text)
        if problem is not None:
            content.problems.append(problem)
            return content
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        parts = [getattr(error, "context", None), getattr(error, "problem", None)]
        reason = " ".join(filter(None, parts)) or str(error)
        line = mark.line + 1 if mark else 1
        content.problems.append(Problem((), f"this is not YAML: {reason}", line))
        return content
    if node is not None:
        content.data = _Builder(content).value(node, (), ())
    return content


def read_stored(body: bytes, where: str) -> dict[str, Any]:
    """The keys and values of a YAML text that is stored in a run, read like a file of one's own.

    Parameters
    ----------
    body : bytes
    where : str
        Its address, for messages.

    Raises
    ------
    PlanError
        With all problems.
    """
    try:
        content = read_yaml(body.decode())
    except UnicodeDecodeError as error:
        raise PlanError(f"{where}: expected UTF-8 text") from error
    problems = Problems(Where(where, content.lines))
    problems.extend(content.problems)
    if not problems and not isinstance(content.data, dict):
        problems.add((), "expected keys and values")
    problems.check()
    data: dict[str, Any] = content.data
    return data


def _beyond_limits(text: str) -> Problem | None:
    """The problem of a text that is too long or too deep to be built, found without building it."""
    if len(text) > MOST_CHARACTERS:
        return Problem((), f"expected at most {MOST_CHARACTERS} characters, got {len(text)}", 1)
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                line = event.start_mark.line + 1 if event.start_mark else 1
                return Problem((), f"expected at most {DEEPEST} levels of nesting", line)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return None


class _Builder:
    def __init__(self, content: Content) -> None:
        self.content = content
        self.scalars = yaml.SafeLoader("")
        self.count = 0

    def value(self, node: yaml.Node, path: KeyPath, above: tuple[int, ...]) -> Any:
        self.content.lines.setdefault(path, node.start_mark.line + 1)
        self.count += 1
        if self.count > MOST_VALUES or id(node) in above:
            if self.count <= MOST_VALUES + 1:
                self._problem(
                    path, node, f"a value that contains itself, or over {MOST_VALUES} values"
                )
            return None
        above = (*above, id(node))
        if isinstance(node, yaml.CollectionNode) and node.tag not in COLLECTION_TAGS:
            self._problem(path, node, f"expected a plain value: no tag {node.tag}")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, above)
        if isinstance(node, yaml.SequenceNode):
            return [
                self.value(item, (*path, number), above) for number, item in enumerate(node.value)
            ]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, above: tuple[int, ...]) -> Any:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key, str) or key_node.tag == MERGE_TAG:
                self._problem(path, key_node, "expected a key of plain text")
            elif key in built:
                first = self.content.lines[(*path, key)]
                self._problem((*path, key), key_node, f"duplicate key, first on line {first}")
            else:
                self.content.lines[(*path, key)] = key_node.start_mark.line + 1
                built[key] = self.value(value_node, (*path, key), above)
        return built

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        if node.tag in NUMBER_TAGS and len(node.value) > LONGEST_NUMBER:
            characters = f"{LONGEST_NUMBER} characters, got {len(node.value)}"
            self._problem(path, node, f"expected a number of at most {characters}")
            return None
        try:
            return self.scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            problem = getattr(error, "problem", None) or error
            self._problem(path, node, f"expected a plain value: {problem}")
            return None

    def _problem(self, path: KeyPath, node: yaml.Node, text: str) -> None:
        self.content.problems.append(Problem(path, text, node.start_mark.line + 1))
