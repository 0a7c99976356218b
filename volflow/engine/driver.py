"""The driver: holds the run, creates the volumes and has an executor run each step's blocks.

A step is a list of phases, each a grid of blocks in ranges. Blocks with a marker in the ledger are
not run again; blocks without one are, however their worker ended.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from volflow.config import stage_answers
from volflow.core.stage.faults import exits_raise
from volflow.engine.executors.base import Executor, PhaseRequirement
from volflow.engine.executors.connect import connect
from volflow.engine.executors.profile import OnStall, Profile, find_profile
from volflow.engine.executors.scratch import remove_abandoned
from volflow.engine.job import Job, Plan, PlannedStep
from volflow.engine.monitor.event_log import EventLog
from volflow.engine.monitor.observer import RunObserver
from volflow.engine.monitor.recorder import Recorder
from volflow.engine.monitor.watchdog import Watchdog
from volflow.engine.outline import write_outline
from volflow.engine.phases.registry import kind_of
from volflow.engine.result import RunResult, StepResult
from volflow.engine.stored_profile import store_profile
from volflow.engine.targets import prepare, require_free_layers, set_complete, taken_layers
from volflow.engine.worker.block_range import job_path, recorded_failures, run_range
from volflow.engine.worker.disk_full import translate_disk_full
from volflow.engine.worker.outcome import Outcome
from volflow.errors import PlanError, StageError
from volflow.io.run.fence import require_held
from volflow.io.run.ledger import Ledger
from volflow.io.run.leftovers import remove_leftovers
from volflow.io.run.lock import RunLock
from volflow.io.store import Store
from volflow.io.volume import open_cached

STALL_TIMEOUT = 600.0  # seconds: longer than most blocks take, shorter than a night

Range = tuple[int, int]


def execute(
    plan: Plan,
    *,
    cluster: str | Profile = "none",
    workers: int | None = None,
    timeout: float = 0.0,
    stall: float = STALL_TIMEOUT,
    on_stall: OnStall = "report",
    observer: RunObserver | None = None,
) -> RunResult:
    """Run the selected steps of a plan, resuming an earlier run.

    Parameters
    ----------
    plan : Plan
    cluster : str or Profile
        See `volflow.engine.executors.connect.connect`.
    workers : int, optional
        Number of local workers.
    timeout : float
        Time limit per block in seconds; 0: none.
    stall : float
        Stall timeout: seconds without a finished block after which a stall is reported; 0: never.
    on_stall : OnStall
        The reaction to a stall beyond reporting it.
    observer : RunObserver, optional
        Receives the progress of the run.

    Raises
    ------
    RunHeld
        If another driver holds the run.
    PlanError
        If a step that is not selected, but needed, is not done.
    StorageFull
        If the disk of the run or of a volume is full.
    """
    run = plan.pipeline.run
    profile = cluster if isinstance(cluster, Profile) else find_profile(cluster)
    result = RunResult(run)
    open_cached.cache_clear()  # volumes may have changed since this process read them
    listener = observer or RunObserver()
    with (
        translate_disk_full(run),
        RunLock(run) as lock,
        _recorded(run, listener, result) as recorder,
    ):
        remove_abandoned()  # scratch folders of killed drivers
        remove_leftovers(run)
        _require_earlier_steps(plan)
        for step in plan.chosen:
            require_free_layers(run, step)
        write_outline(plan)
        store_profile(run, profile)
        recorder.run_begins(plan)
        for step in plan.chosen:
            require_held(lock)
            prepare(run, step)
        left = any(_todo(job) for step in plan.chosen for job in step.jobs)
        with connect(
            profile if left else find_profile("none"),  # nothing to do: no cluster is opened
            run=run,
            requirements=_requirements(plan),
            workers=workers,
            search_path=plan.search_path,
            timeout=timeout,
            notify=recorder.note,
        ) as executor:
            watchdog = Watchdog(run, executor, recorder, recorder.log, stall, on_stall)
            try:
                with watchdog:
                    _run_steps(plan, executor, recorder, result, watchdog, lock)
            except KeyboardInterrupt:
                result.interrupted, result.stalled = True, watchdog.ended
        require_held(lock)
        remove_leftovers(run)
    return result


@contextlib.contextmanager
def _recorded(run: str, observer: RunObserver, result: RunResult) -> Iterator[Recorder]:
    """A recorder that writes the event log up to how the run ended."""
    recorder = Recorder(EventLog(run), observer)
    try:
        yield recorder
    except BaseException as error:
        recorder.run_ends(result, f"{type(error).__name__}: {error}")
        raise
    recorder.run_ends(result, result.stalled)


def _requirements(plan: Plan) -> list[PhaseRequirement]:
    return [
        PhaseRequirement(step.memory[job.phase.name], len(job.phase.grid), step.name, step.pool)
        for step in plan.chosen
        for job in step.jobs
    ]


def _run_steps(
    plan: Plan,
    executor: Executor,
    observer: RunObserver,
    result: RunResult,
    watchdog: Watchdog,
    lock: RunLock,
) -> None:
    result.steps = [StepResult(step.name, step.blocks) for step in plan.chosen]
    for step, outcome in zip(plan.chosen, result.steps, strict=True):
        run_step(step, outcome, executor, observer, watchdog, lock)
        if not outcome.ok:
            return  # later steps would read missing blocks
        require_held(lock)
        try:
            with stage_answers.stage_faults(step.stage):
                report = step_result(plan.pipeline.run, step)
                unmet = step.stage.unmet(report) if report else []
                unmet = stage_answers.sentences(step.stage, "unmet", unmet)
                warnings = step.stage.warnings(report) if report else []
                warnings = stage_answers.sentences(step.stage, "warnings", warnings)
        except stage_answers.StageFault as error:
            raise StageError(f"step '{step.name}': {error}") from error
        if report:
            result.results[step.name] = report
            result.unmet += [f"step '{step.name}': {sentence}" for sentence in unmet]
            _warn(observer, result, [f"step '{step.name}': {text}" for text in warnings])


def _warn(observer: RunObserver, result: RunResult, sentences: Sequence[str]) -> None:
    """Add warnings to the result and to the event log, which an observer shows."""
    result.warnings += sentences
    for sentence in sentences:
        observer.note(f"warning: {sentence}")


def run_step(
    step: PlannedStep,
    result: StepResult,
    executor: Executor,
    observer: RunObserver,
    watchdog: Watchdog | None = None,
    lock: RunLock | None = None,
) -> None:
    """Run the phases of a step in order, up to the first one with a failed block.

    Parameters
    ----------
    step : PlannedStep
    result : StepResult
        Updated.
    executor : Executor
    observer : RunObserver
    watchdog : Watchdog, optional
    lock : RunLock, optional
        The lock of the run: once it is lost, nothing more is handed out or written.

    Raises
    ------
    RunHeld
        If another driver has taken the run over.
    """
    started_at = time.monotonic()
    todo = [_todo(job) for job in step.jobs]
    left = [sum(stop - start for start, stop in ranges) for ranges in todo]
    first = [job.phase for job in step.jobs[:1]]  # none: a small volume needs no pyramid
    result.extent = sum(phase.grid.bounds.zoom_in(phase.zoom).size for phase in first)
    result.started = True
    result.done = result.already = result.total - sum(left)
    if lock is not None and sum(left) > 0:
        require_held(lock)
        set_complete(lock.run, step, False)
    if 0 < result.already < result.total:
        result.seconds_before = _seconds_of_work(step)
    observer.step_begins(step, result)
    try:
        for job, ranges in zip(step.jobs, todo, strict=True):
            if not ranges:
                continue
            if lock is not None:
                require_held(lock)
                job = replace(job, fence=lock.token)
            Ledger(job.run).clear_failed(job_path(job))

            def report(outcome: Outcome, job: Job = job) -> None:
                if lock is not None:
                    require_held(lock)
                result.done += outcome.done
                fresh = result.done - result.already
                result.voxels = result.extent * fresh // result.total  # of the volume, once
                result.failures += outcome.failures
                result.seconds = time.monotonic() - started_at
                if watchdog is not None:
                    watchdog.finished(outcome)
                observer.range_ends(job, outcome)
                for failure in outcome.failures:
                    observer.block_failed(failure)
                observer.progress(step, result, job.phase.name)

            if watchdog is not None:
                watchdog.begins(job, result)
            executor.run(job, ranges, report)
            if result.failures:
                break
        if lock is not None and result.done == result.total:
            require_held(lock)
            set_complete(lock.run, step, True)
    finally:
        if watchdog is not None:
            watchdog.begins(None)
        result.seconds = time.monotonic() - started_at
        observer.step_ends(step, result)


def _seconds_of_work(step: PlannedStep) -> float:
    """Work in the blocks of a step that are done, according to their markers."""
    return sum(Ledger(job.run).progress(job_path(job)).seconds for job in step.jobs)


def _todo(job: Job) -> list[Range]:
    """Ranges of blocks without a marker."""
    return gaps(Ledger(job.run).done(job_path(job)), len(job.phase.grid))


def gaps(done: Sequence[Range], total: int) -> list[Range]:
    """The ranges between 0 and `total` that sorted, disjoint ranges leave out."""
    ranges, position = [], 0
    for start, stop in done:
        if start > position:
            ranges.append((position, min(start, total)))
        position = max(position, stop)
    if position < total:
        ranges.append((position, total))
    return ranges


def _require_earlier_steps(plan: Plan) -> None:
    """Raise PlanError if a step that is not selected feeds one that is, and is not done."""
    chosen = {step.name for step in plan.chosen}
    problems = []
    for step in plan.steps:
        if step.name in chosen or not plan.feeds(step.name):
            continue
        left = sum(stop - start for job in step.jobs for start, stop in _todo(job))
        problems += [
            f"step '{step.name}' has to be run first: {reason}"
            for reason in taken_layers(plan.pipeline.run, step)
            if not left
        ]
        if left:
            problems.append(
                f"step '{step.name}' has to be run first: {left} of its {step.blocks} blocks "
                f"are not done with these parameters"
            )
    if problems:
        raise PlanError(*problems)


def step_result(run: str, step: PlannedStep) -> dict[str, Any]:
    """The JSON result of a finished step, written to `results/STEP.json`; empty if it has none."""
    if not step.jobs:
        return {}
    result = kind_of(step.jobs[-1].phase).result(step.jobs)
    if result:
        text = json.dumps(result, indent=1, sort_keys=True)
        Store(run).write(f"results/{step.name}.json", text.encode())
    return result


def run_one(plan: Plan, step_name: str, index: tuple[int, int, int], phase: str = "") -> Outcome:
    """Run one block of a step in this process, marked or not; exceptions propagate.

    Raises
    ------
    PlanError
        If there is no such step, phase or block.
    """
    step = plan.step(step_name)
    jobs = [job for job in step.jobs if not phase or job.phase.name == phase]
    if not jobs:
        names = ", ".join(job.phase.name for job in step.jobs)
        raise PlanError(f"step '{step_name}' has no phase '{phase}' (phases: {names})")
    job = jobs[0]
    try:
        number = job.phase.grid.number(job.phase.grid[index].index)
    except IndexError as error:
        raise PlanError(f"step '{step_name}', phase '{job.phase.name}': {error}") from error
    with RunLock(plan.pipeline.run) as lock:
        prepare(plan.pipeline.run, step)
        job = replace(job, fence=lock.token)
        with exits_raise():
            outcome = run_range(job, number, number + 1, tolerate=False)
        Ledger(job.run).clear_failed(job_path(job), number)
    return outcome


def failures(plan: Plan) -> dict[str, list[Any]]:
    """The failed blocks in the ledger, by step."""
    return {
        step.name: [failure for job in step.jobs for failure in recorded_failures(job)]
        for step in plan.steps
    }
