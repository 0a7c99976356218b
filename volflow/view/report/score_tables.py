"""A scoring as CSV and Markdown, and how its numbers are called and written."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from volflow.view.report.detections import LABELS, RATES, detection_table, detections
from volflow.view.report.offenders import KINDS, Offender, Part
from volflow.view.report.score_document import can_be_viewed, errors_of, thresholds_of

OWN = {
    "merger": "truth",
    "skeleton merger": "skeletons",
    "missed cleft": "true_clefts",
    "spurious cleft": "found_clefts",
}  # the volume in which a part of an error has its own label, if it is not the segmentation
SHOWN = 20  # errors of a kind on the page and in the Markdown; the CSV has all


class Metric(NamedTuple):
    """How a number is told."""

    label: str
    unit: str
    what: str


METRICS: dict[str, Metric] = {
    "vi": Metric("VI", "bits", "variation of information, split + merge; lower is better"),
    "vi_split": Metric("VI split", "bits", "objects cut into several segments"),
    "vi_merge": Metric("VI merge", "bits", "segments that hold several objects"),
    "arand": Metric("ARAND", "", "adapted Rand error, 0 to 1; lower is better"),
    "precision": Metric("precision", "", "of pairs in one segment, those in one object"),
    "recall": Metric("recall", "", "of pairs in one object, those in one segment"),
    "arand_all_pairs": Metric("ARAND, all pairs", "", "a voxel paired with itself counts, too"),
    "precision_all_pairs": Metric("precision, all pairs", "", ""),
    "recall_all_pairs": Metric("recall, all pairs", "", ""),
    "erl": Metric("ERL", "nm", "expected run length; higher is better"),
    "erl_max": Metric("ERL, perfect", "nm", "what a segmentation without errors has"),
    "erl_ratio": Metric("ERL ratio", "", "of what a perfect segmentation has"),
    "terl": Metric("tERL", "nm", "small mergers are tolerated"),
    "berl": Metric("bERL", "nm", "splits at mitochondria cost more, mergers at synapses veto"),
    "nerl": Metric("nERL", "nm", "edges weighted by radius and distance from the nucleus"),
    "nerl_norm": Metric("nERL, normalised", "nm", "the same, a perfect skeleton has its length"),
    "voxels": Metric("voxels counted", "", "where the truth is not 0"),
    "truth_labels": Metric("objects", "", "in the truth"),
    "segments": Metric("segments", "", "that meet the truth"),
    "skeletons": Metric("skeletons", "", ""),
    "length_nm": Metric("length of the skeletons", "nm", ""),
    "splits": Metric("splits", "", "edges between two segments"),
    "merges": Metric("mergers", "", "segments that hold more of other skeletons than is tolerated"),
    "merges_classic": Metric("mergers, none tolerated", "", "as plain ERL counts them"),
    "omitted_length_nm": Metric("length on background", "nm", "belongs to no run"),
    "border": Metric("border left out", "voxels", "around the objects of the truth"),
    "distance_nm": Metric("distance of a match", "nm", "how near is near enough"),
    "mean_distance_nm": Metric("mean distance", "nm", "of the ends of matched pairs"),
    "truth_partners": Metric("partners in the truth", "", "that were counted"),
    "found_partners": Metric("partners found", "", "that were counted"),
    "truth_outside": Metric("partners outside, truth", "", "of the bounds, not counted"),
    "found_outside": Metric("partners outside, found", "", "of the bounds, not counted"),
    "truth_clefts": Metric("clefts in the truth", "", ""),
    "found_clefts": Metric("clefts found", "", ""),
    "min_size": Metric("least size", "voxels", "smaller ones do not exist"),
}
OBJECTS = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "ap": "AP",
    "mean_iou": "mean IoU",
    "panoptic_quality": "panoptic quality",
    "true_positives": "found",
    "false_positives": "not in the truth",
    "false_negatives": "missed",
}
HEADLINES = (
    "vi", "vi_split", "vi_merge", "arand", "erl", "erl_ratio", "terl", "berl", "nerl_norm", "f1",
    "distance.f1", "overlap.f1",
)  # fmt: skip
CURVES = ("threshold", "vi_split", "vi_merge", "vi", "arand", "precision", "recall", "erl", "terl")


def metric_of(key: str) -> Metric:
    """How a number is told, also one that is not in the list."""
    name = key.removesuffix("_nm")
    unit = "nm" if name != key or name.endswith("erl_max") else ""
    return METRICS.get(key, Metric(name.replace("_", " "), unit, ""))


def written(value: Any, unit: str = "") -> str:
    """A number as it is read: integers with their thousands apart, four digits of others."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        text = f"{value:,}"
    elif unit == "nm":
        text = f"{value:,.1f}"
    elif 0 < abs(value) < 0.001:
        text = f"{value:.2g}"
    else:
        text = f"{value:.4f}"
    return f"{text} {unit}".rstrip()


