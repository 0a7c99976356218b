"""Independence of blocks and workers: every block shape with every number of workers.

    python -m benchmarks.engine.block_exact        some minutes, prints one line per run

The bundled pipeline on the baseline affinities of FIB-25, with and without a joining round. The
exit code is 1 if any segmentation differs in a byte from that of the whole slab as one block in
one process.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
import tempfile
from pathlib import Path

import volflow
from benchmarks.data import AFFINITY, RESOLUTION
from volflow.config.pipeline import VolumeSpec
from volflow.io.volume import Volume

BLOCKS = ((165, 250, 250), (64, 64, 64), (50, 70, 90), (33, 250, 40))
WORKERS = (1, 2, 4)
SETTINGS = ({"join_rounds": 1, "min_size": 2000}, {"join_rounds": 0, "min_size": 0})


def digest(block: tuple[int, ...], settings: dict[str, int], cluster: str, workers: int) -> str:
    """SHA-256 of all voxels of the segmentation, ids included."""
    with tempfile.TemporaryDirectory() as folder:
        options = [
            f"run={folder}",
            f"volumes.affinity.path={AFFINITY}",
            f"volumes.affinity.resolution={list(RESOLUTION)}",
            f"block={list(block)}",
            *(f"steps.agglomerate.{name}={value}" for name, value in settings.items()),
        ]
        result = volflow.run(
            "segment", overrides=options, cluster=cluster, workers=workers, until="relabel"
        )
        assert result.ok
        path = f"precomputed://{Path(folder) / 'segmentation'}"
        volume = Volume.open(VolumeSpec(path=path), own=True)
        return hashlib.sha256(volume.read(volume.bounds).tobytes()).hexdigest()


def main() -> None:
    differing = 0
    for settings in SETTINGS:
        expected = digest(BLOCKS[0], settings, "none", 1)
        print(f"{settings}: {expected[:16]}", flush=True)
        for block, workers in itertools.product(BLOCKS, WORKERS):
            actual = digest(block, settings, "local", workers)
            differing += actual != expected
            same = "same" if actual == expected else f"DIFFERS {actual[:16]}"
            print(f"  blocks of {block}, {workers} workers: {same}", flush=True)
    sys.exit(differing > 0)


if __name__ == "__main__":
    main()
