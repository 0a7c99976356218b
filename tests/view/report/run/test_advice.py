"""Advice on segments that can hardly be right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from volflow.config.pipeline import from_dict
from volflow.view.report.run.advice import advice
from volflow.view.report.run.segments import SegmentSizes

GOOD = SegmentSizes("segmentation", 500, 0.02, 1.0, "µm³", 0.2, 0.1, 50_000.0, None)


def pipeline(threshold=0.3, use="agglomerate", **restrict):
    steps = [{"use": "restrict", "with": restrict}, {"use": use, "with": {"threshold": threshold}}]
    return from_dict({"run": "/out", "steps": steps})


def test_plausible_segments_need_no_advice():
    assert advice(GOOD, pipeline()) == []


def test_one_segment_that_has_most_voxels_is_a_merger():
    (sentence,) = advice(replace(GOOD, largest_share=0.87), pipeline())
    assert sentence == (
        "one segment has 87% of the voxels, so most neurons are merged; try a higher threshold: "
        "volflow retry /out --set steps.agglomerate.threshold=0.5; or compare several on a small "
        "part: volflow tune /out"
    )


def test_much_background_points_to_the_foreground():
    (sentence,) = advice(replace(GOOD, background=0.9), pipeline(least=0.5))
    assert "90% of the voxels are in no segment" in sentence
    assert "--set steps.restrict.least=0.25" in sentence
    (sentence,) = advice(replace(GOOD, background=0.9), pipeline(least=0))
    assert "--set" not in sentence


def test_small_segments_are_pieces():
    (sentence,) = advice(replace(GOOD, mean_voxels=250.0), pipeline())
    assert "the mean segment has 250 voxels" in sentence
    assert "--set steps.agglomerate.threshold=0.15" in sentence


@pytest.mark.parametrize(("share", "number"), [(0.6, 500), (0.9, 1)])
def test_the_limit_itself_and_a_single_segment_are_no_merger(share, number):
    assert advice(replace(GOOD, largest_share=share, number=number), pipeline()) == []


def test_a_list_of_thresholds_has_no_next_one():
    (sentence,) = advice(replace(GOOD, largest_share=0.87), pipeline(threshold=[0.3, 0.5]))
    assert "--set" not in sentence


def test_organelles_fill_little():
    assert advice(replace(GOOD, background=0.95), pipeline(use="objects")) == []
