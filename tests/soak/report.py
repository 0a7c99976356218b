"""The outcome of the runs of a soak: a line each, and tables of all.

python -m tests.soak.report FILE     the tables of the lines in a file
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

WRONG = {"bytes": "wrong bytes", "repeated": "repeated blocks", "orphan": "orphans"}
"""The complaints that must not be, and what they are called in the tables."""


class Line(NamedTuple):
    """One run."""

    seed: int
    kind: str
    executor: str
    store: str
    pipeline: str
    harmed: int
    """How often it was harmed."""
    missed: int
    """How often its driver had ended before it was to be harmed."""
    seconds: float
    complaints: list[tuple[str, ...]]
    note: str

    def __str__(self) -> str:
        verdict = "; ".join(f"{each[0].upper()} {each[1]}" for each in self.complaints) or "well"
        place = self.executor if self.store == "disk" else f"{self.executor} {self.store}"
        return (
            f"seed {self.seed}: {self.kind}, {place}, {self.pipeline}, {self.seconds} s, "
            f"{self.harmed} hit, {self.missed} missed ({self.note}): {verdict}"
        )


def table(lines: Sequence[Line]) -> Iterator[str]:
    """Markdown tables of the runs by kind, by executor and by pipeline, and their sums."""
    for title, key in (
        ("harm", lambda line: line.kind),
        ("executor, store", lambda line: f"{line.executor}, {line.store}"),
        ("pipeline", lambda line: line.pipeline),
    ):
        names = sorted({key(line) for line in lines})
        yield ""
        yield f"| {title} | runs | hits | too late | {' | '.join(WRONG.values())} | other |"
        yield "|---" * (5 + len(WRONG)) + "|"
        for name in names:
            yield _row(name, [line for line in lines if key(line) == name])
        yield _row("all", lines)


def _row(name: str, lines: Sequence[Line]) -> str:
    done = [line for line in lines if not line.note.startswith("skipped")]
    faults = Counter(kind for line in done for kind in {each[0] for each in line.complaints})
    other = sum(number for kind, number in faults.items() if kind not in WRONG)
    numbers = [len(done), sum(line.harmed for line in done), sum(line.missed for line in done)]
    numbers += [faults[kind] for kind in WRONG]
    return f"| {name} | {' | '.join(map(str, [*numbers, other]))} |"


def read_lines(path: Path) -> list[Line]:
    """The runs that are recorded in a file, which need not exist."""
    if not path.exists():
        return []
    return [Line(**json.loads(text)) for text in path.read_text().splitlines()]


if __name__ == "__main__":
    print("\n".join(table(read_lines(Path(sys.argv[1])))))
