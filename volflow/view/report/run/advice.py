"""Advice on a segmentation that can hardly be right, with the command to try."""

from __future__ import annotations

from collections.abc import Iterator

from volflow.config.pipeline import Pipeline, StepSpec
from volflow.view.report.run.segments import SegmentSizes

MOST_IN_ONE = 0.6  # share of the voxels in the largest segment
MOST_BACKGROUND = 0.6  # share of the voxels in no segment
SMALLEST_MEAN = 1000  # voxels of the finest scale in the mean segment
STEP_UP, STEP_DOWN = 0.2, 0.15  # by which another threshold is suggested
FOREGROUND = ("mask_below", "least")  # parameters below which voxels are left out


def advice(sizes: SegmentSizes, pipeline: Pipeline) -> list[str]:
    """Sentences on what is probably wrong with the segments of a run, each with a command.

    Only the segments of an agglomeration are judged: objects such as mitochondria fill little of
    a volume.

    Parameters
    ----------
    sizes : SegmentSizes
    pipeline : Pipeline
        The pipeline of the run.

    Returns
    -------
    list of str
        Empty if nothing is conspicuous.
    """
    merging = [step for step in pipeline.steps if step.use == "agglomerate"]
    return list(_sentences(sizes, pipeline, merging[0])) if merging else []


def _sentences(sizes: SegmentSizes, pipeline: Pipeline, merging: StepSpec) -> Iterator[str]:
    run, threshold = pipeline.run, merging.with_.get("threshold")
    key = f"steps.{merging.name or merging.use}.threshold"
    compare = f"or compare several on a small part: volflow tune {run}"
    if sizes.largest_share > MOST_IN_ONE and sizes.number > 1:
        text = (
            f"one segment has {sizes.largest_share:.0%} of the voxels, so most neurons are merged"
        )
        if isinstance(threshold, float):
            higher = min(0.95, round(threshold + STEP_UP, 2))
            text += f"; try a higher threshold: volflow retry {run} --set {key}={higher:g}"
        yield f"{text}; {compare}"
    if sizes.background > MOST_BACKGROUND:
        text = f"{sizes.background:.0%} of the voxels are in no segment"
        for step in pipeline.steps:
            for name in FOREGROUND:
                value = step.with_.get(name)
                if isinstance(value, int | float) and value > 0:
                    setting = f"steps.{step.name or step.use}.{name}={value / 2:g}"
                    text += f"; try a larger foreground: volflow retry {run} --set {setting}"
        yield f"{text}; {compare}"
    if 0 < sizes.mean_voxels < SMALLEST_MEAN:
        text = (
            f"the mean segment has {sizes.mean_voxels:,.0f} voxels, so most neurons are in pieces"
        )
        if isinstance(threshold, float):
            lower = max(0.05, round(threshold - STEP_DOWN, 2))
            text += f"; try a lower threshold: volflow retry {run} --set {key}={lower:g}"
        yield f"{text}; {compare}"
