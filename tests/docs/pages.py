"""The pages of the documentation, and the parts of them that tests check."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*TOP, *sorted((ROOT / "docs").rglob("*.md"))]
CARDS = sorted((ROOT / "volflow" / "weights").rglob("*.md"))


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block of a page; `line` is that of its first line of code."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file_name(self) -> str:
        """The name in a first line such as `# spots.py`; empty if there is none."""
        match = re.match(r"# ([\w-]+\.(?:py|yaml))\n", self.text)
        return match.group(1) if match else ""


def code_blocks(page: Path) -> list[CodeBlock]:
    """The fenced code blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        CodeBlock(page, text.count("\n", 0, match.start(2)) + 1, match.group(1), match.group(2))
        for match in re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE)
    ]


def prose(page: Path) -> str:
    """The text of a page with its code blocks blanked out, lines kept."""
    text = page.read_text(encoding="utf-8")
    blank = re.compile(r"^```.*\n(?:.*\n)*?```$", re.MULTILINE)
    return blank.sub(lambda match: "\n" * match.group(0).count("\n"), text)


def code_spans(page: Path) -> Iterator[tuple[int, str]]:
    """The text between single backticks, with its line."""
    for number, line in enumerate(prose(page).splitlines(), 1):
        for match in re.finditer(r"`([^`]+)`", line):
            yield number, match.group(1)


def shell_commands(text: str) -> list[list[str]]:
    """The commands of a shell block, split into words; comments and pipes are cut off."""
    joined = text.replace("\\\n", " ")
    commands = [shlex.split(line, comments=True) for line in joined.splitlines()]
    return [_first(words) for words in commands if words]


def _first(words: list[str]) -> list[str]:
    ends = [index for index, word in enumerate(words) if word in ("|", "&&", ";", ">")]
    return words[: ends[0]] if ends else words