class Number(NamedTuple):
    """A number of a result."""

    step: str
    key: str
    value: Any
    metric: Metric


def numbers(document: Mapping[str, Any]) -> Iterator[Number]:
    """Every number of the results, the well-known ones first, and why one was not computed."""
    order = {name: place for place, name in enumerate(METRICS)}
    for step, result in document["results"].items():
        missing = result.get("not_computed", {})
        detected = detections(result)
        for found in detected:
            for key, value in found.rates.items():
                metric = Metric(f"{found.name}: {LABELS[key]}", "", RATES[key])
                yield Number(step, found.path(key), value, metric)
        rates = {found.path(key) for found in detected for key in RATES}
        keys = [key for key, value in result.items() if _plain(value) and key not in rates]
        for key in sorted(keys, key=lambda key: (order.get(key, len(order)), key)):
            metric = metric_of(key)
            if result[key] is None and key.endswith(("_max", "_ratio")):
                continue  # of a score that is told to be missing
            if result[key] is None and key in missing:
                metric = metric._replace(what=f"not computed: {missing[key]}")
            yield Number(step, key, result[key], metric)


def facts(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was scored, and how."""
    found = [(place, str(each["path"])) for place, each in document["inputs"].items()]
    sides = ", ".join(f"{side:g}" for side in document["resolution"])
    if document["bounds"]:
        found.append(("bounds", f"{document['bounds']} voxels z, y, x of {sides} nm"))
    for step, given in document["parameters"].items():
        if given:
            found.append((step, ", ".join(f"{key} {value}" for key, value in given.items())))
    return found


def scores_csv(document: Mapping[str, Any]) -> str:
    """One number per line."""
    rows = []
    for step, key, value, metric in numbers(document):
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
    for each in errors_of(document):
        for number, part in enumerate(each.parts, 1):
            nm = [round(p * r, 3) for p, r in zip(part.position, resolution, strict=True)]
            ids = [part.ids.get(name, "") for name in ("segmentation", "truth", "skeletons")]
            rows.append(
                [each.kind, each.rank, each.label, each.size, each.unit, each.others, number, *ids,
                 part.size, part.unit, *part.position, *nm]
            )  # fmt: skip
    head = ["kind", "rank", "label", "size", "unit", "parts", "part", "segment", "truth"]
    head += ["skeleton", "part_size", "part_unit", "z", "y", "x", "z_nm", "y_nm", "x_nm"]
    return _csv(head, rows)


def curves_csv(document: Mapping[str, Any]) -> str:
    """One threshold per line, and whether it is the best; empty where only one was scored."""
    rows, best = thresholds_of(document)
    if not rows:
        return ""
    known = {key for row in rows for key, value in row.items() if _plain(value)}
    head = [key for key in CURVES if key in known] + sorted(known - set(CURVES))
    lines = [
        [*("" if row.get(key) is None else row[key] for key in head),
         int(row["threshold"] == best.get("threshold"))]
        for row in rows
    ]  # fmt: skip
    return _csv([*head, "best"], lines)


def markdown(document: Mapping[str, Any], run: str, plots: Iterable[str]) -> str:
    """The report for a text file, an issue or a lab book."""
    lines = ["# Scores", ""]
    lines += [*(f"- {name}: `{text}`" for name, text in facts(document)), ""]
    if document["unmet"]:
        lines += ["**Not met:**", "", *(f"- {text}" for text in document["unmet"]), ""]
    rows = []
    for _, _, value, metric in numbers(document):
        rows.append([metric.label, written(value, metric.unit), metric.what])
    lines += _grid(["score", "value", "what it says"], rows)
    for result in document["results"].values():
        if object_rows(result):
            lines += ["## Objects", "", *_grid(*object_table(result))]
        heads, detected = detection_table(result)
        if detected:
            lines += ["## Found one by one", "", *_grid(heads, detected)]
    table, best = curve_table(document)
    if table:
        lines += ["## Thresholds", "", *(f"![{name}]({name})" for name in plots), ""]
        lines += [*_grid(*table), f"Best: {best}", ""] if best else _grid(*table)
    viewed = can_be_viewed(document)
    for kind, found in by_kind(document).items():
        lines += [f"## {KINDS[kind]}", ""]
        lines += _grid(["rank", "label", "cost", "parts", "look at it" if viewed else "z, y, x"], [
            [str(each.rank), str(each.label), cost(each),
             "; ".join(part_text(each, part) for part in each.parts) + more(each),
             f"`{command(run, each)}`" if viewed else place_text(each)]
            for each in found[:SHOWN]
        ])  # fmt: skip
    return "\n".join(lines)


# --- words that the page and the Markdown share ---------------------------------------------------


def by_kind(document: Mapping[str, Any]) -> dict[str, list[Offender]]:
    """The errors by kind, in the order of `KINDS`; kinds without any are left out."""
    found: dict[str, list[Offender]] = {kind: [] for kind in KINDS}
    for each in errors_of(document):
        found[each.kind].append(each)
    return {kind: rows for kind, rows in found.items() if rows}


def cost(each: Offender) -> str:
    """What an error costs, or what else is to be known of one that simply counts."""
    if not each.unit:
        return each.note
    text = written(each.size, each.unit)
    return f"{text}, {each.note}" if each.note else text


def part_text(each: Offender, part: Part) -> str:
    """A part: its label, and how large it is."""
    if each.kind.endswith(" partners"):
        end = "pre" if part is each.parts[0] else "post"
        return f"{end} {part.ids['truth']}" if "truth" in part.ids else end
    own = OWN.get(each.kind, "segmentation")
    size = written(int(part.size) if part.unit == "voxels" else part.size, part.unit)
    return f"{part.ids[own]} ({size})" if part.size else str(part.ids[own])


def place_text(each: Offender) -> str:
    """Where an error is, in voxels."""
    return ", ".join(f"{value:g}" for value in each.place)


def more(each: Offender) -> str:
    """How many parts are not told."""
    rest = each.others - len(each.parts)
    return f"; and {rest:,} more" if rest > 0 else ""


def command(run: str, each: Offender, part: Part | None = None) -> str:
    """The command that shows an error, or one of its parts."""
    z, y, x = each.place if part is None else part.position
    ids = [f"{name}={','.join(map(str, labels))}" for name, labels in each.ids(part).items()]
    place = f"{z:g},{y:g},{x:g}"
    options = " ".join(f"--segments {text}" for text in ids if not text.startswith("skeletons"))
    return f"volflow view {shlex.quote(run)} --at {place} {options}".rstrip()


def object_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Scores of objects, a row per overlap (IoU) from which on one counts as found, if any."""
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


def object_table(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the scores of objects."""
    rows = object_rows(result)
    heads = ["IoU", *(OBJECTS[key] for key in rows[0] if key != "iou")]
    return heads, [
        [f"{row['iou']:g}", *(written(row[key]) for key in row if key != "iou")] for row in rows
    ]


def curve_table(
    document: Mapping[str, Any],
) -> tuple[tuple[list[str], list[list[str]]] | None, str]:
    """Heads and cells of the scores per threshold, and the best one in words."""
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
    scores = [f"{METRICS[key].label} {written(best[key], METRICS[key].unit)}" for key in shown]
    told = ", ".join([f"{best['threshold']:g}", *scores]) if best else ""
    return (heads, cells), told


def _bare(value: Any, unit: str) -> str:
    """A number whose unit stands in the head of its column."""
    return written(value, unit).removesuffix(unit).rstrip()


def _plain(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def _grid(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [*(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines), ""]
