"""`score` against labels is the metric, whatever the formats and the bounds."""

from __future__ import annotations

import json

import numpy as np

from tests.cli.label_volumes import BOX, written
from volflow.core.geometry import Box
from volflow.metrics.voxels.contingency import contingency, scores


def numbers(text: str) -> dict[str, float]:
    """A score without its list of the worst."""
    actual = json.loads(text)
    assert set(actual.pop("worst")) == {"splits", "mergers"}
    return actual


def test_score_is_what_the_metric_says(volflow, labels):
    (found_at, truth_at), actual, truth = labels
    result = volflow("score", "--segmentation", found_at, "--truth", truth_at, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) | {"worst": None} == scores(contingency(truth, actual)) | {
        "worst": None
    }


def test_score_prints_what_papers_quote_and_keeps_the_run_if_asked(volflow, labels, tmp_path):
    (found_at, truth_at), actual, truth = labels
    wanted = scores(contingency(truth[:7], actual[:7]))
    box, out = "3:10,0:41,5:42", tmp_path / "kept"
    command = ["score", "--segmentation", found_at, "--truth", truth_at]
    result = volflow(*command, "--bounds", box, "--out", out)
    assert f"{wanted['vi']:.4f} bits" in result.output
    assert f"{wanted['arand']:.4f}" in result.output
    assert numbers((out / "results/score.json").read_text()) == wanted


def test_score_takes_what_both_volumes_cover(volflow, labels, tmp_path):
    (found_at, _), actual, truth = labels
    part = Box((10, 8, 5), (20, 41, 30))
    smaller = written(f"precomputed://{tmp_path}/part", truth[part.within(BOX)], part)
    result = volflow("score", "--segmentation", found_at, "--truth", smaller, "--json")
    inside = part.within(BOX)
    assert numbers(result.stdout) == scores(contingency(truth[inside], actual[inside]))
    assert f"scored where the volumes overlap: {part}" in result.stderr


def test_there_is_nothing_to_score_where_the_truth_is_empty(volflow, labels, tmp_path):
    empty = written(f"precomputed://{tmp_path}/empty", np.zeros(BOX.shape, "uint64"))
    result = volflow("score", "--segmentation", labels[0][0], "--truth", empty)
    assert result.exit_code == 2
    assert "nothing to score" in result.stderr


def test_volumes_that_do_not_meet_are_not_scored(volflow, labels, tmp_path):
    away = Box((100, 0, 0), (110, 10, 10))
    apart = written(f"precomputed://{tmp_path}/apart", np.ones(away.shape, "uint64"), away)
    result = volflow("score", "--segmentation", labels[0][0], "--truth", apart)
    assert result.exit_code == 2
    assert "do not overlap" in result.stderr
