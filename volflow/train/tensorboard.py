"""Training curves for TensorBoard, where the package `tensorboard` is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def curve_writer(folder: Path, first: int) -> Callable[[dict[str, Any]], None]:
    """A function that writes the numbers of a row as points of curves.

    It does nothing where `tensorboard` is not installed.

    Parameters
    ----------
    folder : Path
        Receives the event files.
    first : int
        Step from which training resumes; points written earlier for later steps are purged.
    """
    try:  # here, because the import takes seconds
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return lambda row: None
    writer: Any = SummaryWriter(str(folder), purge_step=first)

    def write(row: dict[str, Any]) -> None:
        for name, number in scalars(row).items():
            writer.add_scalar(name, number, row["step"])
        writer.flush()

    return write


def scalars(row: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a row except its step, those of nested mappings as `name/key`."""
    numbers: dict[str, float] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            numbers |= scalars(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and key != "step":
            numbers[prefix + key] = float(value)
    return numbers
