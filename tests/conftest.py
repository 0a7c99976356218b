"""Settings of all tests."""

from __future__ import annotations

import logging
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples every time, and nothing by the clock: machines that run tests are shared.
settings.register_profile(
    "volflow",
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("volflow")

# A shell without job control has what it runs with `&` ignore Ctrl-C, and that is inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

FIRST = ("slurm", "slow", "cluster", "browser")
"""Markers of tests that take long, or wait."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long first: at the end one process would be left alone with them."""
    count = Counter(item.path for item in items)
    marked = {item.path: len(FIRST) for item in items}
    for item in items:
        ranks = (FIRST.index(each.name) for each in item.iter_markers() if each.name in FIRST)
        marked[item.path] = min(marked[item.path], *ranks, len(FIRST))
    items.sort(key=lambda item: (marked[item.path], -count[item.path]))


@pytest.fixture(autouse=True)
def plain_logging() -> None:
    """The logger as it is before a command line was used in this process, which sets it up."""
    ours = logging.getLogger("volflow")
    ours.handlers, ours.propagate = [], True
    ours.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def slurm() -> Iterator[Path]:
    """The configuration of a real Slurm of two nodes that runs while the tests do."""
    from tests.integration import slurm_site

    if lacking := slurm_site.lacking():
        pytest.skip(lacking)
    with slurm_site.running() as configuration, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(configuration))
        yield configuration
