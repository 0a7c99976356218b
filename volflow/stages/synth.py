"""The `synth` stage: a synthetic electron micrograph with exact truth."""

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

    Reads no volumes, so the pipeline file has to give `bounds` and a resolution. Each voxel is a
    function of the seed, the bounds and its coordinates, so the result does not depend on the
    blocks; see `synth/neuropil.py` for the method.

    Outputs
    -------
    em : uint8, (Z, Y, X)
        The image.
    affinity : uint8, (3, Z, Y, X)
        `round(255 p)`, with errors; `affinity[c, z, y, x]` joins a voxel with the one before it
        along axis c.
    truth : uint64, (Z, Y, X)
        Labels of the neurites.
    mitochondria : uint64, (Z, Y, X), with `mitochondria`
        Labels of mitochondria; 0 is background.
    synapses : uint64, (Z, Y, X), with `synapses`
        Labels of synapses; 0 is background.
    synapse_sides : uint8, (Z, Y, X), with `synapses`
        1 cleft, 2 presynaptic side, 3 postsynaptic side; 0 is background.
    partners : table, with `synapses`
        The pre- and postsynaptic neurite and the position, in voxels, of each synapse.
    nuclei : uint64, (Z, Y, X), with `nucleus`
        Nuclei, with the labels of their neurites; 0 is background.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of all random numbers, 0 or more; another seed gives another volume."""
    cell: Annotated[int, Field(ge=8, le=64)] = 14
    """Mean width of a neurite in voxels, 8 to 64."""
    noise: Annotated[float, Field(ge=0)] = 14.0
    """Standard deviation of the image's noise in grey values."""
    doubt: Annotated[float, Field(ge=0)] = 1.0
    """Amplitude of the errors of the affinities (1 is a network of medium quality); at 0 they are
    only blurred."""

    mitochondria: bool = False
    """Whether to write labels of mitochondria; the image always shows mitochondria."""
    synapses: bool = False
    """Whether there are synapses: volumes `synapses` and `synapse_sides`, a table `partners`."""
    section_noise: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of the brightness of sections in grey values."""
    drift: Annotated[int, Field(ge=0, le=32)] = 0
    """Largest shift of sections of the image along y and x in voxels, up to 32."""
    missing: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Fraction of the sections, up to 0.5, whose image is black."""
    repeated: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Fraction of the sections, up to 0.5, whose image is that of the section before."""
    nucleus: Annotated[int, Field(ge=0)] = 0
    """Radius in voxels of the nuclei of cell bodies, at least `cell`; adds a volume `nuclei`. 0: no
    cell bodies."""
    every: Annotated[int, Field(ge=1, le=16)] = 1
    """Only one section in this many is kept, 1 to 16: the ratio of the voxel's side along z to that
    along y and x."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        labels = Layer(dtype="uint64", channels=0, kind="segmentation")
        layers: dict[str, Layer | Columns] = {
            "em": Layer(dtype="uint8", channels=0, kind="image"),
            "affinity": Layer(dtype="uint8", channels=3, kind="affinity"),
            "truth": labels,
        }
        if self.mitochondria:
            layers["mitochondria"] = labels
        if self.synapses:
            layers["synapses"] = labels
            layers["synapse_sides"] = Layer(dtype="uint8", channels=0, kind="segmentation")
            layers["partners"] = PARTNERS
        if self.nucleus:
            layers["nuclei"] = labels
        return layers

    def memory(self, shape: Triple) -> int:
        visible = [shape[0] * self.every, *(side + 2 * self.drift for side in shape[1:])]
        # Near the faces of the bounds, a block depends on two and a half cells beyond itself, and
        # on the surroundings of the synapses that extend into it.
        beyond = 5 * self.cell + 2 + (3 * self.cell if self.synapses else 0)
        wide = [side + beyond for side in visible]
        each = 40 if self.mitochondria else 36
        extra = 32 * (self.mitochondria + 2 * self.synapses + 2 * bool(self.nucleus))
        return each * int(np.prod(wide)) + (48 + extra) * int(np.prod(visible)) + (32 << 20)

    def check(self, grid: BlockGrid) -> list[str]:
        if 0 < self.nucleus < self.cell:
            return [f"nucleus: expected 0, or at least `cell`, {self.cell}; got {self.nucleus}"]
        depth, height, width = grid.bounds.shape
        side = max(2 * self.cell, self.nucleus and least_side(self.cell, self.nucleus))
        if min(depth * self.every, height, width) >= side:
            return []
        bodies = "cell bodies among " if self.nucleus else ""
        return [
            f"bounds: {bodies}neurites {self.cell} voxels wide need at least {side} voxels along "
            f"each axis; got {grid.bounds.shape}"
        ]

    def run(self, block: Block) -> dict[str, np.ndarray | Record]:  # type: ignore[override]  # no inputs
        parameters = self.model_dump(exclude={"mitochondria"})
        scene = Neuropil(block.bounds, **parameters).scene(block.write, self.mitochondria)
        truth, image, affinity = scene.rendered
        outputs: dict[str, np.ndarray | Record] = {
            "em": image,
            "affinity": affinity,
            "truth": truth,
        }
        if scene.mitochondria is not None:
            outputs["mitochondria"] = scene.mitochondria
        if scene.nuclei is not None:
            outputs["nuclei"] = scene.nuclei
        if scene.synapses is not None and scene.sides is not None and scene.table is not None:
            names, pre, post, centres = scene.table
            outputs["synapses"] = scene.synapses
            outputs["synapse_sides"] = scene.sides
            columns = (names.astype(np.uint64), pre, post, *np.ascontiguousarray(centres.T))
            dtypes = PARTNERS.dtypes
            outputs["partners"] = {
                name: column for (name, _), column in zip(dtypes, columns, strict=True)
            }
        return outputs
