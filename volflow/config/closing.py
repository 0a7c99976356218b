"""Closed sections: steps that work without them, and labels that get them back.

predict ... relabel    work on the volume without the closed sections
put_back_NAME          added here: writes the labels NAME of all sections
pyramid, score         read them, and work on all sections
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from volflow.config.pipeline import Pipeline, StepSpec
from volflow.config.problems import Problem
from volflow.config.stage_class import stage_class
from volflow.config.wired_step import WiredStep, Writers
from volflow.core.geometry import Gaps
from volflow.core.stage import Layer

USE = "volflow.stages.put_back:PutBack"
ADVICE = "bad_sections masks sections instead of closing them"


def close_sections(
    steps: list[WiredStep], writers: Writers, pipeline: Pipeline
) -> Iterator[Problem]:
    """Mark the steps that work without the closed sections, and add those that put them back.

    Labels are put back that a step on all sections reads, or no step at all. The step that makes
    them writes them under another name, `NAME_closed`, which the other closed steps read.
    """
    for step in steps:
        step.closed = not step.stage.on_all_sections
    for name in _labels_to_put_back(steps, writers):
        _put_back(name, steps, writers, pipeline)
    for step in steps:
        yield from _check_inputs(step, writers)


def _labels_to_put_back(steps: Sequence[WiredStep], writers: Writers) -> list[str]:
    names = []
    for name, (writer, output) in writers.items():
        declared = writer.declared(output)
        if not isinstance(declared, Layer) or declared.kind != "segmentation":
            continue
        readers = [step for step in steps if name in step.inputs.values()]
        wanted = not readers or any(not step.closed for step in readers)
        if wanted and writer.closed and not declared.blockwise:
            names.append(name)
    return names


def _put_back(name: str, steps: list[WiredStep], writers: Writers, pipeline: Pipeline) -> None:
    writer, output = writers[name]
    closed = f"{name}_closed"
    writer.outputs[output] = closed
    writers[closed] = (writer, output)
    for step in steps:
        for place, source in step.inputs.items():
            if step.closed and source == name:
                step.inputs[place] = closed
    spec = StepSpec(use=USE, name=f"put_back_{name}")
    sections = Gaps(pipeline.closed_sections).sections
    stage = stage_class(USE, ()).model_validate({"sections": sections})
    number = 1 + max(step.number for step in steps)
    added = WiredStep(number, f"put_back_{name}", spec, stage, writer.block)
    added.inputs["labels"], added.outputs["opened"] = closed, name
    writers[name] = (added, "opened")
    steps.append(added)


def _check_inputs(step: WiredStep, writers: Writers) -> Iterator[Problem]:
    """Check that a step reads either what all sections have, or what the closed ones lack."""
    if step.closed and step.stage.names_sections:
        yield Problem(
            ("steps", step.number, "with"),
            f"step '{step.name}' works without the closed sections, and its parameters name "
            f"sections by their z in the volume; {ADVICE}",
        )
    for place, name in step.inputs.items():
        path = ("steps", step.number, "in", place)
        if step.closed and step.stage.wants.get(place, Layer()).kind == "skeletons":
            yield Problem(
                path,
                f"step '{step.name}' works without the closed sections, and the skeletons '{name}' "
                f"have all sections; {ADVICE}",
            )
        writer = writers[name][0] if name in writers else None
        if writer is None or writer.closed == step.closed or writer.name == step.name:
            continue
        if step.spec.use == USE:
            continue
        on_all, without = (writer, step) if step.closed else (step, writer)
        yield Problem(
            path,
            f"step '{step.name}' reads '{name}' of step '{writer.name}': '{on_all.name}' works on "
            f"all sections, and '{without.name}' without the closed ones; {ADVICE}",
        )
