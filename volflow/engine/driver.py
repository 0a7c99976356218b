"""The driver: holds the run, creates what is written, lets a crew do each step's blocks.

A step is a list of passes, each of them blocks in ranges. What the ledger has is never done
again; what it lacks is, whoever died before.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from volflow.config.pipeline import dump
from volflow.core.stage import Grouping, Layer, Reduction
from volflow.engine.executors.base import Executor, PhaseRequirement
from volflow.engine.executors.connect import connect
from volflow.engine.executors.profile import OnStall, Profile
from volflow.engine.executors.scratch import remove_abandoned
from volflow.engine.job import Job, Plan, PlannedStep, RunResult, Source, StepResult, Target
from volflow.engine.monitor.events import EventLog, Recorder
from volflow.engine.monitor.observer import RunObserver
from volflow.engine.monitor.watchdog import Watchdog
from volflow.engine.phases import group as shuffle
from volflow.engine.worker.block_range import (
    Outcome,
    job_path,
    recorded_failures,
    run_range,
    translate_disk_full,
)
from volflow.errors import PlanError
from volflow.io.run.ledger import Ledger, owner, set_owner
from volflow.io.run.leftovers import remove_leftovers
from volflow.io.run.lock import RunLock
from volflow.io.run.records import Records
from volflow.io.store import Store
from volflow.io.volume import Volume, open_cached

STALL = 600.0  # seconds without a block done: longer than most blocks, shorter than a night

Range = tuple[int, int]


def execute(
    plan: Plan,
    *,
    cluster: str | Profile = "none",
    workers: int | None = None,
    timeout: float = 0.0,
    stall: float = STALL,
    on_stall: OnStall = "say",
    observer: RunObserver | None = None,
) -> RunResult:
    """Run the selected steps of a plan, resuming whatever an earlier run left.

    Parameters
    ----------
    plan : Plan
    cluster : str or Profile
        See `volflow.engine.executors.connect.connect`.
    workers : int, optional
        Number of local workers.
    timeout : float
        Seconds that one block may take; 0 is no limit.
    stall : float
        Seconds without anything finished after which the watchdog barks; 0 is never.
    on_stall : OnStall
        What is done then, beside saying it.
    watcher : Watcher, optional
        Told what happens.

    Raises
    ------
    RunHeld
        If another driver holds the run.
    PlanError
        If a step that is not selected, but needed, is not done.
    StorageFull
        If there is no room left where the run or a volume is written.
    """
    run = plan.pipeline.run
    result = RunResult(run)
    open_cached.cache_clear()  # this process may have read the volumes before they changed
    listener = observer or RunObserver()
    with translate_disk_full(run), RunLock(run), _recorded(run, listener, result) as recorder:
        remove_abandoned()  # what drivers left that were killed
        remove_leftovers(run)
        _require_earlier_steps(plan)
        _remember(plan)
        recorder.run_begins(plan)
        for step in plan.chosen:
            prepare(run, step)
        needs = [
            PhaseRequirement(step.memory[job.phase.name], len(job.phase.grid), step.name, step.pool)
            for step in plan.chosen
            for job in step.jobs
        ]
        with connect(
            cluster,
            run=run,
            needs=needs,
            workers=workers,
            search_path=plan.search_path,
            timeout=timeout,
            note=recorder.note,
        ) as executor:
            dog = Watchdog(run, executor, recorder, recorder.log, stall, on_stall)
            try:
                with dog:
                    _run_steps(plan, executor, recorder, result, dog)
            except KeyboardInterrupt:
                result.interrupted, result.stalled = True, dog.ended
        remove_leftovers(run)
    return result


@contextlib.contextmanager
def _recorded(run: str, observer: RunObserver, result: RunResult) -> Iterator[Recorder]:
    """Whoever writes the event log, down to how the run ended."""
    recorder = Recorder(EventLog(run), observer)
    try:
        yield recorder
    except BaseException as error:
        recorder.run_ends(result, f"{type(error).__name__}: {error}")
        raise
    recorder.run_ends(result, result.stalled)


def _run_steps(
    plan: Plan,
    executor: Executor,
    observer: RunObserver,
    result: RunResult,
    dog: Watchdog | None = None,
) -> None:
    result.steps = [StepResult(step.name, step.blocks) for step in plan.chosen]
    for step, outcome in zip(plan.chosen, result.steps, strict=True):
        run_step(step, outcome, executor, observer, dog)
        if not outcome.ok:
            return  # later steps would read what is not there
        report = step_result(plan.pipeline.run, step)
        if report:
            result.results[step.name] = report
            unmet = step.stage.unmet(report)
            result.unmet += [f"step '{step.name}': {sentence}" for sentence in unmet]


def run_step(
    step: PlannedStep,
    result: StepResult,
    executor: Executor,
    observer: RunObserver,
    dog: Watchdog | None = None,
) -> None:
    """Run the passes of a step in order, up to the first with a block that failed."""
    begun = time.monotonic()
    todo = [_todo(job) for job in step.jobs]
    left = [sum(stop - start for start, stop in ranges) for ranges in todo]
    first = [job.phase for job in step.jobs[:1]]  # none: a small volume needs no pyramid
    extent = sum(phase.grid.bounds.zoom_in(phase.zoom).size for phase in first)
    result.started = True
    result.done = result.already = result.total - sum(left)
    observer.step_begins(step, result)
    try:
        for job, ranges in zip(step.jobs, todo, strict=True):
            if not ranges:
                continue
            Ledger(job.run).clear_failed(job_path(job))

            def report(outcome: Outcome, job: Job = job) -> None:
                result.done += outcome.done
                fresh = result.done - result.already
                result.voxels = extent * fresh // result.total  # of the volume, once
                result.failures += outcome.failures
                result.seconds = time.monotonic() - begun
                if dog is not None:
                    dog.finished(outcome)
                observer.range_ends(job, outcome)
                for failure in outcome.failures:
                    observer.block_failed(failure)
                observer.progress(step, result, job.phase.name)

            if dog is not None:
                dog.begins(job)
            executor.run(job, ranges, report)
            if result.failures:
                break
    finally:
        if dog is not None:
            dog.begins(None)
        result.seconds = time.monotonic() - begun
        observer.step_ends(step, result)


def _todo(job: Job) -> list[Range]:
    """Ranges of blocks that have no marker."""
    return gaps(Ledger(job.run).done(job_path(job)), len(job.phase.grid))


def gaps(done: Sequence[Range], total: int) -> list[Range]:
    """What sorted disjoint ranges leave of 0 to `total`."""
    found, position = [], 0
    for start, stop in done:
        if start > position:
            found.append((position, min(start, total)))
        position = max(position, stop)
    if position < total:
        found.append((position, total))
    return found


# --- before the first block ----------------------------------------------------------------------


def prepare(run: str, step: PlannedStep) -> None:
    """Create what a step writes, and forget markers that speak of other bytes.

    A layer's owner tells whose bytes it holds. Where that is not this run's step with this
    digest, the step's markers go first, then the owner is set, and only then is written. They go
    before voxels are deleted, too: no marker speaks of what is not there, whoever dies in between.
    """
    ledger = Ledger(run)
    foreign = False
    for target in step.targets:
        _, fresh = create(target, lambda: ledger.purge_step(step.name))
        foreign |= fresh or owner(target.spec.path, target.scale) != step.digest
    ledger.purge_step(step.name, keep_digest=None if foreign else step.digest)
    for target in step.targets:
        set_owner(target.spec.path, step.digest, target.scale)
    Store(run).delete_prefix(f"records/{step.name}/", keep=f"{step.digest}/")


def create(target: Target, forget: Callable[[], None]) -> tuple[Volume, bool]:
    """Open or create the volume of a target; whether its voxels are new."""
    return Volume.create(
        target.spec,
        target.layer,
        target.bounds,
        target.resolution,
        target.chunk,
        scale=target.scale,
        forget=forget,
    )


def _require_earlier_steps(plan: Plan) -> None:
    """Steps that are not run now but feed one that is have to be done already."""
    chosen = {step.name for step in plan.chosen}
    problems = []
    for step in plan.steps:
        if step.name in chosen or not plan.feeds(step.name):
            continue
        left = sum(stop - start for job in step.jobs for start, stop in _todo(job))
        if left:
            problems.append(
                f"step '{step.name}' has to be run first: {left} of its {step.blocks} blocks "
                f"are not done with these parameters"
            )
    if problems:
        raise PlanError(*problems)


def _remember(plan: Plan) -> None:
    """Keep the resolved pipeline and an outline of the plan in the run, for other shells."""
    store = Store(plan.pipeline.run)
    store.write("pipeline.yaml", dump(plan.pipeline).encode())
    outline = [
        {
            "name": step.name,
            "digest": step.digest,
            "after": list(step.after),
            "passes": [[job.phase.name, len(job.phase.grid)] for job in step.jobs],
        }
        for step in plan.steps
    ]
    body = {"steps": outline, "layers": layers(plan), "search_path": plan.search_path}
    store.write("outline.json", json.dumps(body, indent=1).encode())


def layers(plan: Plan) -> list[dict[str, Any]]:
    """The volumes that a plan reads and writes, for whoever shows them: in the steps' order."""
    found: dict[str, dict[str, Any]] = {}
    names = {spec: name for name, spec in plan.pipeline.volumes.items()}
    for step in plan.steps:
        for job in step.jobs:
            for place, source in job.sources.items():
                if isinstance(source, Source) and not source.own and source.spec in names:
                    wanted = type(step.stage).wants.get(place, Layer()).kind
                    entry = {"path": source.spec.path, "kind": wanted, "written": False}
                    found.setdefault(names[source.spec], entry)
        for target in step.targets:
            if target.scale == 0:
                path = target.spec.path
                declared = [n for n, spec in plan.pipeline.volumes.items() if spec.path == path]
                name = declared[0] if declared else path.rpartition("/")[2]
                found[name] = {"path": path, "kind": target.layer.kind, "written": True}
    return [{"name": name, **entry} for name, entry in found.items()]


