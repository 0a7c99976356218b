"""Precision, recall and F1 of detected objects: synaptic partners, and clefts in two ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

RATES = {
    "precision": "Share of the detections that are in the ground truth, 0 to 1; higher is better.",
    "recall": "Share of the ground truth that was detected, 0 to 1; higher is better.",
    "f1": "Harmonic mean of precision and recall, 0 to 1; higher is better.",
    "true_positives": "Detections with a match in the ground truth.",
    "false_positives": "Detections without a match in the ground truth.",
    "false_negatives": "Objects of the ground truth that were missed.",
}
LABELS = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "true_positives": "true positives",
    "false_positives": "false positives",
    "false_negatives": "missed",
}
CLEFTS = {"distance": "clefts, by distance", "overlap": "clefts, by overlap"}


class Detected(NamedTuple):
    """Rates by one way of matching detections with the ground truth.

    Parameters
    ----------
    key : str
        Where they are in the result; empty at its top level.
    name, short : str
        Their names on a page and on a terminal.
    rates : mapping
        By the names of `RATES`; None where undefined.
    """

    key: str
    name: str
    short: str
    rates: Mapping[str, Any]

    def path(self, rate: str) -> str:
        """The dotted name of a rate within the result."""
        return f"{self.key}.{rate}" if self.key else rate

    def sentence(self) -> str:
        """The rates in one line."""
        share = {
            name: "-" if self.rates[name] is None else f"{self.rates[name]:.4f}"
            for name in ("f1", "precision", "recall")
        }
        right, wrong = self.rates["true_positives"], self.rates["false_positives"]
        existing = right + self.rates["false_negatives"]
        return (
            f"F1 {share['f1']}   precision {share['precision']}, recall {share['recall']}   "
            f"{right:,} of {existing:,} detected, {wrong:,} false"
        )


def detections(result: Mapping[str, Any]) -> list[Detected]:
    """The rates in a result, one entry per way of matching; empty for other kinds of results."""
    return list(_detections(result))


def _detections(result: Mapping[str, Any]) -> Iterator[Detected]:
    if set(RATES) <= result.keys():
        yield Detected("", "partners", "partners", {name: result[name] for name in RATES})
    for key, name in CLEFTS.items():
        rates = result.get(key)
        if isinstance(rates, Mapping) and set(RATES) <= rates.keys():
            short = "clefts" if key == "overlap" else "centres"
            yield Detected(key, name, short, {name: rates[name] for name in RATES})


def detection_table(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells, one row per way of matching; no rows for other kinds of results."""
    rows = []
    for detected in detections(result):
        cells = [
            "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
            for value in detected.rates.values()
        ]
        rows.append([detected.name, *cells])
    return ["", *LABELS.values()], rows
