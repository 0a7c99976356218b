"""The `borders` stage: segment borders refined by affinities and image brightness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, model_validator

from volflow.core.geometry import Block, Triple
from volflow.core.stage import Columns, Layer, Record, Stage
from volflow.predict.intensity import check_image, intensities_at, normalise
from volflow.segment.borders import moved_borders

LOW, HIGH = 0.01, 0.99  # quantiles of the intensities that are the ends of an image's range


class Borders(Stage):
    """`segments` with each border voxel reassigned to its best neighbour's segment.

    The weight of a face neighbour is the log odds of the affinity to it plus its brightness, as
    membranes are dark. A voxel moves to the segment of the neighbour with the largest weight if a
    second neighbour belongs to it, too. Only voxels at borders change, so borders move by at most
    one voxel. Segments keep their ids; segments of a few voxels may vanish, and single voxels may
    become detached.

    Inputs
    ------
    segments : unsigned integers, (Z, Y, X)
        Segment ids; 0 is background.
    affinity : uint8, (3, Z, Y, X)
        `round(255 p)`; `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.
    em : uint8 or uint16, (Z, Y, X)
        The image.
    intensity : table, optional
        Quantiles of the image, from the stage `intensity`; needed unless `range` is given.

    Outputs
    -------
    segmentation : uint64, (Z, Y, X)
        The refined segments.
    """

    wants: ClassVar[dict[str, Layer]] = {
        "segments": Layer(kind="segmentation", channels=0, halo_region="faces"),
        "affinity": Layer("uint8", 3, "affinity", halo_region="after"),
        "em": Layer(channels=0, kind="image", halo_region="faces"),
    }

    brightness: Annotated[float, Field(ge=-1000, le=1000)] = 12.0
    """Weight of the brightness, -1000 to 1000: the difference in log odds between a neighbour at
    the bright end of the image's range and one at its dark end. Negative if membranes are
    bright."""
    range: tuple[float, float] | None = None
    """The intensities [LOW, HIGH] at the dark and the bright end of the image's range; default:
    the quantiles 0.01 and 0.99, from the stage `intensity`."""

    @model_validator(mode="after")
    def _range_ascends(self) -> Borders:
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"range: expected [LOW, HIGH] with LOW below HIGH; got {self.range}")
        return self

    @property
    def halo(self) -> Triple:
        return (1, 1, 1)

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"segmentation": Layer("uint64", 0, "segmentation")}

    def memory(self, shape: Triple) -> int:
        return 44 * int(np.prod(shape))  # ids 3 times, affinities twice, image, brightness 3 times

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        problems, segments = check_image(inputs.get("em")), inputs.get("segments")
        if segments is not None and np.dtype(segments.dtype).kind != "u":
            problems.append(f"segments: expected unsigned integers; got {segments.dtype}")
        if self.range is None and "intensity" not in inputs:
            problems.append(
                "range: the brightness needs quantiles of the volume; add `- use: intensity` "
                "before this step, or give range: [LOW, HIGH]"
            )
        return problems

    def run(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        *,
        segments: np.ndarray,
        affinity: np.ndarray,
        em: np.ndarray,
        intensity: Record | None = None,
    ) -> dict[str, np.ndarray | Record]:
        ends = self.range
        if ends is None:
            assert intensity is not None  # see `check_inputs`
            ends = intensities_at(intensity, LOW, HIGH)
        low, high = ends
        bright = normalise(em, low, high) * np.float32(self.brightness / 2)
        ids = segments.astype(np.uint64, copy=False)
        return {"segmentation": moved_borders(ids, affinity, bright)}
