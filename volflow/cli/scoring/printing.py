"""Scores as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def print_scores(results: Mapping[str, Mapping[str, Any]], bounds: str = "") -> None:
    """Print the scores that papers quote, from the results of steps."""
    from volflow.cli.terminal.formatting import output

    console = output()
    if bounds:
        console.print(f"bounds     {bounds}", style="dim", markup=False)
    for result in results.values():
        for name, text in score_lines(result):
            console.print(f"[bold]{name:<10}[/] {text}")


def score_lines(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and text of each line of a result."""
    yield from _voxel_lines(result)
    yield from _skeleton_lines(result)
    from volflow.view.report.score.detections import detections

    for rates in detections(result):
        yield rates.short, rates.sentence()
    best = result.get("best")
    if isinstance(best, Mapping) and best.get("vi") is not None:
        number = len(result.get("thresholds", ()))
        yield "best", f"threshold {best['threshold']:g} of {number}: VI {best['vi']:.4f} bits"


def _voxel_lines(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from volflow.cli.terminal.formatting import count

    if result.get("vi") is None:
        return
    split, merge = result["vi_split"], result["vi_merge"]
    yield "VI", f"{result['vi']:.4f} bits   split {split:.4f} + merge {merge:.4f}"
    precision, recall = result["precision"], result["recall"]
    yield "ARAND", f"{result['arand']:.4f}        precision {precision:.4f}, recall {recall:.4f}"
    truths, segments = count(result["truth_labels"]), count(result["segments"])
    yield "counted", f"{count(result['voxels'])} voxels, {truths} true labels, {segments} segments"


def _skeleton_lines(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if result.get("erl") is None:
        return
    share = result.get("erl_ratio")
    of = f"   {share:.1%} of {result['erl_max']:,.0f} nm" if share is not None else ""
    yield "ERL", f"{result['erl']:,.0f} nm{of}"
    for key, name in (("terl", "tERL"), ("berl", "bERL"), ("nerl_norm", "nERL")):
        if result.get(key) is not None:
            yield name, f"{result[key]:,.0f} nm"