# --- afterwards ----------------------------------------------------------------------------------


def step_result(run: str, step: PlannedStep) -> dict[str, Any]:
    """The JSON result of a finished step, written to `results/STEP.json`; empty if it has none."""
    result = _found_result(run, step)
    if result:
        text = json.dumps(result, indent=1, sort_keys=True)
        Store(run).write(f"results/{step.name}.json", text.encode())
    return result


def _found_result(run: str, step: PlannedStep) -> dict[str, Any]:
    stage = step.stage
    if isinstance(stage, Grouping):
        return shuffle.result(step.jobs)
    if not isinstance(stage, Reduction) or type(stage).result is Reduction.result:
        return {}
    last = [job for job in step.jobs if job.phase.kind in ("leaf", "join") and job.phase.root][-1]
    phase = last.phase
    records = Records(run, f"records/{step.name}/{step.digest}/{phase.round_name}.up.{phase.level}")
    return stage.result([records.read(block.index) for block in phase.grid])


def run_one(plan: Plan, step_name: str, index: tuple[int, int, int], phase: str = "") -> Outcome:
    """Run one block of a step in this process, whatever the ledger says; exceptions leave.

    Raises
    ------
    PlanError
        If there is no such step, pass or block.
    """
    step = plan.step(step_name)
    jobs = [job for job in step.jobs if not phase or job.phase.name == phase]
    if not jobs:
        names = ", ".join(job.phase.name for job in step.jobs)
        raise PlanError(f"step '{step_name}' has no pass '{phase}' (passes: {names})")
    job = jobs[0]
    try:
        number = job.phase.grid.number(job.phase.grid[index].index)
    except IndexError as error:
        raise PlanError(f"step '{step_name}', pass '{job.phase.name}': {error}") from error
    with RunLock(plan.pipeline.run):
        prepare(plan.pipeline.run, step)
        outcome = run_range(job, number, number + 1, tolerate=False)
        Ledger(job.run).clear_failed(job_path(job), number)
    return outcome


def failures(plan: Plan) -> dict[str, list[Any]]:
    """The failed blocks that the ledger holds, by step."""
    return {
        step.name: [failure for job in step.jobs for failure in recorded_failures(job)]
        for step in plan.steps
    }
