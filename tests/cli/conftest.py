from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from tests.cli.label_volumes import BOX, written
from volflow.cli import main

TOYS = "tests.engine.toys"
Call = Callable[..., Result]


@pytest.fixture
def volflow() -> Call:
    """The command line in this process; what it lets escape is raised here."""

    def call(*arguments: object) -> Result:
        texts = [str(argument) for argument in arguments]
        return CliRunner().invoke(main, texts, prog_name="volflow", catch_exceptions=False)

    return call


@pytest.fixture
def toy(tmp_path: Path) -> Callable[..., Path]:
    """Write a pipeline file of toy stages: `index`, then `double`, 48 blocks each."""

    def write(with_: dict[str, Any] | None = None, stage: str = "Index", **rest: Any) -> Path:
        document = {
            "run": str(tmp_path / "run"),
            "bounds": "0:32,0:24,0:32",
            "block": [8, 8, 8],
            "resolution": [10, 8, 8],
            "steps": [
                {"use": f"{TOYS}:{stage}", "name": "index", "with": with_ or {}},
                {"use": f"{TOYS}:Double", "name": "double"},
            ],
            **rest,
        }
        path = tmp_path / "toy.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    return write


@pytest.fixture
def labels(tmp_path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Addresses of a segmentation and its truth, and both arrays."""
    random = np.random.default_rng(3)
    truth = random.integers(0, 5, BOX.shape).astype("uint64")
    actual = truth + random.integers(0, 2, BOX.shape).astype("uint64") + 2**60
    addresses = [
        written(f"precomputed://{tmp_path}/found", actual),
        written(f"zarr://{tmp_path}/truth.zarr", truth),
    ]
    return addresses, actual, truth
