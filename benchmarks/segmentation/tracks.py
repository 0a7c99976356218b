"""VI of FIB-25 with tracks that need no network: alone, and voted into the affinities.

    python -m benchmarks.segmentation.tracks [--sections A:B] [--follower NAME] [--both-ways]

The sections are one slab, followed from the first to the last; with --both-ways also back, and the
tracks of both directions are joined.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.segmentation.votes import predicted_part
from volflow.checkpoints.find import WEIGHTS
from volflow.core.geometry import Block, BlockGrid, Box
from volflow.core.stage import Record
from volflow.segment.relabel import relabel
from volflow.stages.link_tracks import LinkTracks
from volflow.stages.track import Track
from volflow.track.votes import eroded, voted
from volflow.train.validation.evaluate import InMemoryPipeline, score

WEIGHTS_OF_VOTES = (0.1, 0.25, 0.5, 1.0)
EROSIONS = (0, 1)
THRESHOLD, MIN_SIZE = 0.2, 1000


def followed(stage: Track, **layers: np.ndarray) -> dict[str, Any]:
    """The outputs of a chain over a whole volume, in one part.

    Parameters
    ----------
    stage : Track
        With `part` at least the number of sections.
    layers : arrays
        Inputs of the stage, (Z, Y, X) or (C, Z, Y, X).
    """
    shape = next(iter(layers.values())).shape[-3:]
    bounds = Box((0, 0, 0), shape)
    grid = BlockGrid(bounds, stage.block_on(bounds, (1, 1, 1)), stage.halo)
    (phase,) = stage.phases(grid)
    (block,) = phase.grid
    margin = [(-a, b - n) for a, b, n in zip(block.read.start, block.read.stop, shape, strict=True)]
    padded = {
        name: np.pad(array, [(0, 0)] * (array.ndim - 3) + margin) for name, array in layers.items()
    }
    return dict(stage.step(block, None, **padded).outputs)


def joined_ways(ahead: dict[str, Any], back: dict[str, Any]) -> Iterator[np.ndarray]:
    """The tracks of two directions, named after their objects."""
    bounds = Box((0, 0, 0), ahead["tracks"].shape)
    link = LinkTracks(part=bounds.shape[0], slab_overlap=0, margin=0)
    block = Block(bounds.start, bounds, bounds, bounds)
    up = link.leaf(
        block,
        "link",
        None,
        tracks=ahead["tracks"],
        beyond=ahead["beyond"],
        tracks_back=back["tracks"],
        beyond_back=back["beyond"],
    )
    table: Record = up.retained
    for run in (ahead, back):
        yield relabel(run["tracks"], table["before"], table["after"])


def report(name: str, segments: np.ndarray, truth: np.ndarray) -> None:
    """Print a row of the table."""
    each = score(segments, truth, 0)
    print(f"| {name} | {each.vi_split:.3f} | {each.vi_merge:.3f} | {each.vi:.3f} |", flush=True)


def compare(
    affinity: np.ndarray, truth: np.ndarray, tracks: list[np.ndarray], names: list[str]
) -> None:
    """Print the scores of tracks alone and of affinities with their votes."""
    print("| | VI split | VI merge | VI |\n|---|---|---|---|")
    report("affinities alone", InMemoryPipeline(affinity).segmentation(THRESHOLD, MIN_SIZE), truth)
    for name, run in zip(names, tracks, strict=True):
        report(f"tracks {name}", run, truth)
    box = Box((0, 0, 0), truth.shape)
    for weight, erode in product(WEIGHTS_OF_VOTES, EROSIONS):
        runs = [eroded(run, erode) for run in tracks]
        mixed = voted(affinity, runs, box, box, truth.shape, weight)
        segments = InMemoryPipeline(mixed).segmentation(THRESHOLD, MIN_SIZE)
        report(f"weight {weight}, erode {erode}", segments, truth)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS / "fib25-lsd.safetensors")
    parser.add_argument("--sections", default="120:135")
    parser.add_argument("--follower", default="affinity")
    parser.add_argument("--both-ways", action="store_true")
    arguments = parser.parse_args()
    affinity, truth = predicted_part(arguments.weights, arguments.sections)
    stage = Track(follower=arguments.follower, part=len(truth))
    runs = [followed(stage, affinity=affinity)]
    tracks, names = [runs[0]["tracks"]], ["ahead"]
    if arguments.both_ways:
        back = stage.model_copy(update={"reverse": True})
        runs.append(followed(back, affinity=affinity))
        tracks, names = list(joined_ways(*runs)), ["ahead", "back"]
    compare(affinity, truth, tracks, names)


if __name__ == "__main__":
    main()
