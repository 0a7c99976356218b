"""Processor time of following objects with the light network: shared by all, and per object.

    python -m benchmarks.networks.track_cost [SIDE ...]      250 512 1024

For each side of a section and each number of objects, the median of some sections, processor
seconds on one thread: the shared work of a section (`see`: trunk, filters of offline types), the
masks of the objects, and the loop around them (overlaps, memories, labels). Weights are random, as
they do not change the time; the masks that are remembered are discs that move by a pixel per
section, so each object has the same windows in every section, whatever the weights. Sections are
random numbers with all types of support.

The last table is a least-squares line through the totals of each side, and its largest deviation
from them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import numpy as np
import torch

from volflow.models.iicats.follower import NetworkFollower
from volflow.models.iicats.network import IICats
from volflow.track.follower import Remembered, Section
from volflow.track.loop import Rules, Tracker
from volflow.track.memory import Crop, Track, cropped

SIDES = (250, 512, 1024)
OBJECTS = (1, 10, 50, 200)
RADIUS = 8  # pixels: 200 discs fit into the smallest section
FOLLOWED = 3  # sections; the first one is not measured: there, all remembered masks are new


class Cost(NamedTuple):
    """Processor seconds of one section."""

    shared: float
    masks: float
    loop: float

    @property
    def total(self) -> float:
        return self.shared + self.masks + self.loop


@dataclass
class Scripted:
    """A follower whose masks are computed, timed, and replaced by given ones."""

    inner: NetworkFollower
    shown: Callable[[Remembered, int], np.ndarray]
    moved: int = 0
    """Sections since those that are remembered."""
    shared: float = 0.0
    computed: float = 0.0
    memory: int = field(init=False)
    stride: int = field(init=False)

    def __post_init__(self) -> None:
        self.memory, self.stride = self.inner.memory, self.inner.stride

    def forget(self) -> None:
        self.inner.forget()

    def see(self, section: Section) -> None:
        start = time.process_time()
        self.inner.see(section)
        self.shared = time.process_time() - start

    def masks(self, objects: Sequence[Remembered]) -> list[np.ndarray]:
        start = time.process_time()
        computed = self.inner.masks(objects)
        self.computed = time.process_time() - start
        assert len(computed) == len(objects)
        return [self.shown(each, self.moved) for each in objects]

    def first_masks(self, boxes: Sequence[tuple[int, int, int, int]]) -> list[np.ndarray]:
        return self.inner.first_masks(boxes)


def centres(side: int, count: int) -> np.ndarray:
    """Centres y x of discs on a square grid over a section, int (N, 2)."""
    across = int(np.ceil(np.sqrt(count)))
    places = np.linspace(RADIUS, side - 2 * RADIUS, across).astype(int)
    grid = np.stack(np.meshgrid(places, places, indexing="ij"), axis=-1).reshape(-1, 2)
    return grid[np.linspace(0, len(grid) - 1, count).astype(int)]


def disc(shape: tuple[int, int], centre: np.ndarray, radius: float = RADIUS) -> np.ndarray:
    """A disc, bool (H, W)."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    inside: np.ndarray = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2
    return inside


def costs(network: IICats, side: int, count: int) -> Cost:
    """The median cost of a section with so many objects."""
    rng = np.random.default_rng(0)
    starts, memory = centres(side, count), network.memory

    def shown(each: Remembered, moved: int) -> np.ndarray:
        centre = starts[each.id - 1] + moved - np.array(each.origin)
        return disc((each.masks.shape[1], each.masks.shape[2]), centre).astype(np.float32)

    follower = Scripted(NetworkFollower(network), shown)
    tracker = Tracker.resumed(follower, Rules(), None)
    for _ in range(memory):
        tracker.look(section(rng, side))
    for key, start in enumerate(starts, 1):
        crops = tuple(crop(side, start - age, age) for age in reversed(range(memory)))
        tracker.tracks.append(Track(key, id=key, crops=crops))
    tracker.born = count
    measured = []
    for follower.moved in range(1, FOLLOWED + 1):
        here = section(rng, side)
        start = time.process_time()
        keys = tracker.follow(here)
        tracker.labels(keys, (slice(0, side), slice(0, side)), (1, side))
        total = time.process_time() - start
        shared, masks = follower.shared, follower.computed
        measured.append(Cost(shared, masks, total - shared - masks))
        assert len(tracker.tracks) == count
    return Cost(*(median(column) for column in zip(*measured[1:], strict=True)))


def crop(side: int, centre: np.ndarray, age: int) -> Crop:
    """A disc as it is remembered."""
    return cropped(disc((side, side), centre) * np.uint8(255), (0, 0))._replace(age=age)


def section(rng: np.random.Generator, side: int) -> Section:
    """A section of random numbers with all types of support."""
    layers = {name: (count, side, side) for name, count in (("d", 3), ("m", 1), ("syn", 1))}
    offline = {name: rng.integers(0, 256, shape, np.uint8) for name, shape in layers.items()}
    return Section(rng.integers(0, 256, (side, side), np.uint8), offline)


def line(objects: Sequence[int], totals: Sequence[float]) -> tuple[float, float, float]:
    """The least-squares line, and its largest deviation relative to the values.

    Squares are those of relative deviations, so that sections with few objects count, too.
    """
    n, t = np.array(objects, float), np.array(totals)
    columns = np.stack([np.ones_like(n), n], axis=1) / t[:, None]
    (shared, each), *_ = np.linalg.lstsq(columns, np.ones_like(t), rcond=None)
    return shared, each, float(np.abs((shared + each * n) / t - 1).max())


def main() -> None:
    sides = [int(side) for side in sys.argv[1:]] or SIDES
    torch.manual_seed(0)
    network = IICats().eval()
    lines = []
    print("| section | objects | shared (ms) | masks (ms) | loop (ms) | per object (ms) |")
    print("|---|---|---|---|---|---|")
    for side in sides:
        totals = []
        for count in OBJECTS:
            cost = costs(network, side, count)
            totals.append(cost.total)
            shared, masks, loop = (1e3 * part for part in cost)
            each = (masks + loop) / count
            row = f"{side}² | {count} | {shared:.0f} | {masks:.1f} | {loop:.1f} | {each:.1f}"
            print(f"| {row} |", flush=True)
        lines.append((side, *line(OBJECTS, totals)))
    print("\n| section | line: shared (ms) | line: per object (ms) | largest deviation |")
    print("|---|---|---|---|")
    for side, shared, each, deviation in lines:
        print(f"| {side}² | {1e3 * shared:.0f} | {1e3 * each:.1f} | {deviation:.1%} |")


if __name__ == "__main__":
    main()
