from __future__ import annotations

import numpy as np
import pytest

from tests.stages.contract import Case, StageContract
from volflow.core.geometry import Box
from volflow.core.stage import find_stage
from volflow.stages.renumber import Renumber

BOUNDS = Box((2, -3, 5), (11, 8, 13))
LABELS = np.random.default_rng(0).integers(0, 30, BOUNDS.shape).astype(np.uint64) * 2**58


class TestRenumber(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        return Case(Renumber(), BOUNDS, {"labels": LABELS})


def test_it_is_installed() -> None:
    assert find_stage("renumber") is Renumber
