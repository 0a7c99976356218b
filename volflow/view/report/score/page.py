"""The files that a scoring writes: JSON, CSV, Markdown, plots, and a self-contained page.

scores.json     everything                offenders.csv   the worst errors, part by part
scores.csv      every number              curves.csv      every threshold, after a sweep
report.html     the page                  vi.png erl.png  its plots
report.md       the same as text
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from volflow.io.sealed import sealed
from volflow.io.store import Store
from volflow.view.report.pages import data_url, render
from volflow.view.report.score.detections import detection_table
from volflow.view.report.score.document import DOCUMENT, can_be_viewed, thresholds_of
from volflow.view.report.score.error_sites import KINDS, ErrorSite
from volflow.view.report.score.markdown import markdown
from volflow.view.report.score.metrics import headlines, numbers
from volflow.view.report.score.plots import PLOTS, curves
from volflow.view.report.score.tables import (
    curve_table,
    curves_csv,
    object_rows,
    object_table,
    offenders_csv,
    scores_csv,
)
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

logger = logging.getLogger(__name__)

PAGE = "report.html"
HEADS = {
    "merger": ("segment", "objects in it, the largest first"),
    "split": ("object", "segments in it, the largest first"),
    "skeleton merger": ("segment", "skeletons in it, the longest run first"),
    "skeleton split": ("skeleton", "segments on both sides"),
    "missed partners": ("line", "neurons"),
    "spurious partners": ("line", "neurons"),
    "missed cleft": ("cleft", "voxels"),
    "spurious cleft": ("cleft", "voxels"),
}  # by kind of error: heads of the columns with its label and its parts


def leave_score_report(run: str, document: Mapping[str, Any]) -> list[str]:
    """Write the files of a scoring into its folder.

    Parameters
    ----------
    run : str
        Folder or address.
    document : mapping
        See `volflow.view.report.score.document.make_document`.

    Returns
    -------
    list of str
        Names of the files.
    """
    plots = score_plots(document)
    files = {
        DOCUMENT: json.dumps(sealed(document), indent=1, sort_keys=True).encode(),
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
            store.delete(name)  # left by an earlier scoring in the same folder
    return [name for name, body in files.items() if body]


def score_plots(document: Mapping[str, Any]) -> dict[str, bytes]:
    """The plots of a document as PNG, by file name; empty if only one threshold was scored."""
    rows, best = thresholds_of(document)
    return curves(rows, best or None) if rows else {}


def page(
    document: Mapping[str, Any],
    run: str,
    plots: Mapping[str, bytes],
    links: Mapping[str, str] | None = None,
) -> str:
    """The page as one self-contained HTML file, without scripts.

    Parameters
    ----------
    document : mapping
    run : str
        The folder or address to pass to `volflow view`.
    plots : mapping of str to bytes
        See `score_plots`.
    links : mapping of str to str, optional
        Addresses of viewers, by the names in `link_names`; without them the page shows the
        commands that open a viewer.
    """
    table, best = curve_table(document)
    scored, best_row = thresholds_of(document)
    return render(
        "score_page.html",
        title="volflow: scores",
        unmet=document["unmet"],
        headlines=headlines(document["results"]),
        inputs=inputs(document),
        facts=facts(document),
        plots={name.removesuffix(".png"): data_url(png) for name, png in plots.items()},
        curves=table,
        best=best,
        best_rows=[row["threshold"] == best_row.get("threshold") for row in scored],
        tables=list(_object_tables(document)),
        view=f"volflow view {run}" if links is None and can_be_viewed(document) else "",
        errors=list(_errors(document, run, links)),
        numbers=list(numbers(document["results"])),
        version=document["version"],
    )


def link_names(document: Mapping[str, Any]) -> Iterator[tuple[str, ErrorSite, int | None]]:
    """The name of every link on the page, its error, and the part if it leads to one."""
    for sites in by_kind(document).values():
        for site in sites[:SHOWN]:
            yield site.name, site, None
            for number in range(len(site.parts)):
                yield f"{site.name}.{number + 1}", site, number


def _object_tables(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Title and table of the scores of detections and objects."""
    for result in document["results"].values():
        detected = detection_table(result)
        if detected[1]:
            yield "Detections", detected
        if object_rows(result):
            yield "Objects", object_table(result)


def _errors(
    document: Mapping[str, Any], run: str, links: Mapping[str, str] | None
) -> Iterator[dict[str, Any]]:
    """One section per kind of error."""
    viewed = can_be_viewed(document) and links is None
    for kind, sites in by_kind(document).items():
        label, parts = HEADS[kind]
        yield {
            "title": KINDS[kind],
            "label": label,
            "parts": parts,
            "more": max(0, len(sites) - SHOWN),
            "rows": [
                {
                    "rank": site.rank,
                    "label": site.label,
                    "link": (links or {}).get(site.name),
                    "cost": cost_text(site),
                    "parts": [
                        (part_text(site, part), (links or {}).get(f"{site.name}.{number}"))
                        for number, part in enumerate(site.parts, 1)
                    ],
                    "more": more_text(site),
                    "command": command(document, run, site) if viewed else "",
                    "place": place_text(site),
                }
                for site in sites[:SHOWN]
            ],
        }
