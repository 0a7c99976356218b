"""The inputs of a plan: volumes and skeletons, bounds and resolution, and the mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from volflow.config.pipeline import Pipeline, VolumeSpec
from volflow.config.problems import Checked, Problem
from volflow.config.wiring import Wiring
from volflow.core.geometry import NO_GAPS, Box, Gaps, Resolution
from volflow.core.stage import Layer
from volflow.engine.job import Mask
from volflow.engine.phases.empty_volume import is_empty
from volflow.engine.phases.sources import SkeletonSource, TableFile
from volflow.engine.plan.checks import check_bounds, check_resolution
from volflow.engine.plan.declared_volume import DeclaredVolume
from volflow.engine.plan.foreign_inputs import is_complete, open_table, open_volume, volume_content
from volflow.engine.plan.mask import mask_content, mask_volume, mask_warnings, plan_mask
from volflow.engine.plan.unlabelled import unlabelled_warnings
from volflow.errors import StorageError
from volflow.io.skeletons.placed_nodes import Nodes
from volflow.io.skeletons.sets import SkeletonSet
from volflow.io.skeletons.units import misplaced, suspicious
from volflow.io.volume import Volume

MOST_VOXELS = 1 << 63  # ids are indices of voxels, in signed and unsigned 64 bits
MOST_READ = 1 << 28  # voxels of a volume in which a plan looks for one that is not 0: a second


@dataclass(frozen=True)
class PlanInputs:
    """Bounds and resolution of a run, the volumes that its steps read, and its mask.

    `contents` are the digests of the foreign volumes, skeletons and tables, `mask_content` is that
    of the mask and of the closed sections. `warnings` are assumptions about the inputs that the
    user should know.
    """

    bounds: Box
    resolution: Resolution
    volumes: Mapping[str, Volume | DeclaredVolume]
    contents: Mapping[str, str]
    mask: Mask | None
    mask_content: str
    skeletons: Mapping[str, SkeletonSource]
    tables: Mapping[str, TableFile]
    gaps: Gaps = NO_GAPS
    """The sections that the run closes."""
    warnings: tuple[str, ...] = ()


def open_inputs(
    pipeline: Pipeline, wiring: Wiring, offline: bool = False, whole: Box | None = None
) -> Checked[PlanInputs | None]:
    """Open the inputs of all steps; None if bounds or resolution are unknown.

    With `offline` nothing is opened: volumes are taken as declared. `whole` are the bounds of the
    run, if this is a trial of a part of it.
    """
    if offline and wiring.skeletons:
        names = ", ".join(wiring.skeletons)
        yield Problem((), f"skeletons have to be read, which an offline plan does not do: {names}")
        return None
    inputs = {name: None for step in wiring.steps for name in step.inputs.values()}
    others = (*wiring.writers, *wiring.skeletons, *wiring.tables)
    foreign = [name for name in inputs if name not in others]
    volumes: dict[str, Volume | DeclaredVolume] = {}
    for name in foreign:
        volume = yield from open_volume(pipeline, wiring, name, offline)
        if volume is not None:
            volumes[name] = volume
    coarse = yield from mask_volume(pipeline, wiring, offline)
    yield from _check_unused(pipeline, wiring)
    complete = len(volumes) == len(foreign)
    certain = complete and is_complete(pipeline, wiring)  # not a consequence of another problem
    bounds = yield from _bounds(pipeline, volumes if complete else {}, certain)
    resolution = yield from _resolution(pipeline, volumes, certain)
    if bounds is None or resolution is None:
        return None
    for name, volume in volumes.items():
        yield from check_bounds(pipeline, name, volume.bounds, bounds, volume.downsample)
        yield from check_resolution(
            name, volume.resolution, resolution, _does_without(wiring, name), volume.downsample
        )
    yield from _check_empty(wiring, volumes, whole or bounds)
    mask = yield from plan_mask(pipeline, coarse, bounds, resolution)
    gaps = yield from _gaps(pipeline, bounds)
    skeletons: dict[str, SkeletonSource] = {}
    for name in wiring.skeletons:
        source = yield from _skeletons(pipeline, wiring, name, bounds, resolution)
        if source is not None:
            skeletons[name] = source
    tables: dict[str, TableFile] = {}
    for name in wiring.tables:
        table = yield from open_table(pipeline, wiring, name)
        if table is not None:
            tables[name] = table
    contents = {name: volume_content(volume) for name, volume in volumes.items()}
    contents |= {name: source.content for name, source in (skeletons | tables).items()}
    return PlanInputs(
        bounds=bounds,
        resolution=resolution,
        volumes=volumes,
        contents=contents,
        mask=mask,
        mask_content=mask_content(mask, coarse, gaps),
        skeletons=skeletons,
        tables=tables,
        gaps=gaps,
        warnings=(
            *_warnings(volumes, pipeline.mask, coarse, mask, bounds),
            *unlabelled_warnings(wiring, volumes, bounds),
            *(f"volumes.{name}: {w}" for name, each in skeletons.items() for w in each.warnings),
            *(f"volumes.{name}: {w}" for name, each in tables.items() for w in each.warnings),
        ),
    )


def _gaps(pipeline: Pipeline, bounds: Box) -> Checked[Gaps]:
    """The sections that the run closes; they are within the bounds, and some section is left."""
    first, last = bounds.start[0], bounds.stop[0]
    outside = [n for n, z in enumerate(pipeline.closed_sections) if not first <= z < last]
    for number in outside:
        yield Problem(
            ("closed_sections", number),
            f"section {pipeline.closed_sections[number]} is outside the bounds, whose z goes from "
            f"{first} to {last - 1}",
        )
    gaps = Gaps(pipeline.closed_sections)
    if not outside and len(gaps.sections) == bounds.shape[0]:
        yield Problem(("closed_sections",), f"no section is left of {bounds.shape[0]}")
        return NO_GAPS
    return NO_GAPS if outside else gaps


def _warnings(
    volumes: Mapping[str, Volume | DeclaredVolume],
    mask: str | None,
    coarse: Volume | DeclaredVolume | None,
    planned: Mask | None,
    bounds: Box,
) -> tuple[str, ...]:
    """Assumptions of the readers of the inputs, each with the name of its volume."""
    named = dict(volumes)
    if mask is not None and coarse is not None:
        named[mask] = coarse
    sentences = [
        f"volumes.{name}: {warning}"
        for name, volume in named.items()
        for warning in volume.warnings
    ]
    if mask is not None and coarse is not None and planned is not None:
        sentences += mask_warnings(mask, coarse, planned, bounds)
    return tuple(sentences)


def _skeletons(
    pipeline: Pipeline, wiring: Wiring, name: str, bounds: Box, resolution: Resolution
) -> Checked[SkeletonSource | None]:
    """Read skeletons to check that they are complete and placed where the volume is."""
    reader = wiring.skeletons[name].name
    spec = pipeline.volumes.get(name)
    if name in wiring.writers or spec is None or not spec.path:
        text = f"step '{reader}' reads '{name}' as skeletons, so it needs a path under volumes"
        yield Problem(("volumes", name), text)
        return None
    plain = VolumeSpec(path=spec.path)  # a run stores its pipeline with the defaults
    for field in sorted(f for f in spec.model_fields_set if getattr(spec, f) != getattr(plain, f)):
        text = f"'{name}' are skeletons; their address determines how they are read, not '{field}'"
        yield Problem(("volumes", name, field), text)
    try:
        opened = SkeletonSet.open(spec.path)
        skeletons, content = opened.read_all()
    except (StorageError, ValueError, OSError) as error:
        yield Problem(("volumes", name, "path"), f"cannot be opened: {error}")
        return None
    nodes = Nodes(skeletons, bounds, resolution)
    text = misplaced(nodes, resolution)
    if text:
        yield Problem(("volumes", name, "path"), text)
    elif not opened.has_unit and (text := suspicious(nodes, resolution)):
        advice = "state the unit of the positions with unit_nm (1: nanometres)"
        yield Problem(("volumes", name, "path"), f"{text}; {advice}")
    return SkeletonSource(spec.path, content, bounds, resolution, len(nodes), opened.warnings)


def _bounds(
    pipeline: Pipeline, volumes: Mapping[str, Volume | DeclaredVolume], certain: bool
) -> Checked[Box | None]:
    """The given bounds, or those of the first volume; a lack of both is a problem if `certain`."""
    if pipeline.bounds is not None:
        bounds = Box.parse(pipeline.bounds)
    elif volumes:
        bounds = next(iter(volumes.values())).bounds
    else:
        if certain:
            yield Problem(
                (),
                "the bounds are unknown, as no step reads a volume; "
                "give bounds: z0:z1,y0:y1,x0:x1 in voxels",
            )
        return None
    if bounds.size >= MOST_VOXELS:
        yield Problem(("bounds",), f"{bounds} has {bounds.size} voxels; ids end at 2**63")
    return bounds


def _resolution(
    pipeline: Pipeline, volumes: Mapping[str, Volume | DeclaredVolume], certain: bool
) -> Checked[Resolution | None]:
    """The first resolution that is given or stored; a lack of any is a problem if `certain`."""
    candidates = [pipeline.resolution, *(volume.resolution for volume in volumes.values())]
    others = {name: spec for name, spec in pipeline.volumes.items() if name != pipeline.mask}
    # a mask may be coarser, and a volume that is downsampled has been opened
    candidates += [spec.resolution for spec in others.values() if spec.downsample is None]
    for resolution in candidates:
        if resolution is not None:
            z, y, x = resolution
            return (z, y, x)
    if certain:
        first = next(iter(volumes), "")
        text = "the resolution is unknown; give resolution: [z, y, x] in nanometres per voxel"
        warnings = volumes[first].warnings if first else ()
        text = "; ".join([text, *warnings])
        yield Problem(("volumes", first) if first else (), text)
    return None


def _does_without(wiring: Wiring, name: str) -> str:
    """The steps that read a volume as an optional input, if no step needs it; "" otherwise."""
    readers = [
        (step.name, step.stage.inputs().get(place, True))
        for step in wiring.steps
        for place, volume in step.inputs.items()
        if volume == name
    ]
    if any(required for _, required in readers):
        return ""
    return ", ".join(f"step '{reader}'" for reader in dict.fromkeys(r for r, _ in readers))


def _check_empty(
    wiring: Wiring, volumes: Mapping[str, Volume | DeclaredVolume], bounds: Box
) -> Iterator[Problem]:
    """Check that inputs in which something has to be are not 0 everywhere.

    Of a large volume only the first part is read; the step that reads it finds the rest empty.
    """
    for step in wiring.steps:
        for place, name in step.inputs.items():
            volume = volumes.get(name)
            wanted = step.stage.wants.get(place, Layer()).not_empty
            if not wanted or not isinstance(volume, Volume):
                continue
            try:
                empty = is_empty(volume, bounds, MOST_READ)
            except StorageError:
                continue  # the block that reads it will name the problem
            if empty:
                yield Problem(
                    ("volumes", name),
                    f"every voxel of {bounds} is 0; expected others, as step '{step.name}' reads "
                    f"it as its input '{place}'; check its path, its offset and the bounds",
                )


def _check_unused(pipeline: Pipeline, wiring: Wiring) -> Iterator[Problem]:
    """Check that no volume is named by an option alone: that is a typing error."""
    used = {name for step in wiring.steps for name in step.inputs.values()}
    used |= {*wiring.writers, pipeline.mask or ""}
    if not is_complete(pipeline, wiring):
        return
    for path in pipeline.where.options:
        name = str(path[1]) if path[0] == "volumes" else ""
        if name and name not in used and ("volumes", name) not in pipeline.where.lines:
            known = ", ".join(sorted(filter(None, used)))
            yield Problem(path, f"no step reads or writes '{name}' (known: {known})")
