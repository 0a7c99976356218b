"""The timeline of a run for its page: blocks done over time, and when each step ran."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volflow.view.report.pages import render

WIDTH, HEIGHT, ROW = 960, 120, 16  # pixels: the picture, its bars, the line of a step
SHOWN = 40  # workers


def timeline(history: Mapping[str, Any]) -> str:
    """A section of HTML with the timeline and the workers of a run; empty without events.

    Parameters
    ----------
    history : mapping
        See `volflow.engine.monitor.history.history`.
    """
    if not history or not any(history["blocks"]):
        return ""
    seconds = max(history["ended"] - history["begun"], 1e-3)
    workers = history["workers"]
    return render(
        "timeline.html",
        facts=", ".join(
            (
                _count(sum(history["blocks"]), "block") + f" in {seconds:.0f} s",
                _count(history["sessions"], "session"),
                _count(history["lost"], "lost worker"),
                _count(history["again"], "rescheduled range"),
                _count(history["stalls"], "stall"),
            )
        ),
        picture=_picture(history, seconds),
        workers=[{**worker, "share": worker["seconds"] / seconds} for worker in workers[:SHOWN]],
        more=max(0, len(workers) - SHOWN),
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _picture(history: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Positions and sizes of everything in the picture, in pixels."""
    blocks, every = history["blocks"], history["every"]
    most = max(blocks)
    scale = WIDTH / max(seconds, every * len(blocks))
    bars = [
        {
            "x": n * every * scale,
            "y": HEIGHT * (1 - count / most),
            "width": max(0.5, every * scale - 0.5),
            "height": HEIGHT * count / most,
        }
        for n, count in enumerate(blocks)
        if count
    ]
    names = list(dict.fromkeys(span["step"] for span in history["spans"]))
    spans = [
        {
            "x": (span["begun"] - history["begun"]) * scale,
            "y": HEIGHT + 6 + ROW * names.index(span["step"]),
            "width": max(1.0, (span["ended"] - span["begun"]) * scale),
            "height": ROW - 4,
        }
        for span in history["spans"]
    ]
    return {
        "width": WIDTH,
        "height": HEIGHT + 10 + ROW * len(names),
        "bars": bars,
        "spans": spans,
        "names": [(name, HEIGHT + 16 + ROW * n) for n, name in enumerate(names)],
        "label": f"Blocks per {every:g} s, at most {most:,}; below, the time of each step",
    }
