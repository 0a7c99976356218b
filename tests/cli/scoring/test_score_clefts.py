"""`volflow score --found-clefts`, and the step `score_clefts` of a pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Call
from tests.cli.scoring import scored
from tests.cli.scoring.scored import BOX, RESOLUTION, addresses, options, written
from volflow.metrics.detections.clefts import cleft_scores
from volflow.view.report.score.document import errors_of, find_document


def clefts() -> dict[str, np.ndarray]:
    """Three true clefts: one detected, one 12 voxels off along z (480 nm), and one missed."""
    truth, result = (np.zeros(BOX.shape, "uint64") for _ in range(2))
    truth[2, 4:8, 4:12], result[2:4, 5:9, 4:12] = 11, 1
    truth[1, 20, 20:30], result[13, 20, 20:30] = 12, 2
    truth[10, 28:31, 40] = 2**63 + 1  # bent, so that the centre is none of its voxels
    truth[10, 30, 40:44] = 2**63 + 1
    return {"found_clefts": result, "true_clefts": truth}


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    arrays = clefts()
    return [
        text
        for name, array in arrays.items()
        for text in (
            f"--{name.replace('_', '-')}",
            written(f"precomputed://{tmp_path}/{name}", array),
        )
    ]


def test_clefts_alone(volflow: Call, given: list[str], tmp_path: Path) -> None:
    out = tmp_path / "report"
    result = volflow("score", *given, "--out", out)
    assert result.exit_code == 0, result.output
    assert "F1 0.4000   precision 0.5000, recall 0.3333   1 of 3 detected, 1 false" in result.stdout
    reported = json.loads((out / "scores.json").read_text())["results"]["score_clefts"]
    arrays = clefts()
    expected = cleft_scores(arrays["true_clefts"], arrays["found_clefts"], RESOLUTION)
    assert reported["distance"] == expected["distance"]
    assert reported["overlap"] == expected["overlap"]
    text = (out / "report.md").read_text()
    assert "| clefts, by overlap | 0.5000 | 0.3333 | 0.4000 | 1 | 1 | 2 |" in text
    assert "## Missed clefts" in text
    assert "score_clefts,overlap.f1,0.4," in (out / "scores.csv").read_text()
    assert "False clefts" in (out / "report.html").read_text()

    document = find_document(str(out))
    assert document is not None
    missed = [each for each in errors_of(document) if each.kind == "missed cleft"]
    assert [(each.label, each.size) for each in missed] == [(12, 10), (2**63 + 1, 6)]
    truth = arrays["true_clefts"]
    for each in missed:  # on a voxel of its own, which its centre need not be
        place = tuple(int(p) - start for p, start in zip(each.place, BOX.start, strict=True))
        assert truth[place] == each.label
    assert f"--segments true_clefts={2**63 + 1}" in text


def test_next_to_labels_and_whatever_the_blocks(
    volflow: Call, given: list[str], tmp_path: Path
) -> None:
    places, result = addresses(tmp_path), []
    for more in ([], ["--set", "block=[5,31,7]"], ["--set", "steps.score_clefts.distance=100"]):
        answer = volflow("score", *options(places), *given, "--json", *more)
        assert answer.exit_code == 0, answer.output
        result.append(json.loads(answer.stdout))
    assert result[0] == result[1]
    assert result[0]["vi"] > 0
    near = [each["score_clefts"]["distance"]["true_positives"] for each in result]
    assert near == [2, 2, 1]


@pytest.mark.parametrize(
    ("limit", "code"), [("overlap_f1>=0.3", 0), ("overlap_f1>=0.5", 5), ("distance_recall<=0.1", 5)]
)
def test_a_limit(volflow: Call, given: list[str], limit: str, code: int) -> None:
    result = volflow("score", *given, "--require", limit)
    assert result.exit_code == code, result.output
    assert ("not met" in result.stderr) == bool(code)


def test_as_a_step_of_a_pipeline(volflow: Call, given: list[str], tmp_path: Path) -> None:
    step = {"use": "score_clefts", "in": {"found_clefts": "a", "true_clefts": "b"}}
    volumes = {"a": {"path": given[1]}, "b": {"path": given[3]}}
    document = {"run": str(tmp_path / "run"), "volumes": volumes}
    file = tmp_path / "pipeline.yaml"
    for resolution, code in ((RESOLUTION, 0), ((8, 8, 8), 2)):
        with_ = {"resolution": list(resolution)}
        file.write_text(json.dumps({**document, "steps": [{**step, "with": with_}]}))
        result = volflow("run", file)
        assert result.exit_code == code, result.output
    assert "expected that of the run, [40.0, 8.0, 8.0] nm" in result.stderr
    reported = json.loads((tmp_path / "run/results/score_clefts.json").read_text())
    assert reported["overlap"]["recall"] == pytest.approx(1 / 3)
    document_ = find_document(str(tmp_path / "run"))
    assert document_ is not None
    assert document_["inputs"]["found_clefts"]["volume"] == "a"


@pytest.mark.parametrize(
    ("keep", "more", "reported"),
    [
        (slice(0, 2), [], "--found-clefts needs --true-clefts"),
        (slice(2, 4), [], "--true-clefts needs --found-clefts"),
        (slice(0, 4), ["--objects"], "--objects needs --segmentation"),
        (slice(0, 4), ["--require", "vi<=1"], "'vi' needs --segmentation"),
        (slice(0, 4), ["--require", "overlap_f2<=1"], "did you mean 'overlap_f1'"),
    ],
)
def test_what_does_not_go_together_is_reported(
    volflow: Call, given: list[str], keep: slice, more: list[str], reported: str
) -> None:
    result = volflow("score", *given[keep], *more)
    assert result.exit_code == 2, result.output
    assert reported in result.stderr


def test_volumes_that_do_not_fit_are_named(
    volflow: Call, given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scored, "RESOLUTION", (40.0, 16.0, 16.0))
    other = written(f"precomputed://{tmp_path}/other", clefts()["true_clefts"])
    result = volflow("score", *given[:2], "--true-clefts", other)
    assert result.exit_code == 2
    assert "--found-clefts" in result.stderr
    assert "has voxels of 40, 8, 8 nm (z, y, x) and --true-clefts" in result.stderr
