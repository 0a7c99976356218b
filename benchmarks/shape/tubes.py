"""Lengths of skeletons of tubes against what was painted.

    python -m benchmarks.shape.tubes [--tiles]

Tubes along x, diagonal, oblique, and a helix, in 192 x 192 x 192 voxels of 8 nm: on lattices of 8,
16, 32 and 64 nm; with --tiles, on the lattice of 8 nm in tiles of several sides.
"""

from __future__ import annotations

import argparse

import numpy as np

from tests.shape.tubes import helix, length_of, tube
from volflow.core.geometry import Box
from volflow.shape.runs import block_runs
from volflow.shape.skeletonize import segment_skeleton

BOUNDS = Box((5, -9, 20), (197, 183, 212))
SIDE = (8.0, 8.0, 8.0)
MIDDLE = (np.array(BOUNDS.start) + 96) * 8.0
LINES = {
    "along x": MIDDLE + np.array([[0, 0, -600], [0, 0, 600]]),
    "diagonal": MIDDLE + np.array([[-450, -500, -550], [450, 500, 550]]),
    "oblique": MIDDLE + np.array([[-100, -500, -550], [100, 500, 550]]),
    "helix": helix(2, 400, 500, MIDDLE - np.array([500, 0, 0])),
}


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__, add_help=False)
    parser.add_argument("--tiles", action="store_true")
    options = parser.parse_args()
    if options.tiles:
        variants = [(f"tiles of {side}", 1, side) for side in (16, 31, 48, 64, 96)]
    else:
        variants = [(f"{8 * factor} nm", factor, 0) for factor in (1, 2, 4, 8)]
    for radius in (64.0,) if options.tiles else (64.0, 32.0, 120.0):
        for name, line in LINES.items():
            labels = tube(BOUNDS, line, radius, SIDE).astype(np.uint64)
            exact = length_of(line) + 2 * radius
            for title, factor, side in variants:
                lattice = (factor, factor, factor)
                runs = block_runs(labels, BOUNDS.start, lattice)
                one = segment_skeleton(runs, 1, lattice, SIDE, tiles=side)
                tips = (np.bincount(one.edges.ravel()) == 1).sum()
                print(
                    f"{name}, {radius:g} nm, {title}: {one.lengths.sum() / exact - 1:+.1%}, radius "
                    f"{np.median(one.radius) / radius:.2f}, {tips} tips, "
                    f"{(one.parent < 0).sum()} trees",
                    flush=True,
                )


if __name__ == "__main__":
    main()
