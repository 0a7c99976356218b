"""The graph of a pipeline: stages built, inputs and outputs joined by name, steps in order."""

from __future__ import annotations

import graphlib
import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from volflow.config import stage_answers
from volflow.config.closing import close_sections
from volflow.config.overrides import default_step_name
from volflow.config.pipeline import Pipeline, StepSpec
from volflow.config.problems import Checked, Problem, closest, validation_problems
from volflow.config.spec import NAME_PATTERN
from volflow.config.stage_class import stage_class
from volflow.config.wired_step import WiredStep, Writers
from volflow.core.geometry import BlockGrid, Box
from volflow.core.stage import Columns, Layer, Stage, Units
from volflow.core.stage.faults import exits_raise, fault_text
from volflow.errors import PlanError

# Bounds for which a stage is asked which scales it writes, before the real bounds are known.
LARGE = Box((0, 0, 0), (1 << 14, 1 << 14, 1 << 14))


@dataclass
class Wiring:
    """All steps in the order in which they run, and the writer of each volume.

    `complete` is False where a step could not be built: volumes may be missing only because of it.
    """

    steps: list[WiredStep]
    writers: Writers
    complete: bool = True

    @property
    def skeletons(self) -> dict[str, WiredStep]:
        """The names that a step reads as skeletons, and that step."""
        return self._read_as("skeletons")

    @property
    def tables(self) -> dict[str, WiredStep]:
        """The names that a step reads as a table which no step writes, and that step."""
        read = self._read_as("table").items()
        return {name: step for name, step in read if name not in self.writers}

    def _read_as(self, kind: str) -> dict[str, WiredStep]:
        return {
            name: step
            for step in self.steps
            for place, name in step.inputs.items()
            if step.stage.wants.get(place, Layer()).kind == kind
        }

    def after(self, step: WiredStep) -> list[str]:
        """Names of the steps whose outputs this one reads, in order."""
        read = [self.writers[name][0].name for name in step.inputs.values() if name in self.writers]
        return list(dict.fromkeys(read))


def wire(pipeline: Pipeline) -> Checked[Wiring]:
    """Build the stages of a pipeline and join their inputs and outputs by name.

    A step that cannot be built is left out. Where there is one, missing inputs are not reported:
    the step may have written them.
    """
    steps = yield from _build(pipeline)
    writers = yield from _writers(steps)
    complete = len(steps) == len(pipeline.steps)
    for step in steps:
        yield from _check_names(step, pipeline)
        yield from _wire_inputs(step, writers, pipeline, complete)
        yield from _wire_coarser(step, writers, complete)
    if pipeline.closed_sections:
        yield from close_sections(steps, writers, pipeline)
    steps = yield from _in_order(steps, writers)
    return Wiring(steps, writers, complete)


# --- stages --------------------------------------------------------------------------------------


def _build(pipeline: Pipeline) -> Checked[list[WiredStep]]:
    """The steps whose stages can be built."""
    steps: list[WiredStep] = []
    numbers: dict[str, int] = {}
    for number, spec in enumerate(pipeline.steps):
        name = spec.name or default_step_name(spec.use)
        if name in numbers:
            yield Problem(
                ("steps", number, "name" if spec.name else "use"),
                f"step {numbers[name] + 1} is called '{name}' too; give one of them another name",
            )
            continue
        numbers[name] = number
        units = Units()
        stage = yield from _stage(number, spec, pipeline.where.folders, units)
        if stage is not None:
            block = spec.block or pipeline.block
            try:
                _, scales = stage_answers.declared(stage, BlockGrid(LARGE, block))
            except stage_answers.StageFault as error:
                yield Problem(("steps", number, "use"), f"step '{name}': {error}")
                continue
            coarser = bool(scales) and min(scales) > 0  # only coarser scales of what it reads
            steps.append(
                WiredStep(number, name, spec, stage, block, coarser, needs_voxel_size=units.depends)
            )
    return steps


def resolve_units(step: WiredStep, folders: Sequence[str], units: Units) -> Checked[bool]:
    """Give the parameters of a step that depend on the voxel size their values.

    Returns
    -------
    bool
        False if a value does not fit the bounds or the parameter, which is a problem.
    """
    if step.needs_voxel_size:
        stage = yield from _stage(step.number, step.spec, folders, units)
        if stage is None:
            return False
        step.stage, step.resolved = stage, tuple(units.resolved)
    return True


