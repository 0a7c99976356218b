from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.synth import Neuropil, Rendered, Scene

BOUNDS = Box((-7, 20, 3), (65, 110, 99))
NEUROPIL = Neuropil(BOUNDS, seed=5)


@pytest.fixture(scope="module")
def whole() -> Rendered:
    return NEUROPIL.render(BOUNDS)


@st.composite
def inner_boxes(draw: st.DrawFn) -> Box:
    starts, stops = [], []
    for low, high in zip(BOUNDS.start, BOUNDS.stop, strict=True):
        start = draw(st.integers(low, high - 1))
        starts.append(start)
        stops.append(draw(st.integers(start + 1, min(high, start + 40))))
    return Box(tuple(starts), tuple(stops))


@settings(max_examples=20, deadline=None)
@given(box=inner_boxes())
def test_a_voxel_is_the_same_whatever_the_box(whole: Rendered, box: Box) -> None:
    for part, all_of_it in zip(NEUROPIL.render(box), whole, strict=True):
        np.testing.assert_array_equal(part, all_of_it[(..., *box.within(BOUNDS))])


@pytest.mark.parametrize("shape", [(31, 90, 40), (72, 17, 96)])
def test_blocks_tile_the_volume(whole: Rendered, shape: Triple) -> None:
    for block in BlockGrid(BOUNDS, shape):
        for part, all_of_it in zip(NEUROPIL.render(block.write), whole, strict=True):
            np.testing.assert_array_equal(part, all_of_it[(..., *block.write.within(BOUNDS))])


@pytest.mark.parametrize(("seed", "cell"), [(5, 14), (6, 10), (7, 20), (8, 14), (9, 8)])
def test_every_neurite_is_one_face_connected_object(seed: int, cell: int) -> None:
    truth = Neuropil(BOUNDS, seed, cell).truth(BOUNDS)
    names = np.unique(truth[truth > 0])
    assert len(names) > 10
    for name in names:
        assert ndimage.label(truth == name)[1] == 1, name
    assert (truth == 0).mean() < 0.002


def test_neurites_are_long_branched_and_fill_space(whole: Rendered) -> None:
    names, sizes = np.unique(whole.truth, return_counts=True)
    assert whole.truth.dtype == np.uint64
    assert len(names) > 30
    # neither dust nor one giant
    assert np.median(sizes) > 14**3
    assert sizes.max() < 0.2 * sizes.sum()
    boxes = ndimage.find_objects(np.searchsorted(names, whole.truth).astype(np.int32))
    extents = [max(s.stop - s.start for s in box) for box in boxes if box]
    assert np.median(extents) > 3 * 14


def test_membranes_are_dark_and_mitochondria_are_there(whole: Rendered) -> None:
    truth, image = whole.truth, whole.image.astype(float)
    border = np.zeros(truth.shape, bool)
    for axis in range(3):
        border |= truth != np.roll(truth, 1, axis)
    deep = ndimage.distance_transform_edt(~border) > 4
    assert image[border].mean() < image[deep].mean() - 40
    assert np.percentile(ndimage.uniform_filter(image, 3)[deep], 2) < 130


def test_affinities_join_a_voxel_with_the_one_before_it(whole: Rendered) -> None:
    truth, affinity = whole.truth, whole.affinity.astype(float)
    for axis in range(3):
        assert not np.take(affinity[axis], 0, axis).any()
        before, after = (np.delete(truth, index, axis) for index in (-1, 0))
        pairs = np.delete(affinity[axis], 0, axis)
        same = pairs[before == after].mean()
        assert same > pairs[before != after].mean() + 90
        # the other offset sign would be visibly worse: what is cut would be one voxel away
        shifted = np.roll(np.delete(affinity[axis], 0, axis), -1, axis)
        assert pairs[before != after].mean() < shifted[before != after].mean()


def test_seeds_doubt_and_noise_make_a_difference(whole: Rendered) -> None:
    box = Box((0, 30, 10), (24, 54, 34))
    here = (..., *box.within(BOUNDS))
    other = Neuropil(BOUNDS, seed=6).render(box)
    assert (other.truth != whole.truth[here]).any()
    calm = Neuropil(BOUNDS, seed=5, noise=0.0, doubt=0.0).render(box)
    np.testing.assert_array_equal(calm.truth, whole.truth[here])
    assert (calm.image != whole.image[here]).mean() > 0.5
    apart = calm.truth[1:] != calm.truth[:-1]
    assert apart.any()
    assert calm.affinity[0, 1:][apart].max() < 64


def test_a_box_outside_the_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a box with voxels within"):
        NEUROPIL.truth(Box((-8, 20, 3), (0, 30, 10)))
    with pytest.raises(ValueError, match="cell: expected at least 8 voxels; got 7"):
        Neuropil(BOUNDS, cell=7)


