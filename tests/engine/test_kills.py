"""A sample of `make soak`: runs that are harmed, in a few of its ways."""

from __future__ import annotations

import pytest

from tests.soak.__main__ import harmed
from tests.soak.kinds import KINDS, Choice, chosen
from tests.soak.lab import open_lab

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with open_lab(tmp_path_factory.mktemp("lab"), stores=False) as lab:
        yield lab


SAMPLE = {
    **{"kill-child": "tcp", "kill-worker": "tcp", "kill-scheduler": "tcp", "blocks": "tcp"},
    **{"kill-driver": "none", "parameters": "none", "takeover": "none", "two-runs": "none"},
}
"""Executors of the kinds that are tried."""


@pytest.mark.parametrize(("seed", "kind"), [*enumerate(SAMPLE, 1)])
def test_a_harmed_run_leaves_the_bytes_of_an_undisturbed_one(lab, seed, kind):
    pipeline = next(iter(KINDS[kind].pipelines))
    line = harmed(lab, seed, Choice(kind, SAMPLE[kind], "disk", pipeline))
    assert line.harmed > 0
    assert line.complaints == [], str(line)


def test_a_soak_of_many_seeds_meets_every_kind_and_executor():
    choices = [chosen(seed) for seed in range(500)]
    assert {choice.kind for choice in choices} == set(KINDS)
    places = {(choice.executor, choice.store) for choice in choices}
    executors = [*("none", "tcp", "local", "slurm")]
    assert places == {*((name, "disk") for name in executors), ("none", "s3"), ("tcp", "s3")}
    assert chosen(7) == chosen(7)
