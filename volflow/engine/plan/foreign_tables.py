"""Tables that other programs wrote, as inputs of a plan."""

from __future__ import annotations

from volflow.config.pipeline import Pipeline, VolumeSpec
from volflow.config.problems import Checked, Problem
from volflow.config.wiring import Wiring
from volflow.core.stage import Columns
from volflow.engine.phases.sources import TableFile
from volflow.errors import StorageError
from volflow.io.tables.read import read_table


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
