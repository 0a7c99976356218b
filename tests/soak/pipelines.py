"""The pipelines of the soak: small, each with two parameters and two block shapes to choose from.

python -m tests.soak.pipelines ADDRESS     writes the volumes that they read
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.core.stage import Layer
from volflow.io.volume import Volume

BOUNDS = Box((3, -2, 5), (23, 16, 27))
SMALLER = Box((3, -2, 5), (13, 16, 21))  # on S3, where each request takes milliseconds
RESOLUTION = (20.0, 8.0, 10.0)
SECONDS = 0.04  # that a toy block takes, so that a run can be met half way
Document = dict[str, Any]


class Variant(NamedTuple):
    """A choice of the parameter and of the block shape of a pipeline, 0 or 1 each."""

    parameter: int = 0
    block: int = 0


PLAIN = Variant()


class Recipe(NamedTuple):
    """A pipeline: its steps by the chosen parameter, its block shapes, and the volumes it reads."""

    steps: Callable[[int, str], list[Document]]
    blocks: tuple[Triple, Triple] = ((10, 9, 8), (7, 9, 11))
    inputs: tuple[str, ...] = ()
    layers: tuple[str, ...] = ("segmentation",)
    """Layers whose voxels do not depend on the blocks."""
    more: Document = {}  # noqa: RUF012  (never changed)


def _index(parameter: int, trace: str) -> Document:
    settings = {"trace": trace, "seconds": SECONDS, "plus": 1000 * parameter}
    return {"use": "tests.soak.stages:Index", "name": "index", "with": settings}


def _toy(name: str, **rest: Any) -> Document:
    return {"use": f"tests.engine.toys:{name}", "name": name.lower(), **rest}


def _toys(parameter: int, trace: str) -> list[Document]:
    """Maps with and without a halo, a reduction with two rounds, and a grouping."""
    names = ("Blur", "Total", "Digits")
    double = _toy("Double", **{"with": {"times": 2 + parameter}})
    return [_index(0, trace), double, *(_toy(name) for name in names)]


def _shared(parameter: int, trace: str) -> list[Document]:
    """A step that reads the layer which two runs write."""
    double = _toy("Double", **{"with": {"times": 2 + parameter}})
    again = {**_toy("Double", **{"in": {"index": "double"}, "out": {"double": "again"}})}
    return [_index(parameter, trace), double, {**again, "name": "again"}]


def _segment(parameter: int, *, more: Document | None = None) -> list[Document]:
    settings = {"threshold": (0.3, 0.6)[parameter], "min_size": 20, **(more or {})}
    return [{"use": "fragments"}, {"use": "agglomerate", "with": settings}, {"use": "relabel"}]


def _horizon(parameter: int, trace: str) -> list[Document]:
    return _segment(parameter, more={"horizon": [10, 18, 16]})


def _masked(parameter: int, trace: str) -> list[Document]:
    pyramid = {"use": "pyramid", "in": {"labels": "segmentation"}}
    return [*_segment(parameter), pyramid]


def _objects(parameter: int, trace: str, *, label: str = "segmentation") -> list[Document]:
    levels = {"core": (0.6, 0.7)[parameter], "contour": 0.9, "low": 0.3}
    return [
        {"use": "object_affinities", "with": {"contours": 1, **levels}},
        {"use": "fragments", "with": {"high": 255}},
        {"use": "objects", "with": {"min_size": 8}},
        {"use": "relabel", "out": {"segmentation": label}},
    ]


def _synapses(parameter: int, trace: str) -> list[Document]:
    settings = {"resolution": list(RESOLUTION), "reach_nm": (41.0, 60.0)[parameter]}
    clefts = _objects(0, trace, label="clefts")
    return [*clefts, {"use": "synapses", "with": settings}]


def _scores(parameter: int, trace: str) -> list[Document]:
    overlap = {"objects": [0.5], "border": 1.0}
    return [*_segment(parameter), {"use": "score", "with": overlap}]


FULL = ((10, 9, 11), (7, 18, 8))
RECIPES = {
    "toys": Recipe(_toys, layers=("index", "double", "blur")),
    "shared": Recipe(_shared, layers=("index", "double", "again")),
    "horizon": Recipe(_horizon, ((5, 9, 8), (10, 6, 16)), ("affinity",)),
    "mask": Recipe(_masked, FULL, ("affinity", "mask"), more={"mask": "mask", "bad_sections": [6]}),
    "objects": Recipe(_objects, FULL, ("probability",)),
    "synapses": Recipe(_synapses, FULL, ("probability", "segmentation"), ("clefts",)),
    "scores": Recipe(_scores, FULL, ("affinity", "truth")),
}
"""The pipelines by name; `shared` is for two runs that write one layer."""


def bounds_of(run: str) -> Box:
    """The part of the volumes that a run at an address covers."""
    return SMALLER if run.startswith("s3://") else BOUNDS


def document(
    name: str, run: str, inputs: str, variant: Variant, trace: str, **more: Any
) -> Document:
    """A pipeline file."""
    recipe = RECIPES[name]
    volumes = {each: {"path": f"zarr3://{inputs}/{each}.zarr"} for each in recipe.inputs}
    return {
        "run": run,
        "bounds": str(bounds_of(run)),
        "block": list(recipe.blocks[variant.block]),
        "resolution": list(RESOLUTION),
        "volumes": {**volumes, **more.pop("volumes", {})},
        "steps": recipe.steps(variant.parameter, trace),
        **recipe.more,
        **more,
    }


def index_names(name: str, run: str, variant: Variant) -> list[str]:
    """The names under which the blocks of `index` leave their traces, by number."""
    grid = BlockGrid(bounds_of(run), RECIPES[name].blocks[variant.block])
    return ["-".join(map(str, grid.index(number))) for number in range(len(grid))]


def voxels() -> dict[str, np.ndarray]:
    """The volumes that the pipelines read."""
    rng = np.random.default_rng(7)
    shape = BOUNDS.shape
    places = np.indices(shape).reshape(3, -1).T
    seeds = rng.random((14, 3)) * shape
    distance = ((places[:, None] - seeds) ** 2).sum(axis=2)
    truth = (1 + distance.argmin(axis=1)).reshape(shape).astype(np.uint64)
    affinity = np.zeros((3, *shape), np.uint8)
    for axis in range(3):
        same = np.roll(truth, 1, axis) == truth
        noisy = np.where(same, 190, 60) + rng.integers(-60, 61, shape)
        affinity[axis] = np.clip(noisy, 0, 255)
    mask = np.ones(shape, np.uint8)
    mask[12:, :6, 15:] = 0
    mask[rng.random(shape) < 0.05] = 0
    smooth = rng.random((3, *shape))
    for axis in (1, 2, 3):
        smooth = (smooth + np.roll(smooth, 1, axis)) / 2
    span = smooth.max() - smooth.min()
    probability = (255 * (smooth - smooth.min()) / span).astype(np.uint8)
    return {
        "truth": truth,
        "segmentation": truth,
        "affinity": affinity,
        "mask": mask,
        "probability": probability,
    }


def write_inputs(address: str) -> None:
    """Write the volumes that the pipelines read."""
    for name, array in voxels().items():
        kind = {"affinity": "affinity", "probability": "image"}.get(name, "segmentation")
        layer = Layer(array.dtype.name, array.shape[0] if array.ndim == 4 else 0, kind)
        spec = VolumeSpec(path=f"zarr3://{address}/{name}.zarr")
        volume, _ = Volume.create(spec, layer, BOUNDS, RESOLUTION, (16, 16, 16))
        volume.write(BOUNDS, array)


if __name__ == "__main__":
    write_inputs(sys.argv[1])
