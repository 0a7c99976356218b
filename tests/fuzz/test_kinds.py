"""A few damages of each kind of file: the first seeds of `python -m tests.fuzz`."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from tests.fuzz.damage import damage
from tests.fuzz.judge import FAULTS, judge
from tests.fuzz.kinds import KINDS

FEW = 12
QUICK = [name for name in KINDS if not name.startswith("run: ")]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", QUICK)
def test_damaged_files_are_refused_or_read_rightly(tmp_path, name):
    kind, intact, case = KINDS[name], tmp_path / "intact", tmp_path / "case"
    case.mkdir()
    kind.make(case)
    shutil.copytree(case, intact)
    expected = kind.read(case, None)
    outcomes = set()
    for seed in range(FEW):
        shutil.rmtree(case)
        shutil.copytree(intact, case)
        done = damage(case, np.random.default_rng([seed, 7]), kind.only)
        verdict = judge(kind, case, done, expected)
        assert verdict.outcome not in FAULTS, f"seed {seed}: {done}: {verdict}"
        outcomes.add(verdict.outcome)
    assert "refused" in outcomes
