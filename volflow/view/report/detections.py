"""What a result tells of things found one by one: synaptic partners, and clefts in two ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

RATES = {
    "precision": "of what is found, the part that is there",
    "recall": "of what is there, the part that is found",
    "f1": "both: 2 found and there / (found + there)",
    "true_positives": "found, and there",
    "false_positives": "found, and not there",
    "false_negatives": "there, and not found",
}
LABELS = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "true_positives": "found",
    "false_positives": "not in the truth",
    "false_negatives": "missed",
}
CLEFTS = {"distance": "clefts, centres near", "overlap": "clefts that overlap"}


class Detected(NamedTuple):
    """Rates of one way of counting.

    `key` is where they stand in the result, "" if at its top; `short` what a terminal calls them.
    """

    key: str
    name: str
    short: str
    rates: Mapping[str, Any]

    def path(self, rate: str) -> str:
        """The name of a rate within the result."""
        return f"{self.key}.{rate}" if self.key else rate

    def sentence(self) -> str:
        """The rates in a line."""
        share = {
            name: "-" if self.rates[name] is None else f"{self.rates[name]:.4f}"
            for name in ("f1", "precision", "recall")
        }
        right, wrong = self.rates["true_positives"], self.rates["false_positives"]
        there = right + self.rates["false_negatives"]
        return (
            f"F1 {share['f1']}   precision {share['precision']}, recall {share['recall']}   "
            f"{right:,} of {there:,} found, {wrong:,} not there"
        )


def detections(result: Mapping[str, Any]) -> list[Detected]:
    """The ways of counting that a result tells of; none for the results of other steps."""
    return list(_detections(result))


def _detections(result: Mapping[str, Any]) -> Iterator[Detected]:
    if set(RATES) <= result.keys():
        yield Detected("", "partners", "partners", {name: result[name] for name in RATES})
    for key, name in CLEFTS.items():
        found = result.get(key)
        if isinstance(found, Mapping) and set(RATES) <= found.keys():
            short = "clefts" if key == "overlap" else "centres"
            yield Detected(key, name, short, {name: found[name] for name in RATES})


def detection_table(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells, a row to each way of counting; no rows for the results of other steps."""
    rows = []
    for found in detections(result):
        cells = [
            "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
            for value in found.rates.values()
        ]
        rows.append([found.name, *cells])
    return ["", *LABELS.values()], rows
