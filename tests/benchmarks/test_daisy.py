from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.engine.daisy import LAYER, Way, per_block, table, version_of_daisy


@given(st.floats(0, 100), st.floats(0, 1), st.integers(2, 1000))
def test_what_a_block_costs_knows_nothing_of_what_a_run_costs(start, block, layers):
    few, all_of_it = start + block * LAYER, start + block * LAYER * layers
    actual = per_block(all_of_it, few, LAYER * layers, LAYER)
    assert actual == pytest.approx(1000 * block, abs=1e-6)


def test_a_table_has_the_middle_round_of_each_way():
    ways = [Way("ours", True, float), Way("daisy", False, float)]
    actual = {"ours": [(1.0, 2.0), (1.0, 4.0), (2.0, 3.0)], "daisy": [(1.0, 10.0)] * 3}
    lines = table(actual, ways, 10 * LAYER).splitlines()
    assert lines[2:] == [  # the rounds of ours: 1, 3 and 1 s for 90,000 blocks
        "| ours | yes | 3.00 | 0.0300 | 1.00 | 0.0111 | 0.0111 to 0.0333 |",
        "| daisy | no | 10.00 | 0.1000 | 1.00 | 0.1000 | 0.1000 to 0.1000 |",
    ]


def test_a_python_without_daisy_is_refused_and_reported_how_to_get_it(tmp_path: Path):
    without = tmp_path / "python"
    without.write_text("#!/bin/sh\necho \"No module named 'daisy'\" >&2\nexit 1\n")
    without.chmod(0o755)
    for python, reason in ((str(without), "No module named"), (str(tmp_path / "none"), "No such")):
        with pytest.raises(SystemExit, match=reason) as reported:
            version_of_daisy(python)
        assert "pip install daisy==" in str(reported.value)
        assert "--daisy-python" in str(reported.value)
