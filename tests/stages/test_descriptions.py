"""Every stage, its inputs and its parameters are described, for the schema and the docs."""

import inspect
import re

import pytest

from volflow.core.stage import find_stage, installed_stages

STAGES = sorted(installed_stages())


@pytest.mark.parametrize("name", STAGES)
def test_every_parameter_has_a_description(name: str) -> None:
    fields = find_stage(name).model_fields
    missing = [field for field, info in fields.items() if not info.description]
    assert not missing, f"stage '{name}': parameters without a docstring: {', '.join(missing)}"


@pytest.mark.parametrize("name", STAGES)
def test_every_input_is_described_and_so_are_the_outputs(name: str) -> None:
    stage = find_stage(name)
    text = inspect.getdoc(stage) or ""
    assert re.search(r"^Outputs?\b|Output:", text, re.MULTILINE)
    missing = [entry for entry in stage.inputs() if not re.search(rf"\b{entry}\b", text)]
    assert not missing, f"stage '{name}': inputs without a description: {', '.join(missing)}"
