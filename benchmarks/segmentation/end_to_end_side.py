"""Affinities to a stored segmentation with waterz or volara, in one process; see `end_to_end`.

    python -P benchmarks/segmentation/end_to_end_side.py waterz|volara FOLDER OUT

FOLDER/affinity.zarr is Zarr 2, uint8 (3, Z, Y, X), where 255 joins a voxel with the one before it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import zarr

THRESHOLD = 0.3
OFFSETS = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
BLOCK = (128, 128, 128)


def waterz(folder: Path, out: Path) -> None:
    """Segment the whole volume with waterz by mean affinity."""
    import waterz

    affinity = np.asarray(zarr.open(str(folder / "affinity.zarr"), mode="r"))
    scaled = np.ascontiguousarray(affinity, "float32") / np.float32(255)
    (segments,) = waterz.agglomerate(scaled, [1 - THRESHOLD])
    stored = zarr.create_array(
        str(out / "segments.zarr"), shape=segments.shape, chunks=(64, 64, 64), dtype="uint64"
    )
    stored[:] = segments


def volara(folder: Path, out: Path) -> None:
    """Segment block by block with volara: mutex watershed, edges in SQLite, cut of the graph."""
    from funlib.geometry import Coordinate, Roi
    from volara.blockwise import AffAgglom, ExtractFrags, GraphMWS, Relabel
    from volara.datasets import Affs, Labels
    from volara.dbs import SQLite
    from volara.lut import LUT

    offsets = [Coordinate(offset) for offset in OFFSETS]
    affinity = Affs(store=folder / "affinity_float.zarr", neighborhood=offsets)
    fragments = Labels(store=out / "fragments.zarr")
    graph = SQLite(path=out / "graph.db", edge_attrs={"affinity": "float"})
    table = LUT(path=out / "segments.npz")
    shape = affinity.array("r").shape[1:]
    common = {"block_size": Coordinate(BLOCK), "num_workers": 1}
    tasks = [
        ExtractFrags(
            db=graph,
            affs_data=affinity,
            frags_data=fragments,
            context=Coordinate(2, 2, 2),
            bias=[-0.5] * 3,
            **common,
        ),
        AffAgglom(
            db=graph,
            affs_data=affinity,
            frags_data=fragments,
            context=Coordinate(1, 1, 1),
            scores={"affinity": offsets},
            **common,
        ),
        GraphMWS(
            db=graph,
            lut=table,
            weights={"affinity": (1.0, -THRESHOLD)},
            roi=Roi((0, 0, 0), shape),
        ),
        Relabel(
            frags_data=fragments, seg_data=Labels(store=out / "segments.zarr"), lut=table, **common
        ),
    ]
    for task in tasks:
        task.run_blockwise(multiprocessing=False)


if __name__ == "__main__":
    {"waterz": waterz, "volara": volara}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
