"""Execution of a plan with progress on the terminal, and the exit code of its outcome."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from volflow.cli import BLOCKS_FAILED, INTERRUPTED, STALLED, UNMET

if TYPE_CHECKING:
    from volflow.engine.executors.profile import Profile
    from volflow.engine.job import Plan, RunResult


def run_with_progress(plan: Plan, profile: Profile) -> RunResult:
    """Execute a plan before the user's eyes; leaves with what `report_outcome` says."""
    from volflow.cli.terminal.formatting import errors, output
    from volflow.cli.terminal.progress import progress_display
    from volflow.engine.api import carry_out
    from volflow.engine.executors.preflight import logs

    console = output()
    console.print(f"run {plan.pipeline.run}", markup=False)
    with progress_display(plan, console) as observer:
        result = carry_out(plan, profile, observer)
    if not result.ok and (folder := logs(plan, profile)):
        errors().print(f"the workers' logs are in {folder}", markup=False)
    report_outcome(result)
    return result


def report_outcome(result: RunResult) -> None:
    """Print what became of a run; leaves with 3, 6 or 130 if it did not finish, 5 if unmet."""
    from volflow.cli.score import print_unmet
    from volflow.cli.terminal.formatting import errors, output, plural, print_failures

    console = output()
    if result.ok:
        already = sum(step.already for step in result.steps)
        blocks = sum(step.total for step in result.steps)
        before = f", {already:,} of them done before" if already else ""
        console.print(f"[green]done[/]: {plural(blocks, 'block')}{before}")
        console.print(f"{result.run}/report.html; or: volflow view {result.run}", markup=False)
        if result.unmet:
            print_unmet(result.unmet)
            sys.exit(UNMET)
        return
    stderr = errors()
    if result.failures:
        stderr.print()
        print_failures(stderr, result.run, result.failures)
        waiting = [step.name for step in result.steps if not step.started]
        if waiting:
            stderr.print(f"\nnot started: {', '.join(waiting)}", markup=False)
    if result.stalled:
        stderr.print(f"\n{result.stalled}; the run was ended", markup=False)
    elif result.interrupted:
        stderr.print("\ninterrupted; what is done stays done", markup=False)
    stderr.print(f"resume with: volflow retry {result.run}", markup=False)
    if result.stalled:
        sys.exit(STALLED)
    sys.exit(INTERRUPTED if result.interrupted else BLOCKS_FAILED)