def _stage(
    number: int, spec: StepSpec, folders: Sequence[str], units: Units
) -> Checked[Stage | None]:
    """The stage of a step, None if it cannot be built."""
    try:
        kind = stage_class(spec.use, folders)
    except PlanError as error:
        yield Problem(("steps", number, "use"), str(error))
        return None
    try:
        with exits_raise():
            return kind.model_validate(spec.with_, context=units)
    except ValidationError as error:
        yield from validation_problems(error, spec.with_, kind, ("steps", number, "with"))
        return None
    except (PlanError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # of the user's own validators
        if kind.__module__.startswith("volflow."):
            raise
        yield Problem(
            ("steps", number, "with"), f"stage '{spec.use}': its parameters: {fault_text(error)}"
        )
        return None


# --- names ---------------------------------------------------------------------------------------


def _writers(steps: Sequence[WiredStep]) -> Checked[Writers]:
    """The writer of every volume and table; a second one is a problem."""
    writers: Writers = {}
    for step in steps:
        for output in step.stage.outputs:
            name = step.spec.out.get(output, output)
            step.outputs[output] = name
            if step.coarser:
                continue
            if not re.fullmatch(NAME_PATTERN, name):  # it becomes the name of a folder of the run
                yield Problem(
                    ("steps", step.number, "out"),
                    f"stage '{step.spec.use}' names its output {name!r}; expected a letter, then "
                    f"letters, digits, _ or -; name it under out",
                )
            if name in writers:
                other = writers[name][0]
                yield Problem(
                    ("steps", step.number, "out", output),
                    f"step '{step.name}' writes '{name}', which step '{other.name}' writes too",
                )
            else:
                writers[name] = (step, output)
    return writers


def _check_names(step: WiredStep, pipeline: Pipeline) -> Iterator[Problem]:
    """Check that the stage has the names under `in` and `out`, and that no volume is a table."""
    sides = {
        "in": ("input", list(step.spec.in_), list(step.stage.inputs())),
        "out": ("output", list(step.spec.out), list(step.stage.outputs)),
    }
    for side, (noun, names, known) in sides.items():
        for name in names:
            if name not in known:
                yield Problem(
                    ("steps", step.number, side, name),
                    f"stage '{step.spec.use}' has no {noun} '{name}'{closest(name, known)} "
                    f"({noun}s: {', '.join(known) or 'none'})",
                )
    for output, name in step.outputs.items():
        if isinstance(step.declared(output), Columns) and name in pipeline.volumes:
            yield Problem(
                ("volumes", name),
                f"step '{step.name}' writes a table of that name, which is not a volume",
            )


def _wire_inputs(
    step: WiredStep, writers: Writers, pipeline: Pipeline, complete: bool
) -> Iterator[Problem]:
    """Give each input its volume; missing ones are reported if all steps could be built."""
    known = sorted({*pipeline.volumes, *writers})
    for name, required in step.stage.inputs().items():
        volume = step.spec.in_.get(name, name)
        if volume in known:
            step.inputs[name] = volume
        elif not complete:
            step.incomplete = True
        elif required or name in step.spec.in_:
            yield Problem(
                ("steps", step.number, "in", name),
                f"step '{step.name}' reads '{volume}', which is not declared under volumes and "
                f"which no step writes{closest(volume, known)} (known: {', '.join(known)})",
            )


def _wire_coarser(step: WiredStep, writers: Writers, complete: bool) -> Iterator[Problem]:
    """Name the output of a step that writes coarser scales: the volume that it reads."""
    if not step.coarser or not step.inputs:
        return
    source = next(iter(step.inputs.values()))
    for output in step.outputs:
        step.outputs[output] = step.spec.out.get(output, source)
        unwritten = source not in writers and complete
        if step.outputs[output] != source or unwritten:
            yield Problem(
                ("steps", step.number, "out", output),
                f"step '{step.name}' writes the coarser scales of the volume that it reads, so "
                f"its input and output are one volume, written by a step of this pipeline; "
                f"it reads '{source}' and writes '{step.outputs[output]}'",
            )


# --- order ---------------------------------------------------------------------------------------


def _in_order(steps: list[WiredStep], writers: Writers) -> Checked[list[WiredStep]]:
    """Writers before readers, otherwise in the order of the file; a circle is a problem."""
    by_number = {step.number: step for step in steps}
    sorter: graphlib.TopologicalSorter[int] = graphlib.TopologicalSorter()
    for step in steps:
        read = {writers[name][0].number for name in step.inputs.values() if name in writers}
        sorter.add(step.number, *sorted(read))
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        names = [by_number[number].name for number in reversed(error.args[1])]
        yield Problem(
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
