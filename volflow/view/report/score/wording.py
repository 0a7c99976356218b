"""Text that the page and the Markdown of a scoring share: inputs, and errors in words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from volflow.view.report.score.document import errors_of
from volflow.view.report.score.error_sites import KINDS, ErrorPart, ErrorSite
from volflow.view.report.score.metrics import format_value

SHOWN = 20  # errors of a kind on the page and in the Markdown; the CSV has all
ROLES = {
    "segmentation": "the segmentation that is scored",
    "truth": "the ground truth, whose label 0 does not count",
    "skeletons": "the ground-truth skeletons",
    "mito": "mitochondria, for bERL",
    "clefts": "synaptic clefts, for bERL",
    "nuclei": "nuclei, for nERL",
    "found_clefts": "the clefts that are scored",
    "true_clefts": "the ground-truth clefts",
    "partners": "the synaptic partners that are scored",
    "true_partners": "the ground-truth synaptic partners",
}
PART_VOLUMES = {
    "merger": "truth",
    "skeleton merger": "skeletons",
    "missed cleft": "true_clefts",
    "spurious cleft": "found_clefts",
}  # the volume with the label of a part, if it is not the segmentation


class Input(NamedTuple):
    """An input of a scoring: its role, the layer that shows it, and its address."""

    role: str
    layer: str
    path: str


def inputs(document: Mapping[str, Any]) -> list[Input]:
    """The volumes and tables that were compared."""
    return [
        Input(ROLES.get(place, place), str(entry["volume"]), str(entry["path"]))
        for place, entry in document["inputs"].items()
    ]


def facts(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The bounds, and the parameters of each step."""
    rows = []
    sides = ", ".join(f"{side:g}" for side in document["resolution"])
    if document["bounds"]:
        rows.append(("bounds", f"{document['bounds']} voxels z, y, x of {sides} nm"))
    for step, given in document["parameters"].items():
        if given:
            rows.append((step, ", ".join(f"{key} {value}" for key, value in given.items())))
    return rows


def by_kind(document: Mapping[str, Any]) -> dict[str, list[ErrorSite]]:
    """The errors by kind, in the order of `KINDS`; kinds without errors are left out."""
    sites: dict[str, list[ErrorSite]] = {kind: [] for kind in KINDS}
    for site in errors_of(document):
        sites[site.kind].append(site)
    return {kind: rows for kind, rows in sites.items() if rows}


def cost_text(site: ErrorSite) -> str:
    """The cost of an error and its note."""
    if not site.unit:
        return site.note
    text = format_value(site.size, site.unit)
    return f"{text}, {site.note}" if site.note else text


def part_text(site: ErrorSite, part: ErrorPart) -> str:
    """The label and size of a part."""
    if site.kind.endswith(" partners"):
        end = "pre" if part is site.parts[0] else "post"
        return f"{end} {part.ids['truth']}" if "truth" in part.ids else end
    own = PART_VOLUMES.get(site.kind, "segmentation")
    size = format_value(int(part.size) if part.unit == "voxels" else part.size, part.unit)
    return f"{part.ids[own]} ({size})" if part.size else str(part.ids[own])


def place_text(site: ErrorSite) -> str:
    """The position of an error, in voxels."""
    return ", ".join(f"{value:g}" for value in site.place)


def more_text(site: ErrorSite) -> str:
    """The number of parts that are not listed."""
    rest = site.others - len(site.parts)
    return f"; and {rest:,} more" if rest > 0 else ""


def command(document: Mapping[str, Any], run: str, site: ErrorSite) -> str:
    """The `volflow view` command that shows an error.

    Parameters
    ----------
    document : mapping
        Its inputs name the layers of the run.
    run : str
        Folder or address of the scoring.
    site : ErrorSite
    """
    z, y, x = site.place
    options = [
        f"--segments {document['inputs'].get(place, {}).get('volume') or place}="
        f"{','.join(map(str, labels))}"
        for place, labels in site.ids().items()
        if place != "skeletons"
    ]
    at = f"{z:g},{y:g},{x:g}"
    return " ".join([f"volflow view {shlex.quote(run)} --at {at}", *options])
