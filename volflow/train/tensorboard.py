"""Curves of a training for TensorBoard, where that is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def curves(folder: Path, first: int) -> Callable[[dict[str, Any]], None]:
    """Something that writes a training's numbers as curves, or that does nothing.

    Parameters
    ----------
    folder : Path
        Where they are written; nothing is, where the package `tensorboard` is not installed.
    first : int
        The step that is gone on from: what was written of later ones is put aside.
    """
    try:  # here, because the import takes seconds
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return lambda row: None
    writer: Any = SummaryWriter(str(folder), purge_step=first)

    def write(row: dict[str, Any]) -> None:
        for name, number in numbers(row).items():
            writer.add_scalar(name, number, row["step"])
        writer.flush()

    return write


def numbers(row: dict[str, Any], above: str = "") -> dict[str, float]:
    """The numbers of a row, those of a mapping in it by `name/key`; its step is none."""
    found: dict[str, float] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            found |= numbers(value, f"{above}{key}/")
        elif isinstance(value, int | float) and key != "step":
            found[above + key] = float(value)
    return found
