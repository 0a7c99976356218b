"""A pipeline of five steps for the tests of planning, and the volumes that it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from volflow.config.pipeline import read
from volflow.core.geometry import Box
from volflow.engine.job import Job, Plan
from volflow.engine.plan.plan import plan_draft
from volflow.errors import PlanError

BOUNDS = Box((4, 0, 10), (44, 70, 60))
STAGES = "tests.engine.plan.plan_stages"

GOOD = f"""\
run: out
block: [16, 16, 16]
volumes:
  affinity:
    path: affinity.zarr
  mask:
    path: mask.zarr
  em:
    path: em.zarr
steps:
  - use: {STAGES}:Pieces
  - use: {STAGES}:Table
    with:
      threshold: 0.3
  - use: {STAGES}:Segments
  - use: pyramid
    in: {{labels: segmentation}}
    with: {{levels: 2}}
  - use: {STAGES}:Sizes
"""


def planned(text: str = GOOD, *overrides: str, bounds: str | None = None, **rest: Any) -> Plan:
    Path("p.yaml").write_text(text)
    return plan_draft(read("p.yaml", overrides, bounds), **rest)


def problems(text: str = GOOD, *overrides: str, **rest: Any) -> list[str]:
    with pytest.raises(PlanError) as caught:
        planned(text, *overrides, **rest)
    return caught.value.problems


def digests(plan: Plan) -> dict[str, str]:
    return {step.name: step.digest for step in plan.steps}


def contents(plan: Plan) -> dict[str, str]:
    return {step.name: step.content for step in plan.steps}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert set(before) == set(after)
    return {name for name in before if before[name] != after[name]}


def job(plan: Plan, step: str, phase: str) -> Job:
    return next(job for job in plan.step(step).jobs if job.phase.name == phase)
