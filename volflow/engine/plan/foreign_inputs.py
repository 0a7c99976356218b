"""Volumes and tables that other programs or runs wrote: opened, or taken as declared."""

from __future__ import annotations

from volflow.config.pipeline import Pipeline, VolumeSpec
from volflow.config.problems import Checked, Problem
from volflow.config.wiring import Wiring
from volflow.core.stage import Columns
from volflow.engine.phases.sources import TableFile
from volflow.engine.plan.declared_volume import DeclaredVolume, declared_volume
from volflow.engine.plan.digest import foreign_content
from volflow.errors import StorageError
from volflow.io.address import CHUNKED, SKELETONS, Address
from volflow.io.inputs import open_input
from volflow.io.run.owners import owner
from volflow.io.tables.read import read_table
from volflow.io.volume import Volume


def open_volume(
    pipeline: Pipeline, wiring: Wiring, name: str, offline: bool
) -> Checked[Volume | DeclaredVolume | None]:
    """Open a volume, or take it as declared if `offline`; None if that fails."""
    if offline:
        return (yield from declared_volume(pipeline, wiring, name))
    spec = pipeline.volumes[name]
    if not spec.path:
        if is_complete(pipeline, wiring):
            yield Problem(("volumes", name), f"no step writes '{name}', so it needs a path")
        return None
    try:
        if Address.parse(spec.path).format_name in SKELETONS:
            text = f"'{name}' is read as a volume, and these are skeletons: {spec.path}"
            yield Problem(("volumes", name, "path"), text)
            return None
        return open_input(spec)
    except (StorageError, ValueError, OSError) as error:
        yield Problem(("volumes", name, "path"), f"cannot be opened: {error}")
        return None


def is_complete(pipeline: Pipeline, wiring: Wiring) -> bool:
    """Whether every stage was built and has its inputs; else missing volumes follow from that."""
    return wiring.complete and not any(
        required and name not in step.inputs
        for step in wiring.steps
        for name, required in step.stage.inputs().items()
    )


def volume_content(volume: Volume | DeclaredVolume) -> str:
    """Digest of a foreign volume; if another run wrote it, the digest of its writer counts."""
    chunked = volume.format in CHUNKED
    made_by = owner(volume.address, volume.spec.level) if chunked else None
    return foreign_content({**volume.identity(), "made_by": made_by})


def open_table(pipeline: Pipeline, wiring: Wiring, name: str) -> Checked[TableFile | None]:
    """Read a table to check it; None if that fails."""
    reader = wiring.tables[name].name
    spec = pipeline.volumes.get(name, VolumeSpec())
    if not spec.path:
        text = f"step '{reader}' reads '{name}' as a table, so it needs a path under volumes"
        yield Problem(("volumes", name), text)
        return None
    plain = VolumeSpec(path=spec.path)  # a run stores its pipeline with the defaults
    for field in sorted(f for f in spec.model_fields_set if getattr(spec, f) != getattr(plain, f)):
        text = f"'{name}' is a table; its address determines how it is read, not '{field}'"
        yield Problem(("volumes", name, field), text)
    try:
        table = read_table(spec.path)
    except (StorageError, ValueError, OSError) as error:
        yield Problem(("volumes", name, "path"), f"cannot be read: {error}")
        return None
    dtypes = tuple((column, values.dtype.name) for column, values in table.columns.items())
    return TableFile(spec.path, table.content, Columns(dtypes), table.warnings)
