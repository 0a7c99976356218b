"""The `synth` stage: an electron micrograph that nobody took, and its exact truth."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, BlockGrid, Triple
from volflow.core.stage import Columns, Layer, Record, Stage
from volflow.synth import Neuropil, least_side

PARTNERS = Columns(
    (
        ("synapse", "uint64"),
        ("pre", "uint64"),
        ("post", "uint64"),
        ("z", "float64"),
        ("y", "float64"),
        ("x", "float64"),
    )
)


class Synth(Stage):
    """Synthetic neuropil over the pipeline's bounds: image, affinities, truth.

    It reads nothing, so the pipeline file says `bounds` and a resolution.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    cell: Annotated[int, Field(ge=8, le=64)] = 14
    """Mean width of a neurite, voxels."""
    noise: Annotated[float, Field(ge=0)] = 14.0
    """Standard deviation of the image's noise, grey values."""
    doubt: Annotated[float, Field(ge=0)] = 1.0
    """How wrong the affinities are; at 0 they are only blurred."""

    mitochondria: bool = False
    """Whether they are written as a layer of their own; the image always shows them."""
    synapses: bool = False
    """Whether there are synapses: layers `synapses` and `synapse_sides`, a table `partners`."""
    section_noise: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of the sections' brightness, grey values."""
    drift: Annotated[int, Field(ge=0, le=32)] = 0
    """How far sections of the image may be shifted along y and x, voxels."""
    missing: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of sections whose image is black."""
    repeated: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of sections whose image is that of the section before."""
    nucleus: Annotated[int, Field(ge=0)] = 0
    """Radius of the nuclei of cell bodies, voxels, `cell` or more; layer `nuclei`. 0: no bodies."""
    every: Annotated[int, Field(ge=1, le=16)] = 1
    """One section in how many is kept: how much longer voxels are along z than along y and x."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        labels = Layer(dtype="uint64", channels=0, kind="segmentation")
        found: dict[str, Layer | Columns] = {
            "em": Layer(dtype="uint8", channels=0, kind="image"),
            "affinity": Layer(dtype="uint8", channels=3, kind="affinity"),
            "truth": labels,
        }
        if self.mitochondria:
            found["mitochondria"] = labels
        if self.synapses:
            found["synapses"] = labels
            found["synapse_sides"] = Layer(dtype="uint8", channels=0, kind="segmentation")
            found["partners"] = PARTNERS
        if self.nucleus:
            found["nuclei"] = labels
        return found

    def memory(self, shape: Triple) -> int:
        shown = [shape[0] * self.every, *(side + 2 * self.drift for side in shape[1:])]
        # near the faces of the bounds a block looks two and a half cells beyond itself, and
        # further by the clouds of the synapses that reach into it
        beyond = 5 * self.cell + 2 + (3 * self.cell if self.synapses else 0)
        wide = [side + beyond for side in shown]
        each = 40 if self.mitochondria else 36
        extra = 32 * (self.mitochondria + 2 * self.synapses + 2 * bool(self.nucleus))
        return each * int(np.prod(wide)) + (48 + extra) * int(np.prod(shown)) + (32 << 20)

    def check(self, grid: BlockGrid) -> list[str]:
        if 0 < self.nucleus < self.cell:
            return [f"nucleus is 0, or at least the {self.cell} of cell; got {self.nucleus}"]
        depth, height, width = grid.bounds.shape
        side = max(2 * self.cell, self.nucleus and least_side(self.cell, self.nucleus))
        if min(depth * self.every, height, width) >= side:
            return []
        what = "cell bodies among " if self.nucleus else ""
        return [
            f"{what}neurites {self.cell} voxels wide need bounds of {side} voxels along each "
            f"axis; got {grid.bounds.shape}"
        ]

    def run(self, block: Block) -> dict[str, np.ndarray | Record]:  # type: ignore[override]  # no inputs
        shown = self.model_dump(exclude={"mitochondria"})
        scene = Neuropil(block.bounds, **shown).scene(block.write, self.mitochondria)
        truth, image, affinity = scene.rendered
        found: dict[str, np.ndarray | Record] = {"em": image, "affinity": affinity, "truth": truth}
        if scene.mitochondria is not None:
            found["mitochondria"] = scene.mitochondria
        if scene.nuclei is not None:
            found["nuclei"] = scene.nuclei
        if scene.synapses is not None and scene.sides is not None and scene.table is not None:
            names, pre, post, centres = scene.table
            found["synapses"] = scene.synapses
            found["synapse_sides"] = scene.sides
            columns = (names.astype(np.uint64), pre, post, *np.ascontiguousarray(centres.T))
            dtypes = PARTNERS.dtypes
            found["partners"] = {
                name: column for (name, _), column in zip(dtypes, columns, strict=True)
            }
        return found
