"""The laws of objects: the same bytes whatever the blocks, one core to each, contours part."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

import volflow
from tests import reference
from tests.harness import Memory, run_stage
from tests.stages.contract import Case, StageContract
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.core.stage import Layer, find_stage
from volflow.io.volume import Volume
from volflow.stages.fragments import Fragments
from volflow.stages.object_affinities import ObjectAffinities
from volflow.stages.objects import Objects
from volflow.stages.relabel import Relabel

randoms = st.randoms(use_true_random=False)


@dataclass
class Sample:
    """Probabilities (inside, contour) over bounds, and how objects are made of them."""

    probability: np.ndarray
    bounds: Box
    mask: np.ndarray | None
    affinities: dict[str, Any]
    objects: dict[str, Any]

    def by_blocks(self, block: Triple) -> np.ndarray:
        memory = Memory({"probability": (self.probability, self.bounds.start)})
        mask = None if self.mask is None else (self.mask.astype(np.uint8), self.bounds.start)
        for stage in (
            ObjectAffinities(contours=1, **self.affinities),
            Fragments(high=255),
            Objects(**self.objects),
            Relabel(),
        ):
            run_stage(stage, BlockGrid(self.bounds, block), memory, {}, mask)
        return memory.arrays["segmentation"][0]

    def by_reference(self) -> np.ndarray:
        affinity, core = affinities_of(self)
        volume = reference.Volume(affinity, self.mask)
        labels = reference.fragment_labels(volume, 1, 255)
        pairs = Counter(
            labels[voxel]
            for voxel, other, _ in volume.contacts()
            if voxel in core and other in core and voxel in labels
        )
        labels, pairs = grown(volume, labels, pairs, self.objects)
        sizes = Counter(labels.values())
        remaining = {
            voxel: label
            for voxel, label in labels.items()
            if sizes[label] >= self.objects["min_size"] and pairs[label] >= self.objects["min_core"]
        }
        return reference.painted(volume.shape, remaining)


def affinities_of(sample: Sample) -> tuple[np.ndarray, set[tuple[int, ...]]]:
    """Affinities voxel by voxel, and the voxels of cores."""
    shape = sample.bounds.shape
    inside, contour = sample.probability.astype(int)
    limits = {name: 255 * share for name, share in sample.affinities.items()}
    core = {
        voxel
        for voxel in np.ndindex(shape)
        if inside[voxel] >= limits["core"] and contour[voxel] < limits["contour"]
    }
    affinity = np.zeros((3, *shape), np.uint8)
    for voxel in np.ndindex(shape):
        for axis in range(3):
            other = tuple(a - (n == axis) for n, a in enumerate(voxel))
            if min(other) < 0 or min(inside[voxel], inside[other]) < limits["low"]:
                continue
            both = [min(inside[v], 255 - contour[v]) for v in (voxel, other)]
            affinity[(axis, *voxel)] = min(max(min(both), 1), 254)
            if voxel in core and other in core:
                affinity[(axis, *voxel)] = 255
    return affinity, core


def grown(volume, labels, pairs, parameters):
    """Merge the best edge that has a side with too little core, and again."""
    edges = {p: list(e) for p, e in reference.edges_of(volume, labels, lambda v: 0).items()}
    pairs, names = Counter(pairs), {label: label for label in set(labels.values())}
    while True:
        able = [
            reference.rank(pair, edge)
            for pair, edge in edges.items()
            if min(pairs[pair[0]], pairs[pair[1]]) < parameters["min_core"]
        ]
        if not able or -min(able)[0] < parameters["grow"]:
            return reference.renamed(labels, names), pairs
        _, keeps, goes = min(able)
        pairs[keeps] += pairs.pop(goes, 0)
        names = {label: keeps if name == goes else name for label, name in names.items()}
        pooled: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
        for pair, edge in edges.items():
            u, v = (keeps if name == goes else name for name in pair)
            if u != v:
                pooled[max(u, v), min(u, v)][0] += edge[0]
                pooled[max(u, v), min(u, v)][1] += edge[1]
        edges = pooled


def random_sample(draw: random.Random, voxels: int = 400) -> Sample:
    sides = [draw.randint(1, 11) for _ in range(3)]
    while sides[0] * sides[1] * sides[2] > voxels:
        sides[sides.index(max(sides))] -= 1
    start = tuple(draw.randint(-4, 20) for _ in range(3))
    rng = np.random.default_rng(draw.getrandbits(32))
    values = rng.random((2, *sides))
    for axis in (1, 2, 3):
        values = (values + np.roll(values, 1, axis)) / 2
    values = (values - values.min()) / max(np.ptp(values), 1e-9)
    levels = draw.choice([4, 16, 255])
    probability = (np.round(values * levels) * (255 // levels)).astype(np.uint8)
    low = draw.choice([0.2, 0.4, 0.5])
    return Sample(
        probability,
        Box(start, tuple(a + n for a, n in zip(start, sides, strict=True))),
        rng.random(sides) > 0.1 if draw.random() < 0.3 else None,
        {
            "core": draw.choice([low, 0.6, 0.7]),
            "contour": draw.choice([0.4, 0.6, 1.0]),
            "low": low,
        },
        {
            "min_size": draw.choice([1, 2, 5, 20]),
            "min_core": draw.choice([1, 1, 2, 6]),
            "grow": draw.choice([0.0, 0.0, 0.4]),
        },
    )


@settings(max_examples=60, deadline=None)
@given(randoms)
def test_blocks_of_any_shape_give_the_objects_of_the_reference(draw: random.Random) -> None:
    sample = random_sample(draw)
    block = tuple(draw.randint(1, n + 1) for n in sample.bounds.shape)
    expected = sample.by_reference()
    np.testing.assert_array_equal(sample.by_blocks(block), expected, err_msg=f"{block} {sample}")


def test_the_reference_meets_objects_that_are_kept_dropped_and_cut_by_blocks() -> None:
    actual, dropped = 0, 0
    for seed in range(12):
        sample = random_sample(random.Random(seed))
        sample = replace(sample, objects={"min_size": 2, "min_core": 1, "grow": 0.0})
        labels = sample.by_blocks((2, 3, 4))
        actual += len(np.unique(labels[labels > 0]))
        everything = replace(sample, objects={**sample.objects, "min_size": 1}).by_blocks((9, 9, 9))
        larger = replace(sample, objects={**sample.objects, "min_size": 9}).by_blocks((9, 9, 9))
        dropped += len(np.unique(everything)) - len(np.unique(larger))
    assert actual > 12
    assert dropped > 5


@settings(max_examples=25, deadline=None)
@given(randoms)
def test_objects_are_a_core_each_and_all_that_hangs_together_with_one(draw: random.Random) -> None:
    sample = random_sample(draw)
    sample = replace(sample, mask=None, objects={"min_size": 1, "min_core": 1, "grow": 0.0})
    labels = sample.by_blocks((4, 5, 6))
    inside, contour = sample.probability.astype(float) / 255
    low = inside >= sample.affinities["low"] - 1e-9
    core = low & (inside >= sample.affinities["core"] - 1e-9)
    core &= contour < sample.affinities["contour"] - 1e-9
    cores, _ = ndimage.label(core)  # six neighbours
    cores[np.bincount(cores.ravel())[cores] < 2] = 0
    parts, _ = ndimage.label(low)
    np.testing.assert_array_equal(labels > 0, np.isin(parts, np.unique(parts[cores > 0])))
    met = np.unique(np.stack([labels[cores > 0], cores[cores > 0]]), axis=1)
    assert len(np.unique(met[0])) == len(np.unique(met[1])) == met.shape[1]  # one to one
    for label in np.unique(labels[labels > 0]).tolist():
        assert ndimage.label(labels == label)[1] == 1
        assert np.flatnonzero(labels == label)[-1] + 1 == label


def ball(shape: Triple, centre: Triple, radius: float) -> np.ndarray:
    """Distance to the surface of a ball, above 0 inside."""
    apart = np.indices(shape) - np.array(centre).reshape(3, 1, 1, 1)
    return radius - np.sqrt((apart**2).sum(axis=0))


def touching(contours: bool) -> tuple[Sample, np.ndarray]:
    """Two balls that overlap by a little, the plane between them a contour; and which is which."""
    shape = (18, 18, 32)
    depths = np.stack([ball(shape, (9, 9, 10), 7.4), ball(shape, (8, 9, 22), 7.4)])
    owner = np.where(depths.max(axis=0) > 0, 1 + depths.argmax(axis=0), 0)
    between = np.abs(depths[0] - depths[1]) < 1.6
    rim = (np.abs(depths.max(axis=0)) < 1) | (between & (owner > 0))
    inside = np.where(owner > 0, 240, 10)
    probability = np.stack([inside, np.where(rim & contours, 230, 5)]).astype(np.uint8)
    levels = {"core": 0.9, "contour": 0.8, "low": 0.5}
    box = Box((0, 0, 0), shape)
    objects = {"min_size": 1, "min_core": 1, "grow": 0.0}
    return Sample(probability, box, None, levels, objects), owner


def test_touching_balls_are_parted_by_the_contour_between_them_and_only_by_it() -> None:
    sample, owner = touching(contours=True)
    labels = sample.by_blocks((7, 8, 9))
    assert len(np.unique(labels[labels > 0])) == 2
    np.testing.assert_array_equal(labels > 0, owner > 0)
    away = np.abs(np.arange(32) - 15.5) > 2  # the plane between is anybody's
    for number in (1, 2):
        inside = labels[(owner == number) & away]
        assert len(np.unique(inside)) == 1
    joined, _ = touching(contours=False)
    labels = joined.by_blocks((7, 8, 9))
    assert len(np.unique(labels[labels > 0])) == 1


@pytest.mark.parametrize("block", [(7, 8, 9), (20, 20, 40)])
def test_an_object_of_just_the_least_size_stays_and_a_larger_limit_drops_it(block) -> None:
    sample, _ = touching(contours=True)
    labels = sample.by_blocks(block)
    sizes = sorted(np.unique(labels[labels > 0], return_counts=True)[1].tolist())
    assert sizes[0] < sizes[1]
    for limit, left in ((sizes[0], 2), (sizes[0] + 1, 1), (sizes[1], 1), (sizes[1] + 1, 0)):
        remaining = replace(sample, objects={**sample.objects, "min_size": limit}).by_blocks(block)
        assert len(np.unique(remaining[remaining > 0])) == left


def test_fragments_that_cut_cores_are_refused() -> None:
    sample, _ = touching(contours=True)
    memory = Memory({"probability": (sample.probability, (0, 0, 0))})
    grid = BlockGrid(sample.bounds, (18, 18, 32))
    run_stage(ObjectAffinities(contours=1), grid, memory, {})
    run_stage(Fragments(), grid, memory, {})
    with pytest.raises(ValueError, match=r"the step `fragments` of objects `with: \{high: 255\}`"):
        run_stage(Objects(), grid, memory, {})


def engine_run(folder: Path, sample: Sample, block: Triple, name: str) -> tuple[Any, np.ndarray]:
    """The result of the bundled pipeline for a sample on disk under its mask, and the labels."""
    volumes = {"mitochondria": sample.probability, "kept": sample.mask}
    overrides = [f"run={folder / name}", f"block={list(block)}", "mask=kept"]
    overrides += [f"steps.object_affinities.{n}={v}" for n, v in sample.affinities.items()]
    overrides += [f"steps.objects.{n}={v}" for n, v in sample.objects.items()]
    for volume, array in volumes.items():
        address = f"zarr://{folder / volume}.zarr"
        channels = 2 if array.ndim == 4 else 0
        layer = Layer("uint8", channels, "segmentation" if not channels else "image")
        stored, _ = Volume.create(
            VolumeSpec(path=address), layer, sample.bounds, (8, 8, 8), (8, 8, 8)
        )
        stored.write(sample.bounds, array.astype(np.uint8))
        overrides.append(f"volumes.{volume}.path={address}")
    result = volflow.run("mito_objects", overrides=overrides)
    assert result.ok
    address = f"precomputed://{folder / name}/mitochondria_ids"
    return result, Volume.open(VolumeSpec(path=address), own=True).read(sample.bounds)


def test_the_bundled_pipeline_gives_the_reference_under_a_mask_counts_and_resumes(tmp_path) -> None:
    sample, _ = touching(contours=True)
    box = Box((2, 4, 8), (20, 22, 40))
    remaining = np.random.default_rng(5).random(box.shape) > 0.03
    objects = {"min_size": 60, "min_core": 2, "grow": 0.0}
    sample = replace(sample, bounds=box, mask=remaining, objects=objects)
    sample.probability[0, 2, 2, 2:6] = 255  # four voxels of a speck
    expected = sample.by_reference()
    count = len(np.unique(expected[expected > 0]))
    assert count == 2
    for block, name in (((8, 8, 16), "one"), ((5, 18, 7), "other")):
        result, labels = engine_run(tmp_path, sample, block, name)
        np.testing.assert_array_equal(labels, expected)
        assert result.results["objects"]["objects"] == count
        assert result.results["objects"]["dropped"] >= 1
    again, labels = engine_run(tmp_path, sample, (5, 18, 7), "other")
    assert all(step.done == step.already for step in again.steps)
    smaller = replace(sample, objects={**objects, "min_size": 4, "min_core": 1})
    result, labels = engine_run(tmp_path, smaller, (5, 18, 7), "other")
    np.testing.assert_array_equal(labels, smaller.by_reference())
    assert result.results["objects"]["objects"] == 3
    redone = {step.name for step in result.steps if step.done > step.already}
    assert not redone & {"object_affinities", "fragments"}


class TestObjectAffinities(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        bounds = Box((1, -2, 3), (10, 9, 14))
        values = np.random.default_rng(1).integers(0, 256, (2, *bounds.shape)).astype(np.uint8)
        return Case(ObjectAffinities(contours=1), bounds, {"probability": values})


def test_mistakes_are_reported_before_anything_starts() -> None:
    assert find_stage("objects") is Objects
    assert find_stage("object_affinities") is ObjectAffinities
    with pytest.raises(ValidationError, match=r"expected core not below low; got 0\.4 and 0\.5"):
        ObjectAffinities(core=0.4)
    stage = ObjectAffinities(inside=0, contours=2)
    reported = stage.check_inputs({"probability": Layer("uint8", 2)}, (8, 8, 8))
    assert reported == ["contours: expected a channel of probability, 0 to 1; got 2"]
    assert stage.check_inputs({"probability": Layer("uint8", 3)}, (8, 8, 8)) == []
    for wrong in ({"min_size": 0}, {"min_core": 0}, {"grow": 1.1}):
        with pytest.raises(ValidationError):
            Objects(**wrong)


@pytest.mark.parametrize(
    ("inside", "contour", "affinity"),
    [
        (230, 203, 255),  # a core: 0.9 of 255 is 229.5, 0.8 is 204
        (229, 203, 52),
        (230, 204, 51),
        (128, 0, 128),
        (127, 0, 0),  # 0.5 is 127.5
        (128, 255, 1),
        (229, 0, 229),
    ],
)
def test_levels_count_from_just_their_share_on(inside: int, contour: int, affinity: int) -> None:
    values = np.zeros((2, 1, 1, 2), np.uint8)
    values[0], values[1] = inside, contour
    memory = Memory({"probability": (values, (0, 0, 0))})
    grid = BlockGrid(Box((0, 0, 0), (1, 1, 2)), (1, 1, 1))
    run_stage(ObjectAffinities(contours=1), grid, memory, {})
    assert memory.arrays["affinity"][0].tolist() == [[[[0, 0]]], [[[0, 0]]], [[[0, affinity]]]]


def test_a_volume_without_channels_is_the_inside_itself() -> None:
    sample, _ = touching(contours=False)
    grid = BlockGrid(sample.bounds, (6, 6, 6))
    one = Memory({"probability": (sample.probability[0], (0, 0, 0))})
    two = Memory({"probability": (sample.probability, (0, 0, 0))})
    run_stage(ObjectAffinities(), grid, one, {})
    run_stage(ObjectAffinities(contours=1), grid, two, {})
    np.testing.assert_array_equal(one.arrays["affinity"][0], two.arrays["affinity"][0])
