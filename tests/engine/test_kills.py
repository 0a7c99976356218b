"""A sample of `make soak`: one run for each victim, and one more, hit by SIGKILL and resumed."""

from __future__ import annotations

import pytest

from tests.kills import VICTIMS, kill, reference

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return reference(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize(("seed", "victim"), [*enumerate(VICTIMS, 1), (5, "driver")])
def test_a_killed_run_is_resumed_to_the_same_bytes(tmp_path, undisturbed, seed, victim):
    assert len(undisturbed) > 500
    case = kill(seed, tmp_path / "case", undisturbed, victim)
    assert case.at > 0
    assert case.complaints == [], str(case)
