"""The folder of public data, which is not part of the project: VOLFLOW_DATA names it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("VOLFLOW_DATA") or Path(__file__).parents[2] / "shared" / "data")
"""Without VOLFLOW_DATA, `shared/data` next to the checkout."""


def public_data(name: str) -> Path:
    """A file or folder of the public data; without it, the test that asks is skipped."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not in the data folder {DATA} (VOLFLOW_DATA)")
    return path


def needs_public_data(name: str) -> pytest.MarkDecorator:
    """The mark of a test that needs a file or folder of the public data."""
    reason = f"{name} is not in the data folder {DATA} (VOLFLOW_DATA)"
    return pytest.mark.skipif(not (DATA / name).exists(), reason=reason)
