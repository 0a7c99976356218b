from __future__ import annotations

from pathlib import Path

import pytest

from tests.view.paint import painted


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that no test changes."""
    folder = tmp_path_factory.mktemp("view") / "run"
    assert painted(folder, {"use": "pyramid", "in": {"labels": "segmentation"}}).ok
    return folder
