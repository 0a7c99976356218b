"""A scoring as Markdown, for a text file, an issue or a lab book."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from volflow.view.report.score.detections import detection_table
from volflow.view.report.score.document import can_be_viewed
from volflow.view.report.score.error_sites import KINDS
from volflow.view.report.score.metrics import numbers
from volflow.view.report.score.tables import curve_table, object_rows, object_table
from volflow.view.report.score.wording import (
    SHOWN,
    by_kind,
    command,
    cost_text,
    facts,
    inputs,
    more_text,
    part_text,
    place_text,
)


def markdown(document: Mapping[str, Any], run: str, plots: Iterable[str]) -> str:
    """The report as Markdown.

    Parameters
    ----------
    document : mapping
        See `volflow.view.report.score.document.make_document`.
    run : str
        Folder or address of the scoring.
    plots : iterable of str
        File names of the plots, in the same folder.
    """
    lines = ["# Scores", ""]
    for role, layer, path in inputs(document):
        shown = f" (layer `{layer}`)" if layer else ""
        lines.append(f"- {role}{shown}: `{path}`")
    lines += [*(f"- {name}: `{text}`" for name, text in facts(document)), ""]
    if document["unmet"]:
        lines += ["**Not met:**", "", *(f"- {text}" for text in document["unmet"]), ""]
    rows = [[n.metric.label, n.text, n.metric.meaning] for n in numbers(document["results"])]
    lines += _grid(["score", "value", "meaning"], rows)
    for result in document["results"].values():
        if object_rows(result):
            lines += ["## Objects", "", *_grid(*object_table(result))]
        heads, detected = detection_table(result)
        if detected:
            lines += ["## Detections", "", *_grid(heads, detected)]
    table, best = curve_table(document)
    if table:
        lines += ["## Thresholds", "", *(f"![{name}]({name})" for name in plots), ""]
        lines += [*_grid(*table), f"Best: {best}", ""] if best else _grid(*table)
    viewed = can_be_viewed(document)
    for kind, sites in by_kind(document).items():
        lines += [f"## {KINDS[kind]}", ""]
        lines += _grid(["rank", "label", "cost", "parts", "view" if viewed else "z, y, x"], [
            [str(site.rank), str(site.label), cost_text(site),
             "; ".join(part_text(site, part) for part in site.parts) + more_text(site),
             f"`{command(document, run, site)}`" if viewed else place_text(site)]
            for site in sites[:SHOWN]
        ])  # fmt: skip
    return "\n".join(lines)


def _grid(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return [*(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines), ""]
