"""One reader of checked YAML files: pipelines, cluster profiles, trainings, pretrainings.

text -> plain data with lines -> overrides -> pydantic model, or all problems with file:line
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from volflow.config.file import read_yaml
from volflow.config.overrides import Overridden, apply_overrides
from volflow.config.problems import Problem, Problems, Where, validation_problems

Model = TypeVar("Model", bound=BaseModel)


def read_data(path: str | os.PathLike[str], model: type[BaseModel]) -> tuple[Overridden, Problems]:
    """The data of a YAML file with their lines, and the problems of the file itself.

    Parameters
    ----------
    path : path
        `~` stands for the home folder; only plain values are read.
    model : type of BaseModel
        Checks the data later; its required keys appear in the error where the file has no keys.

    Raises
    ------
    PlanError
        If the file cannot be read, or does not hold keys and values.
    """
    file = os.fspath(path)
    problems = Problems(Where(file))
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        problems.add((), f"cannot be read: {reason}")
        problems.check()
        raise AssertionError from error
    content = read_yaml(text)
    problems.extend(content.problems)
    if not isinstance(content.data, dict):
        if not problems:
            required = [name for name, entry in model.model_fields.items() if entry.is_required()]
            problems.add((), f"expected keys and values ({', '.join(required)}, ...)", 1)
        problems.check()
    unreadable = {problem.path for problem in content.problems}
    return Overridden(content.data, content.lines, unreadable=unreadable), problems


@dataclass(frozen=True)
class Validated(Generic[Model]):
    """A model made of the data of a file, and all problems.

    `value` is None where the data were rejected.
    """

    value: Model | None
    problems: Problems
    rejected: Sequence[Problem] = ()
    """The problems that pydantic reported."""


def check(
    target: Overridden, model: type[Model], problems: Problems, folders: tuple[str, ...] = ()
) -> Validated[Model]:
    """Validate data with a model.

    Parameters
    ----------
    target : Overridden
        The data, after all overrides.
    model : type of BaseModel
    problems : Problems
        Those of the file itself; the others are added.
    folders : tuple of str
        Folders in which modules of the user's own stages are searched.
    """
    problems.where = Where(problems.where.file, target.lines, target.options, folders)
    rejected: list[Problem] = []
    value = None
    try:
        value = model.model_validate(target.data)
    except ValidationError as error:
        rejected = list(validation_problems(error, target.data, model))
        problems.extend(p for p in rejected if p.path not in target.unreadable)
    return Validated(value, problems, rejected)


def load_file(
    path: str | os.PathLike[str], model: type[Model], overrides: Iterable[str] = ()
) -> tuple[Model, Where]:
    """Read a YAML file, apply overrides and check the result.

    Parameters
    ----------
    path : path
    model : type of BaseModel
        Its fields are the keys of the file.
    overrides : iterable of str
        `dotted.key=value` each, values in YAML; list items by number: `sources.0.weight=2`.

    Returns
    -------
    model : BaseModel
    where : Where
        File, line or option of each key.

    Raises
    ------
    PlanError
        With all problems, each with file and line.
    """
    target, problems = read_data(path, model)
    for problem in apply_overrides(target, tuple(overrides), model):
        problems.add_sentence(problem)
    checked = check(target, model, problems)
    problems.check()
    assert checked.value is not None
    return checked.value, problems.where
