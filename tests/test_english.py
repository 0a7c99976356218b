"""The rules of English in CONTRIBUTING.md: docstrings, messages, comments, names and docs."""

from __future__ import annotations

import ast
import builtins
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = sorted(
    path
    for folder in ("volflow", "benchmarks", "examples", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if path != Path(__file__)  # it lists the words
)
PROSE = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "volflow/weights/*.md")
    for path in ROOT.glob(pattern)
)
COMMENTED = sorted(
    path
    for pattern in ("pipelines/**/*.yaml", "deploy/**/*", "Makefile", ".ci/run")
    for path in ROOT.glob(pattern)
    if path.is_file()
)

FIRST_WORDS = ("What", "Who", "How", "Where", "Which", "Why", "Of", "So")
"""A docstring names what is returned, or commands; it does not begin like this."""

PERSONS = re.compile(
    r"\b(nobody|somebody|whoever|tells?|told|telling|says?|said|speaks?|spoke|lies?|lay|lying|"
    r"goes? with|anew|begun|beside)\b",
    re.IGNORECASE,
)
"""Programs and data are no persons, and some words are not how the field writes."""

VAGUE = ("found", "told", "made", "kept", "said", "begun")
"""Names of variables that say nothing of what they hold."""


def breaches(text: str) -> list[str]:
    """The words in a text that the rules exclude; code between backticks does not count."""
    prose = re.sub(r"```.*?```|`[^`\n]*`|https?://\S+", "", text, flags=re.DOTALL)
    return [match.group(0) for match in PERSONS.finditer(prose)]


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def texts(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Strings of more than one word, and comments, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value
    with path.open("rb") as file:
        for token in tokenize.tokenize(io.BytesIO(file.read()).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def names_bound(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Variables and parameters, with their lines; a field of a class shadows nothing outside it."""
    fields = {
        id(field.target)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for field in node.body
        if isinstance(field, ast.AnnAssign)
    }
    for node in ast.walk(tree):
        if id(node) in fields:
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_keeps_the_rules(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    problems = [
        f"{place(path, line)}: docstring begins with '{text.split()[0]}'"
        for line, text in docstrings(tree)
        if text.split()[0].rstrip(",:;") in FIRST_WORDS
    ]
    for line, text in texts(path, tree):
        problems += [f"{place(path, line)}: '{word}'" for word in breaches(text)]
    for line, name in names_bound(tree):
        if name in VAGUE:
            problems.append(f"{place(path, line)}: a variable called '{name}'")
        elif name in dir(builtins) and not name.startswith("_"):
            problems.append(f"{place(path, line)}: '{name}' shadows a builtin")
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_docs_keep_the_rules(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    blank = re.sub(r"```.*?```", lambda m: "\n" * m.group(0).count("\n"), text, flags=re.DOTALL)
    problems = [
        f"{place(path, number)}: '{word}'"
        for number, line in enumerate(blank.splitlines(), 1)
        for word in breaches(line)
    ]
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize("path", COMMENTED, ids=lambda path: str(path.relative_to(ROOT)))
def test_comments_of_pipelines_and_scripts_keep_the_rules(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    problems = [
        f"{place(path, number)}: '{word}'"
        for number, line in enumerate(lines, 1)
        if "#" in line
        for word in breaches(line.partition("#")[2])
    ]
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The worker says that nobody told it.", ["says", "nobody", "told"]),
        ("Labels of the voxels beside a face.", ["beside"]),
        ("Besides, `told` is code, and so is\n```\nsays\n```\n", []),
    ],
)
def test_breaches_are_found(text: str, words: list[str]) -> None:
    assert breaches(text) == words
