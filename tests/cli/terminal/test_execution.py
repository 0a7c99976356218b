"""The last lines of a run on a terminal."""

from __future__ import annotations

from volflow.cli.terminal.execution import report_outcome, segments_text
from volflow.engine.result import RunResult

SEGMENTS = {
    **{"layer": "segmentation", "number": 12345, "median": 0.01234, "largest": 5.0},
    **{"unit": "µm³", "background": 0.1, "voxel_nm": None},
}


def test_the_number_of_segments_is_printed_at_the_end(capsys):
    report_outcome(RunResult("out", segments=SEGMENTS))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "segmentation: 12,345 segments, median size 0.0123 µm³"
    report_outcome(RunResult("out"))
    assert "segments" not in capsys.readouterr().out


def test_advice_follows_the_number_of_segments(capsys):
    segments = {**SEGMENTS, "advice": ["one segment has 87% [of] the voxels"]}
    report_outcome(RunResult("out", segments=segments))
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "look: one segment has 87% [of] the voxels"


def test_nothing_is_printed_for_programs(capsys):
    report_outcome(RunResult("out", segments=SEGMENTS), silent=True)
    assert capsys.readouterr().out == ""


def test_a_count_at_a_coarser_scale_is_marked_as_such():
    text = segments_text({**SEGMENTS, "voxel_nm": (80.0, 64.0, 64.0)})
    assert "(counted in voxels of 80 x 64 x 64 nm; smaller ones may be missing)" in text
