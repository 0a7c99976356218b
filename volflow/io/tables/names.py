"""Names of columns as other projects have them.

cave       synapses of CAVE, with split positions, in nanometres (desired_resolution 1, 1, 1)
neuprint   neurons and connections of neuPrint
dvid       the body of each supervoxel, as DVID's tools exchange it
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from volflow.errors import StorageError

_CAVE = {
    "synapse_id": "id",
    "pre": "pre_pt_root_id",
    "post": "post_pt_root_id",
    **{
        f"{ours}_{axis}": f"{theirs}_pt_position_{axis}"
        for ours, theirs in (("pre", "pre"), ("cleft", "ctr"), ("post", "post"))
        for axis in "xyz"
    },
    "size_vox": "size",
}
_CONNECTIONS = {"pre": "bodyId_pre", "post": "bodyId_post", "synapses": "weight"}
_NEURONS = {
    "segment": "bodyId",
    "pre_synapses": "pre",
    "post_synapses": "post",
    "size_vox": "size",
}
_MAPPING = {"supervoxel": "segment_id", "segment": "body_id"}
NAMES: dict[str, tuple[dict[str, str], ...]] = {
    "cave": (_CAVE,),
    "neuprint": (_CONNECTIONS, _NEURONS),
    "dvid": (_MAPPING,),
}


def renamed(columns: Mapping[str, np.ndarray], convention: str) -> dict[str, np.ndarray]:
    """The columns that a project has, under its names and in its order.

    Parameters
    ----------
    columns : mapping of str to array, (N,)
        Of a table of volflow's.
    convention : str
        A key of `NAMES`.

    Raises
    ------
    StorageError
        If the table has not the columns of any table of the project.
    """
    for table in NAMES[convention]:
        if all(name in columns for name in table):
            return {theirs: columns[ours] for ours, theirs in table.items()}
    wanted = " or ".join(", ".join(table) for table in NAMES[convention])
    raise StorageError(
        f"names {convention}: expected the columns {wanted}; got {', '.join(columns)}"
    )
