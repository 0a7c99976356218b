"""The time line of a run as a picture in a page: blocks done over time, and when each step was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT, ROW = 960, 120, 16  # pixels; of the bars, of a step's line
SHOWN = 40  # workers


def timeline(history: Mapping[str, Any]) -> str:
    """A section of HTML that tells how a run went; empty if nothing is known.

    Parameters
    ----------
    history : mapping
        See `volflow.engine.monitor.history.history`.
    """
    if not history or not any(history["blocks"]):
        return ""
    seconds = max(history["ended"] - history["begun"], 1e-3)
    told = [
        f"{sum(history['blocks'])} blocks in {seconds:.0f} s",
        f"{history['sessions']} sessions",
        f"{history['lost']} workers lost",
        f"{history['again']} ranges handed out again",
        f"{history['stalls']} stalls",
    ]
    facts = f"<p>{escape(', '.join(told))}</p>"
    return (
        f"<h2>time line</h2>\n{facts}\n{_picture(history, seconds)}\n"
        f"{_workers(history['workers'], seconds)}"
    )


def _picture(history: Mapping[str, Any], seconds: float) -> str:
    blocks, every = history["blocks"], history["every"]
    most = max(blocks)
    scale = WIDTH / max(seconds, every * len(blocks))
    bars = [
        f'<rect x="{n * every * scale:.1f}" y="{HEIGHT * (1 - count / most):.1f}" '
        f'width="{max(0.5, every * scale - 0.5):.1f}" height="{HEIGHT * count / most:.1f}"/>'
        for n, count in enumerate(blocks)
        if count
    ]
    lines = []
    names = list(dict.fromkeys(span["step"] for span in history["spans"]))
    for span in history["spans"]:
        y = HEIGHT + 6 + ROW * names.index(span["step"])
        x = (span["begun"] - history["begun"]) * scale
        width = max(1.0, (span["ended"] - span["begun"]) * scale)
        lines.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 4}"/>')
    texts = [
        f'<text x="4" y="{HEIGHT + 16 + ROW * n}" font-size="11" fill="#222">{escape(name)}</text>'
        for n, name in enumerate(names)
    ]
    height = HEIGHT + 10 + ROW * len(names)
    label = f"blocks per {every:g} s, at most {most}; below, when each step was under way"
    return (
        f'<figure><svg role="img" aria-label="{escape(label)}" viewBox="0 0 {WIDTH} {height}" '
        f'width="100%"><g fill="#4a7fb5">{"".join(bars)}</g><g fill="#c9d8e8">{"".join(lines)}</g>'
        f"{''.join(texts)}</svg><figcaption>{escape(label)}</figcaption></figure>"
    )


def _workers(workers: Sequence[Mapping[str, Any]], seconds: float) -> str:
    head = "<tr><th>worker</th><th>blocks</th><th>seconds at work</th><th>of the time</th></tr>"
    rows = [
        f"<tr><td>{escape(each['name'])}</td><td>{each['blocks']}</td>"
        f"<td>{each['seconds']:.1f}</td><td>{100 * each['seconds'] / seconds:.0f} %</td></tr>"
        for each in workers[:SHOWN]
    ]
    more = len(workers) - SHOWN
    note = f"<p>and {more} workers more</p>" if more > 0 else ""
    return f'<table class="numbers">{head}{"".join(rows)}</table>{note}'
