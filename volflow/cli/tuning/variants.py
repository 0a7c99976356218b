"""The pipeline of `volflow tune`: a part of a run, agglomerated with several settings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from volflow.config.pipeline import Pipeline, from_dict
from volflow.config.stage_class import stage_class
from volflow.core.geometry import Box, Triple, zyx
from volflow.core.stage import Units
from volflow.core.stage.units import size_in_voxels
from volflow.errors import PlanError
from volflow.io.run.stored_pipeline import holds_run, stored_document

SHAPE = (64, 256, 256)  # voxels z y x of the part, unless another one is asked for
STEPS = (-0.2, -0.1, 0.0, 0.1, 0.2)  # from the run's threshold to those compared
LOWEST, HIGHEST = 0.05, 0.95
MOST = 24  # variants
PREFIX = "agglomerate_size"  # of the steps of a comparison


@dataclass(frozen=True)
class Variant:
    """One setting, and the name of its segmentation."""

    threshold: float
    min_size: int

    @property
    def layer(self) -> str:
        """The name of its segmentation."""
        return f"t{round(100 * self.threshold):02d}_size{self.min_size}"


@dataclass(frozen=True)
class Chain:
    """The steps of a run that make segments of affinities, as its pipeline has them."""

    fragments: dict[str, Any]
    agglomerate: dict[str, Any]
    relabel: dict[str, Any]

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The thresholds of the run."""
        given = self.agglomerate["with"]["threshold"]
        return tuple(given) if isinstance(given, list | tuple) else (float(given),)

    @property
    def min_size(self) -> int | str:
        """The smallest size of a segment in the run, voxels or units."""
        size: int | str = self.agglomerate["with"].get("min_size", 0)
        return size


@dataclass(frozen=True)
class SizeInVoxels:
    """The voxels of a size in a run, given in voxels or in units."""

    resolution: tuple[float, float, float]
    bounds: Box

    def __call__(self, size: int | str) -> int:
        """The voxels of a size.

        Raises
        ------
        PlanError
            If it has none, as an area in a volume of several planes.
        """
        try:
            return size_in_voxels(size, self.resolution, self.bounds.shape[0])
        except ValueError as error:
            raise PlanError(f"min_size: {error}; got {size!r}") from error


def chain_of(run: str, document: dict[str, Any]) -> Chain:
    """The steps `fragments`, `agglomerate` and `relabel` of a run.

    Raises
    ------
    PlanError
        If it does not have one of each.
    """
    chosen = []
    for use in ("fragments", "agglomerate", "relabel"):
        steps = [step for step in document["steps"] if step["use"] == use]
        if len(steps) != 1:
            raise PlanError(f"{run}: expected one step '{use}' to compare, got {len(steps)}")
        chosen.append(steps[0])
    return Chain(*chosen)


def compared(
    chain: Chain, thresholds: Sequence[float], min_sizes: Sequence[int | str], voxels: SizeInVoxels
) -> tuple[Variant, ...]:
    """The variants: all pairs, by default around the settings of the run.

    Raises
    ------
    PlanError
        If there are too many.
    """
    if not thresholds:
        near = {round(chain.thresholds[0] + step, 2) for step in STEPS}
        thresholds = sorted(t for t in near if LOWEST <= t <= HIGHEST)
    sizes = {voxels(size) for size in min_sizes}
    if not sizes:
        sizes = {voxels(chain.min_size), voxels(chain.min_size) // 10}
    variants = tuple(Variant(t, size) for size in sorted(sizes) for t in thresholds)
    if len(variants) > MOST:
        raise PlanError(f"expected at most {MOST} pairs of threshold and size, got {len(variants)}")
    return variants


def require_free(out: str) -> None:
    """Check that a folder holds no run but an earlier comparison.

    Raises
    ------
    PlanError
        If it holds another run.
    """
    if holds_run(out):
        steps = stored_document(out)["steps"]
        if not any(str(step.get("name", "")).startswith(PREFIX) for step in steps):
            raise PlanError(f"--out {out}: holds another run; give a folder of its own")


def part(bounds: Box, at: Triple | None, shape: Triple | None) -> Box:
    """The box to compare, around a voxel, within the bounds of the run.

    Raises
    ------
    PlanError
        If the voxel is outside.
    """
    middle = bounds.start + bounds.shape // 2 if at is None else zyx(at)
    if not all(a <= m < b for a, m, b in zip(bounds.start, middle, bounds.stop, strict=True)):
        raise PlanError(f"--at: expected a voxel in {bounds}, got {','.join(map(str, middle))}")
    sides = zyx(shape or SHAPE).minimum(bounds.shape)
    start = (middle - sides // 2).maximum(bounds.start).minimum(bounds.stop - sides)
    return Box(start, start + sides)


def variants_pipeline(
    run: str,
    document: dict[str, Any],
    stored: Collection[str],
    box: Box,
    variants: Sequence[Variant],
    out: str,
) -> Pipeline:
    """The pipeline that segments a part of a run with each of the settings.

    Affinities are those that the run has stored, so no network runs. Fragments are made again, so
    near the faces of the part they differ from those of the run.

    Parameters
    ----------
    run : str
        Address of the run.
    document : dict
        Its pipeline.
    stored : collection of str
        Names of the volumes of the run.
    box : Box
    variants : sequence of Variant
    out : str
        Address of the new run.
    """
    chain = chain_of(run, document)
    steps = [chain.fragments]
    relabel = chain.relabel
    table = relabel.get("in", {}).get("table", "table")
    for size in sorted({variant.min_size for variant in variants}):
        some = [variant for variant in variants if variant.min_size == size]
        thresholds = [variant.threshold for variant in some]
        settings = {**chain.agglomerate["with"], "threshold": thresholds, "min_size": size}
        own = f"{table}_size{size}"
        names = {"name": f"{PREFIX}{size}", "with": settings, "out": {"table": own}}
        steps.append({**chain.agglomerate, **names})
        for variant in some:
            settings = {**relabel.get("with", {}), "threshold": variant.threshold}
            inputs = {**relabel.get("in", {}), "table": own}
            names = {"name": f"relabel_{variant.layer}", "with": settings, "in": inputs}
            steps.append({**relabel, **names, "out": {"segmentation": variant.layer}})
    common = {
        key: document[key]
        for key in ("resolution", "block", "mask", "bad_sections", "closed_sections")
        if document.get(key) is not None
    }
    return from_dict(
        {
            **common,
            "run": out,
            "bounds": str(box),
            "volumes": _volumes(run, document, steps, stored),
            "steps": steps,
        }
    )


def _volumes(
    run: str, document: dict[str, Any], steps: Sequence[dict[str, Any]], stored: Collection[str]
) -> dict[str, dict[str, Any]]:
    """The volumes that the steps read and do not write: foreign ones, and those of the run."""
    read: list[str] = [document["mask"]] if document.get("mask") else []
    written: set[str] = set()
    for step in steps:
        stage = stage_class(step["use"], ()).model_validate(step.get("with", {}), context=Units())
        for name, required in stage.inputs().items():
            source = step.get("in", {}).get(name, name)
            if name in stage.wants and (required or source in stored):
                read.append(source)
        written |= {step.get("out", {}).get(name, name) for name in stage.outputs}
    declared = document.get("volumes", {})
    return {
        name: {**declared.get(name, {}), "path": _path(run, declared.get(name, {}), name)}
        for name in dict.fromkeys(read)
        if name not in written
    }


def _path(run: str, declared: dict[str, Any], name: str) -> str:
    return str(declared.get("path") or f"precomputed://{run}/{name}")
