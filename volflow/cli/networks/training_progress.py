"""Progress lines of a training or pretraining."""

from __future__ import annotations

from typing import Any

import click

from volflow.cli.terminal import options

EVERY = 100  # steps between two lines


class TrainingProgress:
    """Called with each row of the history: a line per validation, and one every 100 steps.

    Parameters
    ----------
    steps : int
        Steps of the whole training.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, row: dict[str, Any]) -> None:
        """Print the line of a row, if it has one and `-q` is not given."""
        if options.quiet():
            return
        scores = _scores(row)
        if scores:
            self._print(row, scores)
        elif row["step"] % EVERY == 0:
            left = (self.steps - row["step"]) * row["seconds"] / 60
            self._print(row, f"{row['seconds']:.2f} s per step, {left:.0f} min left")

    def _print(self, row: dict[str, Any], text: str) -> None:
        click.echo(f"step {row['step']:>6}/{self.steps}  loss {row['loss']:.4f}  {text}")


def _scores(row: dict[str, Any]) -> str:
    """The validation scores of a row; empty without a validation."""
    if "error" in row:  # of a pretraining
        mark = "  best so far" if row["error"] == row["best"] else ""
        return f"held-out error {row['error']:.4f}{mark}"
    if "scores" not in row:
        return ""
    mark = "  best so far" if row["score"] == row["best"] else ""
    if len(row["scores"]) == 1 and "vi" in row:
        parts = f"{row['vi_split']:.3f} split + {row['vi_merge']:.3f} merge"
        return f"VI {row['vi']:.3f} = {parts} at {row['threshold']:g}{mark}"
    each = "  ".join(f"{name} {error:.3f}" for name, error in row["scores"].items())
    return f"mean {row['score']:.3f}: {each}{mark}"
