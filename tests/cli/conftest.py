from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

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