@pytest.mark.parametrize("synapses", [False, True])
def test_a_volume_too_thin_for_an_axis_is_empty(synapses: bool) -> None:
    bounds = Box((0, 0, 0), (6, 48, 48))
    scene = Neuropil(bounds, seed=5, cell=14, synapses=synapses).scene(bounds)
    present = [scene.rendered.truth, scene.mitochondria]
    present += [scene.synapses, scene.sides] if synapses else []
    for volume in present:
        assert volume is not None
        np.testing.assert_array_equal(volume, np.zeros(bounds.shape))
    assert scene.rendered.image.shape == bounds.shape
    assert scene.rendered.affinity.shape == (3, *bounds.shape)


LIVELY = Neuropil(
    BOUNDS,
    seed=5,
    synapses=True,
    section_noise=6.0,
    drift=3,
    missing=0.1,
    repeated=0.2,
)


def volumes(scene: Scene) -> dict[str, np.ndarray]:
    assert scene.mitochondria is not None
    assert scene.synapses is not None
    assert scene.sides is not None
    extra = {
        "mitochondria": scene.mitochondria,
        "synapses": scene.synapses,
        "sides": scene.sides,
    }
    return scene.rendered._asdict() | extra


def rows(table: tuple[np.ndarray, ...] | None) -> set[tuple[float, ...]]:
    assert table is not None
    return set(zip(*(column.tolist() for column in np.column_stack(table).T), strict=True))


@pytest.fixture(scope="module")
def lively() -> Scene:
    return LIVELY.scene(BOUNDS)


def test_the_bytes_of_the_default_volume_stay_as_they_are() -> None:
    # a network was trained on them; what is added is off by default
    box = Box((-4, 12, 8), (28, 50, 51))
    actual = Neuropil(Box((-4, 10, 3), (40, 60, 51)), seed=11).render(box)
    digests = [hashlib.sha256(array.tobytes()).hexdigest()[:16] for array in actual]
    assert digests == ["7283ba11205bef7d", "3cdc4c0f48cf435b", "6dbdd644c734cfdb"]


@pytest.mark.parametrize("shape", [(31, 90, 40), (72, 45, 96)])
def test_everything_there_is_the_same_whatever_the_blocks(lively: Scene, shape: Triple) -> None:
    whole, tables = volumes(lively), set()
    for block in BlockGrid(BOUNDS, shape):
        scene = LIVELY.scene(block.write)
        for name, part in volumes(scene).items():
            here = (..., *block.write.within(BOUNDS))
            np.testing.assert_array_equal(part, whole[name][here], err_msg=name)
        actual = rows(scene.table)
        assert not tables & actual
        tables |= actual
    assert tables == rows(lively.table)


def test_truth_does_not_depend_on_what_is_shown(lively: Scene, whole: Rendered) -> None:
    np.testing.assert_array_equal(lively.rendered.truth, whole.truth)
    np.testing.assert_array_equal(lively.rendered.affinity, whole.affinity)


def test_a_mitochondrion_lies_in_one_neurite_and_is_dark(lively: Scene, whole: Rendered) -> None:
    actual = lively.mitochondria
    assert actual is not None
    names = np.unique(actual[actual > 0])
    assert len(names) > 10
    for name in names:
        assert len(np.unique(whole.truth[actual == name])) == 1
    assert whole.truth[actual > 0].min() > 0
    image = whole.image.astype(float)
    assert image[actual > 0].mean() < image[actual == 0].mean() - 20
    # runs on the same tree that touch are one: no two of a neurite share a face
    for axis in range(3):
        a, b = (np.delete(actual, end, axis) for end in (0, -1))
        u, v = (np.delete(whole.truth, end, axis) for end in (0, -1))
        assert ((a != b) & (a > 0) & (b > 0) & (u == v)).mean() < 1e-4


def test_a_cleft_touches_both_its_neurites(lively: Scene) -> None:
    truth, synapses, sides, table = (
        lively.rendered.truth,
        lively.synapses,
        lively.sides,
        lively.table,
    )
    assert synapses is not None
    assert sides is not None
    assert table is not None
    assert len(table.names) > 10
    assert (table.pre != table.post).all()
    np.testing.assert_array_equal(np.unique(synapses[synapses > 0]), np.sort(table.names))
    np.testing.assert_array_equal(synapses > 0, sides > 0)
    for name, pre, post in zip(table.names, table.pre, table.post, strict=True):
        mine = synapses == name
        cleft = mine & (sides == 1)
        assert cleft.sum() >= 8
        for this, that in ((pre, post), (post, pre)):
            beside = ndimage.binary_dilation(truth == that)
            at = cleft & (truth == this)
            assert at.any()
            assert beside[at].all()
        assert set(np.unique(truth[cleft])) == {pre, post}
        assert (truth[mine & (sides == 2)] == pre).all()
        assert (truth[mine & (sides == 3)] == post).all()
    assert (sides == 2).sum() > 100
    assert (sides == 3).sum() > 100


