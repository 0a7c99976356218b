"""Synthetic volumes under the names that the documentation uses."""

from __future__ import annotations

from pathlib import Path

import pytest

import volflow


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `em.zarr`, `affinity.zarr` and `truth.zarr`, 64 voxels a side."""
    folder = tmp_path_factory.mktemp("volumes")
    names = ("em", "affinity", "truth")
    result = volflow.run(
        {
            "run": str(folder / "synthetic"),
            "block": [64, 64, 64],
            "bounds": "0:64,0:64,0:64",
            "resolution": [10, 10, 10],
            "volumes": {name: {"path": f"zarr://{folder}/{name}.zarr"} for name in names},
            "steps": [{"use": "synth"}],
        }
    )
    assert result.ok
    return folder


@pytest.fixture
def workplace(volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a reader of the documentation: empty but for the synthetic volumes."""
    for name in ("em", "affinity", "truth"):
        (tmp_path / f"{name}.zarr").symlink_to(volumes / f"{name}.zarr")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path
