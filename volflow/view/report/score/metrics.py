"""Names, units and meanings of the scores in a report, and how their values are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from volflow.view.report.score.detections import LABELS, RATES, detections


class Metric(NamedTuple):
    """The label, unit and meaning of a score."""

    label: str
    unit: str
    meaning: str


METRICS: dict[str, Metric] = {
    "vi": Metric(
        "VI",
        "bits",
        "Variation of information, the sum of split and merge errors; 0 is perfect, lower is "
        "better.",
    ),
    "vi_split": Metric("VI split", "bits", "Part of VI due to objects cut into several segments."),
    "vi_merge": Metric("VI merge", "bits", "Part of VI due to segments that join several objects."),
    "arand": Metric(
        "ARAND",
        "",
        "Adapted Rand error, 1 minus the F1 of precision and recall; 0 is perfect, lower is "
        "better.",
    ),
    "precision": Metric(
        "precision", "", "Share of the voxel pairs in one segment that belong to one object."
    ),
    "recall": Metric(
        "recall", "", "Share of the voxel pairs in one object that are in one segment."
    ),
    "arand_all_pairs": Metric(
        "ARAND, all pairs", "", "The same, with each voxel also paired with itself."
    ),
    "precision_all_pairs": Metric(
        "precision, all pairs", "", "The same, with each voxel also paired with itself."
    ),
    "recall_all_pairs": Metric(
        "recall, all pairs", "", "The same, with each voxel also paired with itself."
    ),
    "erl": Metric(
        "ERL",
        "nm",
        "Expected run length: how far a neuron is followed from a random point without an error; "
        "higher is better.",
    ),
    "erl_max": Metric("ERL, perfect", "nm", "ERL of a segmentation without errors."),
    "erl_ratio": Metric("ERL ratio", "", "ERL as a share of that of a perfect segmentation."),
    "terl": Metric("tERL", "nm", "ERL that tolerates small mergers; higher is better."),
    "berl": Metric(
        "bERL",
        "nm",
        "ERL in which splits at mitochondria cost more and mergers at synapses void the segment.",
    ),
    "nerl": Metric("nERL", "nm", "ERL with edges weighted by radius and distance to the nucleus."),
    "nerl_norm": Metric(
        "nERL, normalised", "nm", "Scaled nERL, in which a perfect skeleton has its own length."
    ),
    "voxels": Metric("voxels counted", "", "Voxels whose true label is not 0."),
    "truth_labels": Metric("objects", "", "Labels in the ground truth."),
    "segments": Metric("segments", "", "Segments that overlap the ground truth."),
    "skeletons": Metric("skeletons", "", "Skeletons of the ground truth."),
    "length_nm": Metric("length of the skeletons", "nm", "Total length of all skeletons."),
    "splits": Metric("splits", "", "Skeleton edges between two segments."),
    "merges": Metric(
        "mergers", "", "Segments with more length of other skeletons than is tolerated."
    ),
    "merges_classic": Metric("mergers, none tolerated", "", "Mergers as plain ERL counts them."),
    "omitted_length_nm": Metric(
        "length on background", "nm", "Skeleton length outside all segments; part of no run."
    ),
    "border": Metric(
        "ignored border", "voxels", "Voxels this close to a border between objects do not count."
    ),
    "distance_nm": Metric("match distance", "nm", "Greatest distance of a match."),
    "mean_distance_nm": Metric("mean distance", "nm", "Mean distance between matched sites."),
    "truth_partners": Metric("true partners", "", "Partners of the ground truth that count."),
    "found_partners": Metric("detected partners", "", "Detected partners that count."),
    "truth_outside": Metric(
        "true partners outside", "", "Partners outside the bounds; they do not count."
    ),
    "found_outside": Metric(
        "detected partners outside", "", "Partners outside the bounds; they do not count."
    ),
    "truth_clefts": Metric("true clefts", "", "Clefts of the ground truth."),
    "found_clefts": Metric("detected clefts", "", "Detected clefts."),
    "min_size": Metric("minimum size", "voxels", "Smaller objects are ignored."),
}
HEADLINES = (
    "vi", "vi_split", "vi_merge", "arand", "erl", "erl_ratio", "terl", "berl", "nerl_norm", "f1",
    "distance.f1", "overlap.f1",
)  # fmt: skip


class Number(NamedTuple):
    """A number in a result: its step, its dotted key there, value, and metric."""

    step: str
    key: str
    value: Any
    metric: Metric

    @property
    def text(self) -> str:
        """The value with its unit."""
        return format_value(self.value, self.metric.unit)


def metric_of(key: str) -> Metric:
    """The metric of a key, with a label made from the key if it is not in `METRICS`."""
    name = key.removesuffix("_nm")
    unit = "nm" if name != key or name.endswith("erl_max") else ""
    return METRICS.get(key, Metric(name.replace("_", " "), unit, ""))


def format_value(value: Any, unit: str = "") -> str:
    """A value as text: integers with thousands separators, four digits of other numbers."""
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


def numbers(results: Mapping[str, Mapping[str, Any]]) -> Iterator[Number]:
    """Every number of the results, by step, in the order of `METRICS`.

    The meaning of a number that was not computed is the reason why.

    Parameters
    ----------
    results : mapping
        JSON results by step.
    """
    order = {name: place for place, name in enumerate(METRICS)}
    for step, result in results.items():
        missing = result.get("not_computed", {})
        detected = detections(result)
        for entry in detected:
            for key, value in entry.rates.items():
                metric = Metric(f"{entry.name}: {LABELS[key]}", "", RATES[key])
                yield Number(step, entry.path(key), value, metric)
        rates = {entry.path(key) for entry in detected for key in RATES}
        keys = [key for key, value in result.items() if is_number(value) and key not in rates]
        for key in sorted(keys, key=lambda key: (order.get(key, len(order)), key)):
            metric = metric_of(key)
            if result[key] is None and key.endswith(("_max", "_ratio")):
                continue  # its score is listed as missing
            if result[key] is None and key in missing:
                metric = metric._replace(meaning=f"not computed: {missing[key]}")
            yield Number(step, key, result[key], metric)


def headlines(results: Mapping[str, Mapping[str, Any]]) -> list[Number]:
    """The scores that papers quote, in µm where the unit is nm."""
    shown = []
    for number in numbers(results):
        if number.key in HEADLINES and number.value is not None:
            if number.metric.unit == "nm":
                metric = number.metric._replace(unit="µm")
                number = number._replace(value=number.value / 1000, metric=metric)
            shown.append(number)
    return shown


def is_number(value: Any) -> bool:
    """Whether a value of a result is a number, or None for one that was not computed."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
