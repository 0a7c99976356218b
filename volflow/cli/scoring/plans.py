"""Plans and tables of one `volflow score`, made with all problems at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volflow.errors import PlanError

if TYPE_CHECKING:
    from volflow.cli.scoring.partners import Pairing, PartnerTables
    from volflow.cli.scoring.request import Request
    from volflow.config.pipeline import Pipeline
    from volflow.engine.executors.profile import Profile
    from volflow.engine.job import Plan


class ScorePlans(NamedTuple):
    """A plan (None where only tables are compared), plans of sweeps, tables, and a note."""

    plan: Plan | None
    sweeps: list[Plan]
    pairing: Pairing | None
    note: str


def partner_tables(
    predicted: str | None, truth: str | None, distance: float
) -> PartnerTables | None:
    """Both tables of partners; None if neither is given.

    Raises
    ------
    PlanError
        If only one is given.
    """
    if predicted is None and truth is None:
        return None
    if predicted is None or truth is None:
        given, needed = ("--partners", "--true-partners")[:: 1 if truth is None else -1]
        raise PlanError(f"{given} needs {needed}")
    from volflow.cli.scoring.partners import PartnerTables

    return PartnerTables(predicted, truth, distance)


def plan_scores(
    request: Request,
    folder: str,
    sweep: str | None,
    tables: PartnerTables | None,
    profile: Profile,
) -> ScorePlans:
    """Plans and checked tables of a request.

    Raises
    ------
    PlanError
        With all problems that can be known before anything runs.
    """
    from volflow.cli.scoring.pipeline import make_pipeline, partial_bounds_note
    from volflow.cli.scoring.sweep import plan_sweep
    from volflow.engine.api import make_plan

    problems: list[str] = []
    pipeline: Pipeline | None = None
    planned: Plan | None = None
    sweeps: list[Plan] = []
    pairing: Pairing | None = None
    try:
        pipeline, problems = make_pipeline(request, folder)
        if request.steps:
            planned = make_plan(pipeline, profile=profile)
    except PlanError as error:
        problems += _without_repeats(error.problems, problems)
    try:
        sweeps = plan_sweep(sweep, request.volumes, profile) if sweep else []
    except PlanError as error:
        problems += error.problems
    if tables is not None:
        from volflow.cli.scoring.partners import make_pairing

        pairing = make_pairing(tables, request.volumes, pipeline, planned, problems)
    if problems:
        raise PlanError(*problems)
    note = ""
    if planned is not None and request.bounds is None:
        note = partial_bounds_note(planned.pipeline)
    return ScorePlans(planned, sweeps, pairing, note)


def _without_repeats(more: list[str], problems: list[str]) -> list[str]:
    """Problems of the planner, without those that the options were reported with before."""
    out = any(text.startswith("--out") for text in problems)
    sides = any("has voxels of" in text for text in problems)
    return [
        text
        for text in more
        if not (out and text.startswith("run:")) and not (sides and ": resolution " in text)
    ]