def test_the_image_shows_synapses_and_nothing_else_changes(lively: Scene, whole: Rendered) -> None:
    shown = Neuropil(BOUNDS, seed=5, synapses=True).image(BOUNDS).astype(int)
    sides = lively.sides
    assert sides is not None
    np.testing.assert_array_equal(shown[sides == 0], whole.image[sides == 0])
    for side in (1, 2, 3):
        assert (whole.image[sides == side] - shown[sides == side]).mean() > 10


def test_lost_and_shifted_sections_are_those_that_are_reported(lively: Scene) -> None:
    sections = LIVELY.sections()
    clean = Neuropil(BOUNDS, seed=5, synapses=True).image(BOUNDS)
    image = lively.rendered.image
    np.testing.assert_array_equal(sections.z, np.arange(BOUNDS.start[0], BOUNDS.stop[0]))
    assert sections.missing.any()
    assert sections.repeated.any()
    np.testing.assert_array_equal(~image.any(axis=(1, 2)), sections.missing)
    assert not (sections.missing & sections.repeated).any()
    assert np.abs(sections.shift).max() == 3
    assert np.abs(np.diff(sections.shift, axis=0)).max() == 1
    inside = np.s_[4:-4, 4:-4]
    for row in np.nonzero(~sections.missing)[0]:
        source = clean[row - int(sections.repeated[row])].astype(float)
        moved = np.roll(source, -sections.shift[row], (0, 1)) + sections.offset[row]
        wanted = np.clip(np.rint(moved), 0, 255)
        np.testing.assert_array_equal(image[row][inside], wanted[inside])


@settings(max_examples=8, deadline=None)
@given(box=inner_boxes())
def test_skeletons_of_a_box_are_a_part_of_the_whole(box: Box) -> None:
    whole, part = NEUROPIL.skeletons(BOUNDS), NEUROPIL.skeletons(box)
    voxels = np.rint(whole.places)
    inside = ((voxels >= box.start) & (voxels < box.stop)).all(axis=1)
    for name in ("names", "owner", "places", "radii"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[inside])
    mine = np.isin(whole.edges[:, 0], whole.names[inside])
    np.testing.assert_array_equal(part.edges, whole.edges[mine])


@pytest.mark.parametrize(("seed", "cell"), [(5, 14), (6, 10), (7, 20)])
def test_a_skeleton_runs_in_its_own_neurite(seed: int, cell: int) -> None:
    neuropil = Neuropil(BOUNDS, seed, cell)
    truth, actual = neuropil.truth(BOUNDS), neuropil.skeletons(BOUNDS)
    assert len(actual.names) > 100
    voxels = np.rint(actual.places).astype(int) - np.array(BOUNDS.start)
    np.testing.assert_array_equal(truth[tuple(voxels.T)], actual.owner)
    assert set(np.unique(actual.owner)) == set(np.unique(truth[truth > 0]))
    assert np.isin(actual.edges, actual.names).all()
    ends = np.searchsorted(actual.names, actual.edges)
    np.testing.assert_array_equal(*actual.owner[ends].T)
    # a tree for each neurite: one component, one edge fewer than nodes
    graph = coo_array((np.ones(len(ends)), ends.T), (len(actual.names),) * 2)
    count, _ = connected_components(graph, directed=False)
    assert count == len(np.unique(actual.owner))
    assert len(ends) == len(actual.names) - count
    assert (actual.radii >= 0).all()
    assert 0.2 * cell < np.median(actual.radii) < cell


def test_radii_are_the_distance_to_the_membrane() -> None:
    truth, actual = NEUROPIL.truth(BOUNDS), NEUROPIL.skeletons(BOUNDS)
    border = np.zeros(truth.shape, bool)
    for axis in range(3):
        border |= truth != np.roll(truth, -1, axis)
    away = ndimage.distance_transform_edt(~border)
    voxels = np.rint(actual.places).astype(int) - np.array(BOUNDS.start)
    measured = away[tuple(voxels.T)]
    inner = (voxels > 8).all(axis=1) & (voxels < np.array(BOUNDS.shape) - 9).all(axis=1)
    assert inner.sum() > 100
    assert np.median(np.abs(measured - actual.radii)[inner]) < 2.0


ROOMY = Box((-7, 20, 3), (81, 116, 111))
BODY = Neuropil(ROOMY, seed=8, cell=10, nucleus=14, synapses=True)


