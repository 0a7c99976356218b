"""A step of a pipeline whose stage is built, with the names of its inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass, field

from volflow.config.pipeline import StepSpec
from volflow.core.geometry import Triple
from volflow.core.stage import Columns, Layer, Resolved, Stage


@dataclass
class WiredStep:
    """A step whose stage is built and whose inputs and outputs have names.

    `number` is its position in the file. `coarser` marks a step that writes only scales from 1 on,
    of a volume whose scale 0 another step writes. `incomplete` marks a step without an input that
    a step that could not be built may have written: nothing is known of that input.
    `needs_voxel_size` marks a step with parameters that depend on the voxel size; they have no
    values yet (`resolve_units`). `resolved` are those given in units, afterwards. `closed` marks a
    step that works without the sections which the run closes.
    """

    number: int
    name: str
    spec: StepSpec
    stage: Stage
    block: Triple
    coarser: bool = False
    incomplete: bool = False
    needs_voxel_size: bool = False
    closed: bool = False
    resolved: tuple[Resolved, ...] = ()
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)

    def declared(self, output: str) -> Layer | Columns:
        """The declaration of one of the stage's outputs."""
        return self.stage.outputs[output]


Writers = dict[str, tuple[WiredStep, str]]
"""By volume or table: the step that writes it (its scale 0), and the name of that output."""
