"""The tables of a scoring: as CSV files, and as heads and cells for a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from volflow.view.report.score.document import errors_of, thresholds_of
from volflow.view.report.score.metrics import METRICS, format_value, is_number, numbers

OBJECTS = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "ap": "AP",
    "mean_iou": "mean IoU",
    "panoptic_quality": "panoptic quality",
    "true_positives": "true positives",
    "false_positives": "false positives",
    "false_negatives": "missed",
}
CURVES = ("threshold", "vi_split", "vi_merge", "vi", "arand", "precision", "recall", "erl", "terl")

Table = tuple[list[str], list[list[str]]]
"""Heads and cells."""


def scores_csv(document: Mapping[str, Any]) -> str:
    """One number per line."""
    rows = []
    for step, key, value, metric in numbers(document["results"]):
        rows.append([step, key, "" if value is None else value, metric.unit])
    for step, result in document["results"].items():
        for row in object_rows(result):
            iou = f"at IoU {row['iou']:g}"
            rows += [[step, f"{key} {iou}", row[key], ""] for key in row if key != "iou"]
    return _csv(["step", "metric", "value", "unit"], rows)


def offenders_csv(document: Mapping[str, Any]) -> str:
    """One part of an error per line; positions in voxels and in nm."""
    resolution = document["resolution"]
    rows = []
    for site in errors_of(document):
        for number, part in enumerate(site.parts, 1):
            nm = [round(p * r, 3) for p, r in zip(part.position, resolution, strict=True)]
            ids = [part.ids.get(name, "") for name in ("segmentation", "truth", "skeletons")]
            rows.append(
                [site.kind, site.rank, site.label, site.size, site.unit, site.others, number, *ids,
                 part.size, part.unit, *part.position, *nm]
            )  # fmt: skip
    head = ["kind", "rank", "label", "size", "unit", "parts", "part", "segment", "truth"]
    head += ["skeleton", "part_size", "part_unit", "z", "y", "x", "z_nm", "y_nm", "x_nm"]
    return _csv(head, rows)


def curves_csv(document: Mapping[str, Any]) -> str:
    """One threshold per line, with a mark at the best one; empty if only one was scored."""
    rows, best = thresholds_of(document)
    if not rows:
        return ""
    known = {key for row in rows for key, value in row.items() if is_number(value)}
    head = [key for key in CURVES if key in known] + sorted(known - set(CURVES))
    lines = [
        [*("" if row.get(key) is None else row[key] for key in head),
         int(row["threshold"] == best.get("threshold"))]
        for row in rows
    ]  # fmt: skip
    return _csv([*head, "best"], lines)


def object_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Scores of objects, one row per minimum overlap (IoU) of a match; empty if there are none."""
    objects = result.get("objects")
    if not isinstance(objects, Mapping):
        return []
    columns = {
        key: values
        for key, values in objects.items()
        if isinstance(values, Sequence) and len(values) == len(objects["thresholds"])
    }
    order = ["thresholds", *(key for key in OBJECTS if key in columns)]
    return [
        {"iou" if key == "thresholds" else key: columns[key][at] for key in order}
        for at in range(len(objects["thresholds"]))
    ]


def object_table(result: Mapping[str, Any]) -> Table:
    """Heads and cells of the scores of objects."""
    rows = object_rows(result)
    heads = ["IoU", *(OBJECTS[key] for key in rows[0] if key != "iou")]
    return heads, [
        [f"{row['iou']:g}", *(format_value(row[key]) for key in row if key != "iou")]
        for row in rows
    ]


def curve_table(document: Mapping[str, Any]) -> tuple[Table | None, str]:
    """Heads and cells of the scores per threshold, and the best one as text."""
    rows, best = thresholds_of(document)
    keys = [key for key in CURVES[1:] if any(row.get(key) is not None for row in rows)]
    if not rows:
        return None, ""
    heads = ["threshold"]
    for key in keys:
        unit = METRICS[key].unit
        heads.append(f"{METRICS[key].label} ({unit})" if unit else METRICS[key].label)
    cells = [
        [f"{row['threshold']:g}", *(_bare(row.get(key), METRICS[key].unit) for key in keys)]
        for row in rows
    ]
    shown = [key for key in ("vi", "erl") if best.get(key) is not None]
    scores = [f"{METRICS[key].label} {format_value(best[key], METRICS[key].unit)}" for key in shown]
    text = ", ".join([f"{best['threshold']:g}", *scores]) if best else ""
    return (heads, cells), text


def _bare(value: Any, unit: str) -> str:
    """A value without its unit, which is in the head of the column."""
    return format_value(value, unit).removesuffix(unit).rstrip()


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()
