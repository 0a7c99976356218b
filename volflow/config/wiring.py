"""Which step reads what from which: stages built, names joined, steps put in order."""

from __future__ import annotations

import graphlib
import heapq
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from volflow.config.overrides import default_step_name
from volflow.config.pipeline import Pipeline, StepSpec
from volflow.config.problems import Problems, closest, keys_of
from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.core.stage import Columns, Layer, Reduction, Stage, find_stage
from volflow.errors import PlanError

# Bounds on which a stage is asked which scales it would write, before the real ones are known.
LARGE = Box((0, 0, 0), (1 << 14, 1 << 14, 1 << 14))


@dataclass
class WiredStep:
    """A step whose stage is built and whose inputs and outputs have names.

    `number` is its place in the file. `coarser` says that it writes only scales from 1 on, of a
    volume whose scale 0 another step writes.
    """

    number: int
    name: str
    spec: StepSpec
    stage: Stage
    block: Triple
    coarser: bool = False
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)

    def declared(self, output: str) -> Layer | Columns:
        """What the stage says of one of its outputs."""
        return self.stage.outputs[output]


@dataclass
class Wiring:
    """All steps in the order in which they run, and who writes what."""

    steps: list[WiredStep]
    writers: dict[str, tuple[WiredStep, str]]
    """By volume or table: the step that writes it (its scale 0), and the name of that output."""

    @property
    def skeletons(self) -> dict[str, WiredStep]:
        """The names that a step reads as skeletons, and that step."""
        return {
            name: step
            for step in self.steps
            for place, name in step.inputs.items()
            if step.stage.wants.get(place, Layer()).kind == "skeletons"
        }

    def after(self, step: WiredStep) -> list[str]:
        """Names of the steps whose outputs this one reads, in order."""
        read = [self.writers[name][0].name for name in step.inputs.values() if name in self.writers]
        return list(dict.fromkeys(read))


def wire(pipeline: Pipeline, problems: Problems) -> Wiring:
    """Build the stages and join their inputs and outputs by name; mistakes are noted."""
    steps = _built(pipeline, problems)
    writers = _writers(steps, pipeline, problems)
    for step in steps:
        _wire_inputs(step, writers, pipeline, problems, all_built=len(steps) == len(pipeline.steps))
        _wire_coarser(step, writers, problems)
    return Wiring(_ordered(steps, writers, problems), writers)


# --- stages --------------------------------------------------------------------------------------


def _built(pipeline: Pipeline, problems: Problems) -> list[WiredStep]:
    steps: list[WiredStep] = []
    names: dict[str, int] = {}
    for number, spec in enumerate(pipeline.steps):
        name = spec.name or default_step_name(spec.use)
        if name in names:
            problems.add(
                ("steps", number, "name" if spec.name else "use"),
                f"step {names[name] + 1} is called '{name}' too; give one of them another name",
            )
            continue
        names[name] = number
        stage = _stage(number, spec, pipeline.where.folders, problems)
        if stage is not None:
            block = spec.block or pipeline.block
            steps.append(WiredStep(number, name, spec, stage, block, _coarser(stage, block)))
    return steps


def _stage(number: int, spec: StepSpec, folders: Sequence[str], problems: Problems) -> Stage | None:
    for folder in folders:
        if folder not in sys.path:
            sys.path.append(folder)  # last, so that a file there hides no installed module
    importlib.invalidate_caches()
    try:
        kind = find_stage(spec.use)
    except PlanError as error:
        problems.add(("steps", number, "use"), str(error))
        return None
    except Exception as error:  # a user's module may raise anything when it is imported
        problems.add(
            ("steps", number, "use"),
            f"stage '{spec.use}' does not import: {type(error).__name__}: {error}",
        )
        return None
    try:
        return kind.model_validate(spec.with_)
    except ValidationError as error:
        known = keys_of(kind)
        problems.add_validation(
            error, spec.with_, lambda path: [] if path else known, ("steps", number, "with")
        )
        return None


def _coarser(stage: Stage, block: Triple) -> bool:
    """Whether a stage writes only coarser scales of what it reads."""
    if isinstance(stage, Reduction):
        return False
    scales = [phase.scales[1] for phase in stage.phases(BlockGrid(LARGE, block))]
    return bool(scales) and min(scales) > 0


