"""What a run stands on: the volumes it reads, its bounds and resolution, and its mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from volflow.config.pipeline import Pipeline, VolumeSpec
from volflow.config.problems import Problems
from volflow.config.wiring import Wiring
from volflow.core.geometry import Box, Triple, zyx
from volflow.engine.job import Mask, Resolution
from volflow.engine.phases.sources import SkeletonSource
from volflow.engine.plan.checks import MOST_VOXELS, check_bounds, check_resolution, listed, same
from volflow.engine.plan.declared_volume import DeclaredVolume, declared_volume
from volflow.engine.plan.digest import digest, foreign_content
from volflow.errors import StorageError
from volflow.io.address import CHUNKED, SKELETONS, Address
from volflow.io.run.ledger import owner
from volflow.io.skeletons.placed_nodes import Nodes
from volflow.io.skeletons.sets import SkeletonSet
from volflow.io.skeletons.units import misplaced
from volflow.io.volume import Volume


@dataclass(frozen=True)
class PlanInputs:
    """Bounds and resolution of a run, the foreign volumes its steps read, and where it works.

    `contents` are the digests of the foreign volumes and skeletons, `mask_content` that of the
    mask.
    """

    bounds: Box
    resolution: Resolution
    volumes: Mapping[str, Volume | DeclaredVolume]
    contents: Mapping[str, str]
    mask: Mask | None
    mask_content: str
    skeletons: Mapping[str, SkeletonSource]


def open_inputs(
    pipeline: Pipeline, wiring: Wiring, problems: Problems, offline: bool = False
) -> PlanInputs | None:
    """Open what the steps read and find the bounds; None if they cannot be known.

    `offline`, nothing is opened: volumes are taken as they are declared.
    """
    if offline and wiring.skeletons:
        listed_names = ", ".join(wiring.skeletons)
        problems.add((), f"skeletons have to be read, which is not done offline: {listed_names}")
        return None
    read = {name: None for step in wiring.steps for name in step.inputs.values()}
    names = [n for n in read if n not in wiring.writers and n not in wiring.skeletons]
    volumes: dict[str, Volume | DeclaredVolume | None] = {
        name: declared_volume(pipeline, wiring, name, problems)
        if offline
        else _opened(pipeline, name, problems)
        for name in names
    }
    found = {name: volume for name, volume in volumes.items() if volume is not None}
    coarse = _mask_volume(pipeline, wiring, problems, offline)
    _check_unused(pipeline, wiring, problems)
    complete = len(found) == len(volumes)
    bounds = _bounds(pipeline, found, problems, complete)
    resolution = _resolution(pipeline, found, problems, complete)
    if bounds is None or resolution is None:
        return None
    for name, volume in found.items():
        check_bounds(name, volume.bounds, bounds, problems)
        check_resolution(name, volume.resolution, resolution, problems)
    mask = _mask(pipeline, coarse, bounds, resolution, problems)
    placed = {
        name: _placed(pipeline, wiring, name, bounds, resolution, problems)
        for name in wiring.skeletons
    }
    skeletons = {name: source for name, source in placed.items() if source is not None}
    contents = {name: _content(volume) for name, volume in found.items()}
    contents |= {name: source.content for name, source in skeletons.items()}
    return PlanInputs(
        bounds,
        resolution,
        found,
        contents,
        mask,
        _mask_content(pipeline, mask, coarse),
        skeletons,
    )


def _opened(pipeline: Pipeline, name: str, problems: Problems) -> Volume | None:
    spec = pipeline.volumes[name]
    if not spec.path:
        problems.add(("volumes", name), f"no step writes '{name}', so it needs a path")
        return None
    try:
        if Address.parse(spec.path).format in SKELETONS:
            text = f"'{name}' is read as a volume, and these are skeletons: {spec.path}"
            problems.add(("volumes", name, "path"), text)
            return None
        volume = Volume.open(spec)
        volume.verify()
        return volume
    except (StorageError, ValueError, OSError) as error:
        problems.add(("volumes", name, "path"), f"cannot be opened: {error}")
        return None


def _placed(
    pipeline: Pipeline,
    wiring: Wiring,
    name: str,
    bounds: Box,
    resolution: Resolution,
    problems: Problems,
) -> SkeletonSource | None:
    """Skeletons, read to see that they are whole and lie where the volume is."""
    reader = wiring.skeletons[name].name
    spec = pipeline.volumes.get(name)
    if name in wiring.writers or spec is None or not spec.path:
        text = f"step '{reader}' reads '{name}' as skeletons, so it needs a path under volumes"
        problems.add(("volumes", name), text)
        return None
    plain = VolumeSpec(path=spec.path)  # as a run keeps its pipeline, defaults are written out
    for field in sorted(f for f in spec.model_fields_set if getattr(spec, f) != getattr(plain, f)):
        text = f"'{name}' are skeletons; their address says how they are read, not '{field}'"
        problems.add(("volumes", name, field), text)
    try:
        skeletons, content = SkeletonSet.open(spec.path).read_all()
    except (StorageError, ValueError, OSError) as error:
        problems.add(("volumes", name, "path"), f"cannot be opened: {error}")
        return None
    nodes = Nodes(skeletons, bounds, resolution)
    text = misplaced(nodes, resolution)
    if text:
        problems.add(("volumes", name, "path"), text)
    return SkeletonSource(spec.path, content, bounds, resolution, len(nodes))


def _content(volume: Volume | DeclaredVolume) -> str:
    """Digest of a foreign volume; of one that another run wrote, whose voxels it holds, too."""
    chunked = volume.format in CHUNKED
    made_by = owner(volume.address, volume.spec.level) if chunked else None
    return foreign_content({**volume.identity(), "made_by": made_by})


def _bounds(
    pipeline: Pipeline,
    volumes: Mapping[str, Volume | DeclaredVolume],
    problems: Problems,
    complete: bool,
) -> Box | None:
    if pipeline.bounds is not None:
        bounds = Box.parse(pipeline.bounds)
    elif volumes and complete:
        bounds = next(iter(volumes.values())).bounds
    else:
        if complete:
            problems.add(
                (),
                "no step reads a volume that would tell the bounds; give bounds: "
                "z0:z1,y0:y1,x0:x1 in voxels",
            )
        return None
    if bounds.size >= MOST_VOXELS:
        problems.add(("bounds",), f"{bounds} holds {bounds.size} voxels; ids end at 2**63")
    return bounds


def _resolution(
    pipeline: Pipeline,
    volumes: Mapping[str, Volume | DeclaredVolume],
    problems: Problems,
    complete: bool,
) -> Resolution | None:
    given = [pipeline.resolution, *(volume.resolution for volume in volumes.values())]
    given += [spec.resolution for spec in pipeline.volumes.values()]
    for resolution in given:
        if resolution is not None:
            z, y, x = resolution
            return (z, y, x)
    if complete:
        first = next(iter(volumes), "")
        text = "nothing tells the resolution; give resolution: [z, y, x] in nanometres per voxel"
        problems.add(("volumes", first) if first else (), text)
    return None


# --- mask ----------------------------------------------------------------------------------------


def _mask_volume(
    pipeline: Pipeline, wiring: Wiring, problems: Problems, offline: bool
) -> Volume | DeclaredVolume | None:
    name = pipeline.mask
    if name is None:
        return None
    if name in wiring.writers:
        writer = wiring.writers[name][0].name
        problems.add(("mask",), f"step '{writer}' writes '{name}'; the mask has to be there before")
    elif name not in pipeline.volumes:
        known = ", ".join(pipeline.volumes) or "none"
        problems.add(("mask",), f"'{name}' is not declared under volumes (declared: {known})")
    elif offline:
        return declared_volume(pipeline, wiring, name, problems)
    else:
        return _opened(pipeline, name, problems)
    return None


def _mask(
    pipeline: Pipeline,
    coarse: Volume | DeclaredVolume | None,
    bounds: Box,
    resolution: Resolution,
    problems: Problems,
) -> Mask | None:
    sections = tuple(sorted(set(pipeline.bad_sections)))
    for number, section in enumerate(pipeline.bad_sections):
        if not bounds.start[0] <= section < bounds.stop[0]:
            problems.add(
                ("bad_sections", number),
                f"section {section} is outside the bounds, whose z goes from {bounds.start[0]} "
                f"to {bounds.stop[0] - 1}",
            )
    if coarse is None or pipeline.mask is None:
        return Mask(bad_sections=sections) if sections else None
    zoom = _zoom(coarse.resolution, resolution)
    if zoom is None:
        problems.add(
            ("mask",),
            f"'{pipeline.mask}' has {listed(coarse.resolution or ())} nm, which is no whole "
            f"multiple of the run's {listed(resolution)} nm",
        )
    elif not coarse.bounds.zoom_in(zoom).clip(bounds).size:
        problems.add(
            ("mask",),
            f"'{pipeline.mask}' covers {coarse.bounds.zoom_in(zoom)}, nothing of {bounds}",
        )
    return Mask(pipeline.volumes[pipeline.mask], zoom or (1, 1, 1), sections)


def _zoom(coarse: Resolution | None, fine: Resolution) -> Triple | None:
    """How many voxels of the run make one of the mask; None if that is not whole."""
    if coarse is None:
        return (1, 1, 1)
    zoom = zyx([max(1, round(c / f)) for c, f in zip(coarse, fine, strict=True)])
    return zoom if same(coarse, [f * n for f, n in zip(fine, zoom, strict=True)]) else None


def _mask_content(
    pipeline: Pipeline, mask: Mask | None, coarse: Volume | DeclaredVolume | None
) -> str:
    if mask is None:
        return ""
    volume = ""
    if mask.spec is not None and coarse is not None:
        volume = _content(coarse)
    return digest("mask", volume, list(mask.zoom), list(mask.bad_sections))


def _check_unused(pipeline: Pipeline, wiring: Wiring, problems: Problems) -> None:
    """A volume that only an option names, and no step, is a slip of the hand."""
    used = {name for step in wiring.steps for name in step.inputs.values()}
    used |= {*wiring.writers, pipeline.mask or ""}
    if len(wiring.steps) < len(pipeline.steps):
        return
    for path in problems.where.options:
        name = str(path[1]) if path[0] == "volumes" else ""
        if name and name not in used and ("volumes", name) not in problems.where.lines:
            known = ", ".join(sorted(filter(None, used)))
            problems.add(path, f"no step reads or writes '{name}' (known: {known})")
