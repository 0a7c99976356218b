"""The stage that moves borders of segments to where the image says that they lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, model_validator

from volflow.core.geometry import Block, Triple
from volflow.core.stage import Columns, Layer, Record, Stage
from volflow.predict.intensity import normalise
from volflow.segment.borders import moved_borders
from volflow.stages.intensity import check_image, ends

LOW, HIGH = 0.01, 0.99  # quantiles of the intensities between which an image's range lies


class Borders(Stage):
    """`segments` with voxels at borders given to the segment that they most belong with.

    A neighbour counts the log odds of the affinity between the two voxels, and how bright it is:
    membranes are dark. A voxel goes where two of its neighbours are. Only voxels at borders change,
    so no border moves farther than a voxel; segments keep their names, one of a few voxels may
    vanish, and single voxels may come to lie loose.
    """

    wants: ClassVar[dict[str, Layer]] = {
        "segments": Layer(kind="segmentation", channels=0, halo_region="faces"),
        "affinity": Layer("uint8", 3, "affinity", halo_region="after"),
        "em": Layer(channels=0, kind="image", halo_region="faces"),
    }

    brightness: Annotated[float, Field(ge=-1000, le=1000)] = 12.0
    """Log odds by which a neighbour at the bright end of the image's range counts more than one at
    its dark end; negative where membranes are bright."""
    range: tuple[float, float] | None = None
    """The ends of the image's range; default: quantiles 0.01 and 0.99, found by `intensity`."""

    @model_validator(mode="after")
    def _range_ascends(self) -> Borders:
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"range: its first number must be below its second; got {self.range}")
        return self

    @property
    def halo(self) -> Triple:
        return (1, 1, 1)

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"segmentation": Layer("uint64", 0, "segmentation")}

    def memory(self, shape: Triple) -> int:
        return 44 * int(np.prod(shape))  # ids thrice, affinities twice, image, brightness thrice

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        wrong, given = check_image(inputs.get("em")), inputs.get("segments")
        if given is not None and np.dtype(given.dtype).kind != "u":
            wrong.append(f"segments: expected ids as unsigned integers, and it is {given.dtype}")
        if self.range is None and "intensity" not in inputs:
            wrong.append(
                "range: brightness is told by quantiles of the volume; add `- use: intensity` "
                "before, or give range: [LOW, HIGH]"
            )
        return wrong

    def run(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        *,
        segments: np.ndarray,
        affinity: np.ndarray,
        em: np.ndarray,
        intensity: Record | None = None,
    ) -> dict[str, np.ndarray | Record]:
        given = self.range
        if given is None:
            assert intensity is not None  # `check_inputs` wants it
            given = ends(intensity, LOW, HIGH)
        low, high = given
        bright = normalise(em, low, high) * np.float32(self.brightness / 2)
        ids = segments.astype(np.uint64, copy=False)
        return {"segmentation": moved_borders(ids, affinity, bright)}
