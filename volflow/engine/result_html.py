"""The outcome of a run as a table in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from volflow.errors import VolflowError

if TYPE_CHECKING:
    from volflow.engine.result import RunResult, StepResult


def result_html(result: RunResult) -> str:
    """Outcome, steps, scores and volumes of a run as HTML."""
    outcome = "done" if result.ok else "interrupted" if result.interrupted else "not finished"
    parts = [f"<b>run {escape(result.run)}: {outcome}</b>"]
    heads = ("step", "blocks", "done", "failed", "seconds")
    parts.append(_table(heads, map(_step_cells, result.steps)))
    scores = [(step, key, value) for step, key, value in _numbers(result)]
    if scores:
        parts.append(_table(("result of", "name", "value"), scores))
    try:
        volumes = [
            (name, " x ".join(map(str, volume.shape)), str(volume.dtype))
            for name, volume in result.volumes.items()
        ]
    except VolflowError:  # a run whose folder is gone still has an outcome
        volumes = []
    if volumes:
        parts.append(_table(("volume", "shape", "dtype"), volumes))
    return "\n".join(parts)


def _step_cells(step: StepResult) -> tuple[str, ...]:
    counts = (step.total, step.done, len(step.failures))
    return (step.name, *(f"{number:,}" for number in counts), f"{step.seconds:.1f}")


def _numbers(result: RunResult) -> Iterable[tuple[str, str, str]]:
    """Step, name and value of the numbers among the results; lists and tables are left out."""
    for step, values in result.results.items():
        for name, value in values.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield step, name, f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