@pytest.fixture(scope="module")
def body() -> Scene:
    return BODY.scene(ROOMY)


def test_a_body_is_the_same_whatever_the_blocks(body: Scene) -> None:
    whole = volumes(body) | {"nuclei": body.nuclei}
    for block in BlockGrid(ROOMY, (40, 96, 55)):
        scene = BODY.scene(block.write)
        for name, part in (volumes(scene) | {"nuclei": scene.nuclei}).items():
            here = (..., *block.write.within(ROOMY))
            np.testing.assert_array_equal(part, whole[name][here], err_msg=name)


def test_a_nucleus_is_a_ball_in_one_body(body: Scene) -> None:
    truth, nuclei = body.rendered.truth, body.nuclei
    assert nuclei is not None
    (name,) = np.unique(nuclei[nuclei > 0])
    inside = nuclei > 0
    assert (truth[inside] == name).all()
    assert abs(inside.sum() / (4 / 3 * np.pi * 14**3) - 1) < 0.03
    # cytoplasm all around it
    assert (truth[ndimage.binary_dilation(inside, iterations=3)] == name).all()
    # processes leave the body
    middle = np.array(ndimage.center_of_mass(inside))
    away = np.linalg.norm(np.argwhere(truth == name) - middle, axis=1)
    assert away.max() > 14 + 6 + 20
    # a dark envelope around a lighter inside
    image, deep = body.rendered.image.astype(float), ndimage.binary_erosion(inside, iterations=4)
    envelope = inside & ~ndimage.binary_erosion(inside)
    assert image[envelope].mean() < image[deep].mean() - 25


def test_neurites_are_whole_around_a_body(body: Scene) -> None:
    truth = body.rendered.truth
    for name in np.unique(truth[truth > 0]):
        assert ndimage.label(truth == name)[1] == 1, name
    assert (truth == 0).mean() < 0.002


def test_skeletons_enter_a_body(body: Scene) -> None:
    truth, actual = body.rendered.truth, BODY.skeletons(ROOMY)
    voxels = np.rint(actual.places).astype(int) - np.array(ROOMY.start)
    np.testing.assert_array_equal(truth[tuple(voxels.T)], actual.owner)
    ends = np.searchsorted(actual.names, actual.edges)
    assert np.isin(actual.edges, actual.names).all()
    graph = coo_array((np.ones(len(ends)), ends.T), (len(actual.names),) * 2)
    count, _ = connected_components(graph, directed=False)
    assert count == len(np.unique(actual.owner))
    assert len(ends) == len(actual.names) - count
    middle = actual.names == actual.names.max()
    assert actual.radii[middle] == 14 + 0.6 * 10
    assert (actual.edges[:, 1] == actual.names[middle]).sum() > 1
    low, high = ROOMY.start, ROOMY.stop
    halves = [Box(low, (30, *high[1:])), Box((30, *low[1:]), high)]
    parts = [BODY.skeletons(half) for half in halves]
    assert sorted(np.concatenate([part.names for part in parts])) == actual.names.tolist()
    assert sum(len(part.edges) for part in parts) == len(actual.edges)


def test_longer_voxels_are_every_other_section() -> None:
    coarse = Box((-3, 20, 3), (33, 110, 99))
    fine = Neuropil(coarse.zoom_in((2, 1, 1)), seed=4, synapses=True, noise=0.0)
    half = Neuropil(coarse, seed=4, synapses=True, noise=0.0, every=2)
    box = Box((0, 30, 20), (15, 70, 60))
    got, all_of_it = volumes(half.scene(box)), volumes(fine.scene(box.zoom_in((2, 1, 1))))
    for name in ("truth", "image", "mitochondria", "synapses", "sides"):
        np.testing.assert_array_equal(got[name], all_of_it[name][::2], err_msg=name)
    assert got["affinity"].shape == (3, *box.shape)
    far, near = half.skeletons(box), fine.skeletons(box.zoom_in((2, 1, 1)))
    np.testing.assert_array_equal(far.places * [2, 1, 1], near.places)
    np.testing.assert_array_equal(far.places_nm((20.0, 10.0, 10.0)), near.places * 10.0)


def test_shares_and_steps_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a sum of at most 1; got 0.7 and 0.4"):
        Neuropil(BOUNDS, missing=0.7, repeated=0.4)
    with pytest.raises(ValueError, match="expected every >= 1 and drift >= 0; got every=0"):
        Neuropil(BOUNDS, every=0)
    with pytest.raises(
        ValueError,
        match="nucleus: expected 0, or at least 14 voxels, the width of a neurite; got 9",
    ):
        Neuropil(BOUNDS, nucleus=9)
    with pytest.raises(ValueError, match="need bounds of at least 116 voxels along each"):
        Neuropil(BOUNDS, nucleus=24)
