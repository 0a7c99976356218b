"""The pipeline of a run as it is stored in the run: YAML with a checksum."""

from __future__ import annotations

from typing import Any

from volflow.config.file import read_stored
from volflow.config.pipeline import Pipeline, dump
from volflow.errors import PlanError
from volflow.io.sealed import seal_text, text_problem
from volflow.io.store import Store

NAME = "pipeline.yaml"


def store_pipeline(pipeline: Pipeline) -> None:
    """Write a pipeline into its run."""
    Store(pipeline.run).write(NAME, seal_text(dump(pipeline)).encode())


def stored_document(run: str) -> dict[str, Any]:
    """The keys and values of a run's pipeline.

    Raises
    ------
    PlanError
        If the address holds no run, or the text is damaged.
    """
    store = Store(run)
    body = store.read(NAME)
    if body is None:
        raise PlanError(f"{run} holds no run (it has no {NAME})")
    where = f"{store.location}/{NAME}"
    problem = text_problem(body)
    if problem:
        raise PlanError(
            f"{where} is damaged, or was changed: {problem}; change a parameter by `volflow retry "
            f"{run} --set`, or run the original pipeline file again"
        )
    return read_stored(body, where)


def holds_run(address: str) -> bool:
    """Whether a folder or address holds a run."""
    return Store(address).read(NAME) is not None