# --- names ---------------------------------------------------------------------------------------


def _writers(
    steps: Sequence[WiredStep], pipeline: Pipeline, problems: Problems
) -> dict[str, tuple[WiredStep, str]]:
    writers: dict[str, tuple[WiredStep, str]] = {}
    for step in steps:
        outputs = list(step.stage.outputs)
        _check_names(step, "out", list(step.spec.out), outputs, problems)
        for output in outputs:
            name = step.spec.out.get(output, output)
            step.outputs[output] = name
            if step.coarser:
                continue
            path = ("steps", step.number, "out", output)
            if name in writers:
                other = writers[name][0]
                problems.add(
                    path,
                    f"step '{step.name}' writes '{name}', which step '{other.name}' writes too",
                )
                continue
            writers[name] = (step, output)
            if isinstance(step.declared(output), Columns) and name in pipeline.volumes:
                problems.add(
                    ("volumes", name),
                    f"step '{step.name}' writes a table of that name, which is no volume",
                )
    return writers


def _wire_inputs(
    step: WiredStep,
    writers: dict[str, tuple[WiredStep, str]],
    pipeline: Pipeline,
    problems: Problems,
    all_built: bool,
) -> None:
    """Give each input its volume; a missing one is only told if all writers are known."""
    inputs = step.stage.inputs()
    _check_names(step, "in", list(step.spec.in_), list(inputs), problems)
    known = sorted({*pipeline.volumes, *writers})
    for name, required in inputs.items():
        volume = step.spec.in_.get(name, name)
        if volume in known:
            step.inputs[name] = volume
        elif all_built and (required or name in step.spec.in_):
            problems.add(
                ("steps", step.number, "in", name),
                f"step '{step.name}' reads '{volume}', which is not declared under volumes and "
                f"which no step writes{closest(volume, known)} (known: {', '.join(known)})",
            )


def _wire_coarser(
    step: WiredStep, writers: dict[str, tuple[WiredStep, str]], problems: Problems
) -> None:
    """A pyramid's output is by default the volume that it reads, and always one of this run."""
    if not step.coarser or not step.inputs:
        return
    source = next(iter(step.inputs.values()))
    for output in step.outputs:
        step.outputs[output] = step.spec.out.get(output, source)
        if step.outputs[output] != source or source not in writers:
            problems.add(
                ("steps", step.number, "out", output),
                f"step '{step.name}' writes the coarser scales of the volume that it reads, so "
                f"its input and output are one volume, written by a step of this pipeline; "
                f"it reads '{source}' and writes '{step.outputs[output]}'",
            )


def _check_names(
    step: WiredStep, side: str, given: list[str], known: list[str], problems: Problems
) -> None:
    what = {"in": "input", "out": "output"}[side]
    for name in given:
        if name not in known:
            listed = ", ".join(known) or "none"
            problems.add(
                ("steps", step.number, side, name),
                f"stage '{step.spec.use}' has no {what} '{name}'{closest(name, known)} "
                f"({what}s: {listed})",
            )


# --- order ---------------------------------------------------------------------------------------


def _ordered(
    steps: list[WiredStep], writers: dict[str, tuple[WiredStep, str]], problems: Problems
) -> list[WiredStep]:
    """Writers before readers; among those that are free to run, the order of the file."""
    by_number = {step.number: step for step in steps}
    sorter: graphlib.TopologicalSorter[int] = graphlib.TopologicalSorter()
    for step in steps:
        read = {writers[name][0].number for name in step.inputs.values() if name in writers}
        sorter.add(step.number, *sorted(read))
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        names = [by_number[number].name for number in reversed(error.args[1])]
        problems.add(
            ("steps", by_number[error.args[1][0]].number),
            f"steps wait for one another in a circle: {' -> '.join(names)}",
        )
        return steps
    ready, ordered = list(sorter.get_ready()), []
    heapq.heapify(ready)
    while ready:
        number = heapq.heappop(ready)
        ordered.append(by_number[number])
        sorter.done(number)
        for freed in sorter.get_ready():
            heapq.heappush(ready, freed)
    return ordered
