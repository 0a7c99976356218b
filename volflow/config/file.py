"""YAML read safely, with the line of every key and item."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from volflow.config.problems import KeyPath

MOST_VALUES = 100_000  # aliases of aliases grow without bound; no pipeline comes near
MERGE_TAG = "tag:yaml.org,2002:merge"


@dataclass
class Lines:
    """The content of a YAML text, the line of each path, and what was wrong."""

    data: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[tuple[KeyPath, int, str]] = field(default_factory=list)
    """Path, line, and what is wrong there."""


def read_yaml(text: str) -> Lines:
    """The content of a YAML text with the line of each key and list item, counted from 1.

    Only plain values, lists and mappings are made. A key that comes twice in a mapping is a
    mistake (the first one counts), and so is any tag that would make another object.
    """
    found = Lines()
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = [getattr(error, "context", None), getattr(error, "problem", None)]
        text = " ".join(filter(None, problem)) or str(error)
        found.problems.append(((), mark.line + 1 if mark else 1, f"this is not YAML: {text}"))
        return found
    if node is not None:
        found.data = _Builder(found).value(node, (), ())
    return found


class _Builder:
    def __init__(self, found: Lines) -> None:
        self.found = found
        self.scalars = yaml.SafeLoader("")
        self.count = 0

    def value(self, node: yaml.Node, path: KeyPath, above: tuple[int, ...]) -> Any:
        self.found.lines.setdefault(path, node.start_mark.line + 1)
        self.count += 1
        if self.count > MOST_VALUES or id(node) in above:
            if self.count <= MOST_VALUES + 1:
                self._mistake(
                    path, node, f"a value that holds itself, or over {MOST_VALUES} values"
                )
            return None
        above = (*above, id(node))
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
                self._mistake(path, key_node, "a key is plain text here")
            elif key in built:
                first = self.found.lines[(*path, key)]
                self._mistake(
                    (*path, key), key_node, f"this key comes twice, first on line {first}"
                )
            else:
                self.found.lines[(*path, key)] = key_node.start_mark.line + 1
                built[key] = self.value(value_node, (*path, key), above)
        return built

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        try:
            return self.scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            problem = getattr(error, "problem", None) or error
            self._mistake(path, node, f"not a plain value: {problem}")
            return None

    def _mistake(self, path: KeyPath, node: yaml.Node, text: str) -> None:
        self.found.problems.append((path, node.start_mark.line + 1, text))
