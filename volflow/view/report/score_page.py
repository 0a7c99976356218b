"""What a scoring leaves behind: JSON, CSV, Markdown, plots, and one page that needs nothing else.

scores.json     everything                offenders.csv   the worst errors, part by part
scores.csv      every number              curves.csv      every threshold, after a sweep
report.html     the page                  vi.png erl.png  its plots
report.md       the same as text
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from volflow.io.store import Store
from volflow.view.report.detections import detection_table
from volflow.view.report.offenders import KINDS, Offender
from volflow.view.report.plots import PLOTS, curves
from volflow.view.report.score_document import DOCUMENT, can_be_viewed, thresholds_of
from volflow.view.report.score_tables import (
    HEADLINES,
    SHOWN,
    by_kind,
    command,
    cost,
    curve_table,
    curves_csv,
    facts,
    markdown,
    more,
    numbers,
    object_rows,
    object_table,
    offenders_csv,
    part_text,
    place_text,
    scores_csv,
    written,
)

logger = logging.getLogger(__name__)

PAGE = "report.html"
WHOLE = {
    "merger": "segment",
    "split": "object",
    "skeleton merger": "segment",
    "skeleton split": "skeleton",
    "missed partners": "line",
    "spurious partners": "line",
    "missed cleft": "cleft",
    "spurious cleft": "cleft",
}
PARTS = {
    "merger": "objects in it, the largest first",
    "split": "segments in it, the largest first",
    "skeleton merger": "skeletons in it, the longest run first",
    "skeleton split": "segments on both sides",
    "missed partners": "neurons",
    "spurious partners": "neurons",
    "missed cleft": "voxels",
    "spurious cleft": "voxels",
}
BEST = ' class="best"'
_TEMPLATE = Path(__file__).with_name("score_page.template.html")


def leave_score_report(run: str, document: Mapping[str, Any]) -> list[str]:
    """Write the files of a scoring into its folder; their names.

    Parameters
    ----------
    run : str
        Folder or address.
    document : mapping
        See `volflow.view.report.score_document.make_document`.
    """
    plots = drawn(document)
    files = {
        DOCUMENT: json.dumps(document, indent=1, sort_keys=True).encode(),
        "scores.csv": scores_csv(document).encode(),
        "offenders.csv": offenders_csv(document).encode(),
        "curves.csv": curves_csv(document).encode(),
        "report.md": markdown(document, run, plots).encode(),
        PAGE: page(document, run, plots).encode(),
        **{name: plots.get(name, b"") for name in PLOTS},
    }
    store = Store(run)
    for name, body in files.items():
        if body:
            store.write(name, body)
        else:
            store.delete(name)  # of an earlier scoring here, which had something to tell
    return [name for name, body in files.items() if body]


def drawn(document: Mapping[str, Any]) -> dict[str, bytes]:
    """The plots of a document, by file name; none if there is one threshold only."""
    rows, best = thresholds_of(document)
    return curves(rows, best or None) if rows else {}


def page(
    document: Mapping[str, Any],
    run: str,
    plots: Mapping[str, bytes],
    links: Mapping[str, str] | None = None,
) -> str:
    """The page, in one file: style and plots are in it, and it loads and runs nothing.

    Parameters
    ----------
    document : mapping
    run : str
        What `volflow view` is given to show it.
    plots : mapping of str to bytes
        See `drawn`.
    links : mapping of str to str, optional
        Addresses of a viewer, by the names in `link_names`; without them the commands that show
        the places stand there.
    """
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape("volflow: scores"),
        unmet=_unmet(document["unmet"]),
        tiles="".join(_tiles(document)),
        facts="".join(
            f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>\n"
            for name, text in facts(document)
        ),
        curves=_curves(document, plots),
        objects="".join(map(_objects, document["results"].values())),
        errors=_errors(document, run, links),
        numbers="".join(_numbers(document)),
        foot=escape(f"volflow {document['version']}; every error is in offenders.csv"),
    )


def link_names(document: Mapping[str, Any]) -> Iterator[tuple[str, Offender, int | None]]:
    """Name of every link on the page, with its error and, of a link to one part, the part."""
    for rows in by_kind(document).values():
        for each in rows[:SHOWN]:
            yield each.name, each, None
            for number in range(len(each.parts)):
                yield f"{each.name}.{number + 1}", each, number


# --- parts of the page ---------------------------------------------------------------------------


def _unmet(sentences: list[str]) -> str:
    if not sentences:
        return ""
    lines = "".join(f"<p>{escape(text)}</p>" for text in sentences)
    return f'<div class="unmet"><p><b>Not met</b></p>{lines}</div>'


def _tiles(document: Mapping[str, Any]) -> Iterator[str]:
    for _, key, value, metric in numbers(document):
        if key in HEADLINES and value is not None:
            if metric.unit == "nm":
                value, metric = value / 1000, metric._replace(unit="µm")
            text = f"{value:.4g}" if metric.unit == "µm" else f"{value:.4f}"
            yield (
                f'<div class="tile" title="{escape(metric.what)}"><b>{text}</b>'
                f"<span>{escape(f'{metric.label} {metric.unit}'.rstrip())}</span></div>\n"
            )


def _curves(document: Mapping[str, Any], plots: Mapping[str, bytes]) -> str:
    table, told = curve_table(document)
    if table is None:
        return ""
    heads, rows = table
    scored, best = thresholds_of(document)
    marked = [row["threshold"] == best.get("threshold") for row in scored]
    figures = "".join(
        f'<img alt="{escape(name.removesuffix(".png"))} over thresholds" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        for name, png in plots.items()
    )
    lines = "".join(map(_line, rows, marked))
    head = f"<p>Best: threshold {escape(told)}</p>" if told else ""
    return (
        f"<h2>Thresholds</h2>\n<figure>{figures}</figure>{head}"
        f'<table class="ruled">{_head(heads)}{lines}</table>\n'
    )


def _objects(result: Mapping[str, Any]) -> str:
    tables = {"Found one by one": detection_table(result)}
    if object_rows(result):
        tables["Objects"] = object_table(result)
    return "".join(
        f'<h2>{title}</h2>\n<table class="ruled">{_head(heads)}'
        f"{''.join(map(_line, rows))}</table>\n"
        for title, (heads, rows) in tables.items()
        if rows
    )


def _head(heads: list[str]) -> str:
    inside = "".join(f'<th class="number">{escape(head)}</th>' for head in heads)
    return f"<tr>{inside}</tr>\n"


def _line(cells: list[str], best: bool = False) -> str:
    inside = "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells)
    return f"<tr{BEST if best else ''}>{inside}</tr>\n"


def _errors(document: Mapping[str, Any], run: str, links: Mapping[str, str] | None) -> str:
    kinds = by_kind(document)
    if not kinds:
        return ""
    parts = []
    viewed = can_be_viewed(document)
    if links is None and viewed:
        serve = escape(f"volflow view {run}")
        parts.append(
            f'<p class="note">With <code>{serve}</code> this page is served with a link to each '
            f"place in Neuroglancer; or give a place's own command.</p>"
        )
    for kind, rows in kinds.items():
        lines = "".join(_error(each, run if viewed else "", links) for each in rows[:SHOWN])
        rest = len(rows) - SHOWN
        note = f'<p class="note">and {rest} more, in offenders.csv</p>' if rest > 0 else ""
        heads = {
            "": "number",
            WHOLE[kind]: "number",
            "cost": "number",
            PARTS[kind]: "",
            "z, y, x": "",
        }
        head = "".join(f'<th class="{look}">{text}</th>' for text, look in heads.items())
        parts.append(
            f'<h2>{escape(KINDS[kind])}</h2>\n<table class="ruled"><tr>{head}</tr>\n{lines}'
            f"</table>{note}\n"
        )
    return "".join(parts)


def _error(each: Offender, run: str, links: Mapping[str, str] | None) -> str:
    """A row; where there are no links, the command stands in it, if there is a run to look at."""
    found = links or {}
    parts = []
    for number, part in enumerate(each.parts, 1):
        text = _linked(part_text(each, part), found.get(f"{each.name}.{number}"))
        parts.append(f'<span class="part">{text}</span>')
    told = "" if links or not run else f"<br><code>{escape(command(run, each))}</code>"
    cells = [
        ("number", str(each.rank)),
        ("number", _linked(str(each.label), found.get(each.name))),
        ("number", escape(cost(each))),
        ("", ", ".join(parts) + escape(more(each)) + told),
        ("part", _linked(place_text(each), found.get(each.name))),
    ]
    inside = "".join(f'<td class="{kind}">{text}</td>' for kind, text in cells)
    return f"<tr>{inside}</tr>\n"


def _linked(text: str, address: str | None) -> str:
    if address is None:
        return escape(text)
    where = escape(address, quote=True)
    return f'<a href="{where}" target="_blank" rel="noopener noreferrer">{escape(text)}</a>'


def _numbers(document: Mapping[str, Any]) -> Iterator[str]:
    for step, _, value, metric in numbers(document):
        yield (
            f"<tr><td>{escape(metric.label)}</td>"
            f'<td class="number">{escape(written(value, metric.unit))}</td>'
            f'<td class="note">{escape(metric.what)}</td>'
            f'<td class="note">{escape(step)}</td></tr>\n'
        )
