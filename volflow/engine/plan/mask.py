"""The mask of a plan: a volume, perhaps a coarser one, and bad sections."""

from __future__ import annotations

from collections.abc import Iterator

from volflow.config.pipeline import Pipeline
from volflow.config.problems import Checked, Problem
from volflow.config.wiring import Wiring
from volflow.core.geometry import Box, Gaps, Resolution, Triple, zyx
from volflow.engine.job import Mask
from volflow.engine.plan.checks import same_resolution
from volflow.engine.plan.declared_volume import DeclaredVolume
from volflow.engine.plan.digest import digest
from volflow.engine.plan.foreign_inputs import open_volume, volume_content
from volflow.engine.plan.formatting import triple_text
from volflow.io.volume import Volume


def mask_volume(
    pipeline: Pipeline, wiring: Wiring, offline: bool
) -> Checked[Volume | DeclaredVolume | None]:
    """The volume that the pipeline names as its mask; None without one."""
    name = pipeline.mask
    if name is None:
        return None
    if name in wiring.writers:
        writer = wiring.writers[name][0].name
        yield Problem(("mask",), f"step '{writer}' writes '{name}'; the mask has to exist before")
    elif name not in pipeline.volumes:
        known = ", ".join(pipeline.volumes) or "none"
        yield Problem(("mask",), f"'{name}' is not declared under volumes (declared: {known})")
    elif pipeline.volumes[name].downsample is not None:
        yield Problem(
            ("volumes", name, "downsample"),
            f"only images are averaged, and '{name}' is the mask, which may have coarser voxels "
            f"than the run as it is; leave downsample out",
        )
    else:
        return (yield from open_volume(pipeline, wiring, name, offline))
    return None


def plan_mask(
    pipeline: Pipeline,
    coarse: Volume | DeclaredVolume | None,
    bounds: Box,
    resolution: Resolution,
) -> Checked[Mask | None]:
    """The mask of a run: `coarse`, the volume of the mask, and bad sections; None without both."""
    sections = tuple(sorted(set(pipeline.bad_sections)))
    for number, section in enumerate(pipeline.bad_sections):
        if not bounds.start[0] <= section < bounds.stop[0]:
            yield Problem(
                ("bad_sections", number),
                f"section {section} is outside the bounds, whose z goes from {bounds.start[0]} "
                f"to {bounds.stop[0] - 1}",
            )
    if coarse is None or pipeline.mask is None:
        return Mask(bad_sections=sections) if sections else None
    zoom = _zoom(coarse.resolution, resolution)
    if coarse.resolution is None and not coarse.bounds.covers(bounds):
        yield Problem(
            ("volumes", pipeline.mask),
            f"the mask has no voxel size and covers {coarse.bounds} of {bounds}; expected a "
            f"mask of all of it, or its voxel size: give volumes.{pipeline.mask}.resolution: "
            f"[z, y, x] in nanometres",
        )
    elif zoom is None:
        yield Problem(
            ("mask",),
            f"'{pipeline.mask}' has {triple_text(coarse.resolution or ())} nm, which is not a "
            f"whole multiple of the run's {triple_text(resolution)} nm",
        )
    elif not coarse.bounds.zoom_in(zoom).clip(bounds).size:
        yield Problem(
            ("mask",),
            f"'{pipeline.mask}' covers {coarse.bounds.zoom_in(zoom)}, no part of {bounds}",
        )
    zoom = zoom or zyx(1)
    spec = pipeline.volumes[pipeline.mask]
    return Mask(spec, zoom, sections, _rounded(coarse.bounds, zoom, bounds))


def _rounded(coarse: Box, zoom: Triple, bounds: Box) -> Triple:
    """Per axis, 1 where the mask ends less than one of its voxels before the bounds, else 0.

    Programs that halve a volume drop an odd last plane: it is masked as the one before it.
    """
    ends = zip(coarse.zoom_in(zoom).stop, bounds.stop, zoom, strict=True)
    return zyx([int(0 < stop - end < side) for end, stop, side in ends])


def mask_warnings(
    name: str, coarse: Volume | DeclaredVolume, mask: Mask, bounds: Box
) -> Iterator[str]:
    """Sentences about a mask without a voxel size, or one that ends within the bounds."""
    if coarse.resolution is None and coarse.format != "assumed":
        yield f"volumes.{name}: the mask has no voxel size; taken as that of the run"
    grown = Box(coarse.bounds.start, coarse.bounds.stop + mask.rounded)
    covered = grown.zoom_in(mask.zoom).clip(bounds)
    if coarse.bounds.size and not covered.covers(bounds):
        share = covered.size / bounds.size
        yield (
            f"volumes.{name}: the mask covers {covered}, {share:.1%} of the bounds {bounds}; "
            f"nothing is done in the rest"
        )
    elif any(mask.rounded):
        yield (
            f"volumes.{name}: the mask ends at {coarse.bounds.zoom_in(mask.zoom).stop}, less than "
            f"one of its voxels before the bounds; their last planes are masked as those before"
        )


def _zoom(coarse: Resolution | None, fine: Resolution) -> Triple | None:
    """Voxels of the run per voxel of the mask; None if they are not whole numbers."""
    if coarse is None:
        return zyx(1)
    zoom = zyx([max(1, round(c / f)) for c, f in zip(coarse, fine, strict=True)])
    exact = [f * n for f, n in zip(fine, zoom, strict=True)]
    return zoom if same_resolution(coarse, exact) else None


def mask_content(mask: Mask | None, coarse: Volume | DeclaredVolume | None, gaps: Gaps) -> str:
    """Digest of a mask and of closed sections; empty without both."""
    masked = _mask_content(mask, coarse)
    return digest("closed", masked, list(gaps.sections)) if gaps else masked


def _mask_content(mask: Mask | None, coarse: Volume | DeclaredVolume | None) -> str:
    if mask is None:
        return ""
    volume = ""
    if mask.spec is not None and coarse is not None:
        volume = volume_content(coarse)
    rounded = [list(mask.rounded)] if any(mask.rounded) else []
    return digest("mask", volume, list(mask.zoom), list(mask.bad_sections), *rounded)
