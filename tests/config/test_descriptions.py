"""Every key of every YAML file has a description, which schemas and documentation show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from volflow.config.bundled import bundled
from volflow.config.keys import alternatives
from volflow.config.pipeline import Pipeline
from volflow.config.schema import file_schema
from volflow.core.stage import find_stage, installed_stages
from volflow.engine.executors.profile import Profile
from volflow.train.config.pretraining import Pretraining
from volflow.train.config.sequences import SequenceTraining
from volflow.train.config.tracker import TrackerTraining
from volflow.train.config.training import Training
from volflow.train.kinds import kind_of

FILES = (Pipeline, Profile, Training, TrackerTraining, SequenceTraining, Pretraining)


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that values of an annotation are made of, and theirs."""
    for option in alternatives(annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            yield option
            for entry in option.model_fields.values():
                yield from models(entry.annotation)
        else:
            for argument in get_args(option):
                yield from models(argument)


def without_description(model: type[BaseModel]) -> list[str]:
    return sorted(
        {
            f"{part.__name__}.{entry.alias or name}"
            for part in models(model)
            for name, entry in part.model_fields.items()
            if not (entry.description or "").strip()
        }
    )


@pytest.mark.parametrize("model", FILES, ids=lambda model: model.__name__)
def test_every_key_has_a_description(model):
    assert without_description(model) == []


@pytest.mark.parametrize("name", sorted(installed_stages()))
def test_every_parameter_of_a_stage_has_a_description(name):
    assert without_description(find_stage(name)) == []


def test_a_missing_description_is_seen():
    class Inner(BaseModel):
        size: int

    class Outer(BaseModel):
        inner: tuple[Inner, ...] | None = None

    assert without_description(Outer) == ["Inner.size", "Outer.inner"]


@pytest.mark.parametrize(
    ("model", "folder"),
    [(None, "pipelines/train"), (Pretraining, "pipelines/pretrain"), (Profile, "deploy")],
)
def test_the_schema_of_a_file_takes_the_bundled_ones_and_refuses_other_keys(model, folder):
    jsonschema = pytest.importorskip("jsonschema")
    paths = bundled(folder)
    assert paths
    for path in paths.values():
        data = yaml.safe_load(path.read_text())
        content = model or kind_of(path).model
        checker = jsonschema.Draft202012Validator(file_schema(content, "title"))
        assert not list(checker.iter_errors(data)), path
        assert list(checker.iter_errors({**data, "no_such_key": 1}))
