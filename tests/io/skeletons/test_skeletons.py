"""Skeletons read as they were written, by us and by others; errors name the place."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.public_data import public_data
from volflow.core.geometry import BlockGrid, Box
from volflow.core.skeleton import Skeleton
from volflow.errors import StorageError
from volflow.io.skeletons.placed_nodes import Nodes, placed_nodes
from volflow.io.skeletons.sets import SkeletonSet, write_skeletons
from volflow.io.skeletons.swc import Scaling, format_swc, parse_swc
from volflow.io.skeletons.units import misplaced

RESOLUTION = (30.0, 8.0, 4.0)
BOUNDS = Box((-3, 5, 100), (147, 133, 330))


def forest(name: int, nodes: int, seed: int, shuffled: bool = True) -> Skeleton:
    """A random forest whose positions, a few micrometres wide, are exact in float32."""
    random = np.random.default_rng(seed)
    position = random.integers(-64, 4096, (nodes, 3)) / 4
    parent = np.array([random.integers(-1, n) if n else -1 for n in range(nodes)], np.int64)
    radius = random.integers(0, 64, nodes) / 8
    order = random.permutation(nodes) if shuffled else np.arange(nodes)
    place = np.argsort(order)
    parent = np.where(parent < 0, -1, place[parent])[order]
    return Skeleton(name, position[order], parent, radius[order])


forests = st.builds(forest, st.integers(0, 2**64 - 1), st.integers(0, 30), st.integers(0, 99))


def equal(one: Skeleton, other: Skeleton) -> None:
    """The same nodes in the same order."""
    assert one.name == other.name
    np.testing.assert_array_equal(one.position, other.position)
    np.testing.assert_array_equal(one.parent, other.parent)
    np.testing.assert_array_equal(one.radius, other.radius)


def same_graph(one: Skeleton, other: Skeleton) -> None:
    """The same nodes and edges, whichever nodes are roots."""
    assert one.name == other.name
    np.testing.assert_array_equal(one.position, other.position)
    np.testing.assert_array_equal(one.radius, other.radius)
    edges = [{tuple(sorted(edge)) for edge in each.edges.tolist()} for each in (one, other)]
    assert edges[0] == edges[1]


# --- SWC -----------------------------------------------------------------------------------------

SCATTERED = """# a comment
  7 3 1.5 20 30 0.5 12   # a child before its parent
12 1 10 20 30 -1 -1
3 0 0 0 0 4 -1

90 3 1 2 3 4 7 and more columns
"""


def test_ids_with_gaps_in_any_order_several_roots_and_comments() -> None:
    actual = parse_swc(SCATTERED, 5, "a.swc", Scaling("xyz", (2.0, 3.0, 4.0), 10.0))
    assert actual.name == 5
    assert actual.parent.tolist() == [1, -1, -1, 0]
    assert actual.position[0].tolist() == [60, 60, 6]  # 30*2, 20*3, 1.5*4: z, y, x
    assert actual.radius.tolist() == [5, 0, 40, 40]  # -1 is: not known


def test_columns_in_the_order_z_y_x() -> None:
    actual = parse_swc(SCATTERED, 5, "a.swc", Scaling("zyx", (2.0, 3.0, 4.0), 10.0))
    assert actual.position[0].tolist() == [3, 60, 120]


@given(forests, st.sampled_from(["xyz", "zyx"]))
def test_swc_is_read_as_it_was_written(skeleton: Skeleton, order: str) -> None:
    scaling = Scaling(order, (2.0, 0.5, 8.0), 4.0)  # powers of two, which lose no bit
    equal(parse_swc(format_swc(skeleton, scaling), skeleton.name, "", scaling), skeleton)


def test_positions_in_nanometres_keep_their_last_bit() -> None:
    random = np.random.default_rng(1)
    parent = np.arange(-1, 99)
    skeleton = Skeleton(1, random.normal(0, 1e5, (100, 3)), parent, random.random(100))
    equal(parse_swc(format_swc(skeleton, Scaling()), 1, "", Scaling()), skeleton)


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ("3 0 1 2 3 4", r"a\.swc:3: expected 7 columns .*; got 6: '3 0 1 2 3 4'"),
        ("3 0 1 b 3 4 1", r"a\.swc:3: y is 'b'; expected a number"),
        ("3 0 1 2 nan 4 1", r"a\.swc:3: z is nan; expected finite numbers \(1 of 3 nodes"),
        ("3 0 1 2 3 nan 1", r"a\.swc:3: radius is nan"),
        ("3 0 1 2 3 -2 1", r"a\.swc:3: the radius -2 is negative"),
        ("3 0 1 2 3 4 9", r"a\.swc:3: node 3 has the parent 9, which is not in the file"),
        ("3.5 0 1 2 3 4 1", r"a\.swc:3: id is 3.5; expected an integer"),
        ("1 0 1 2 3 4 -1", r"a\.swc:3: node 1 occurs already in line 1"),
        ("3 0 1 2 3 4 3", r"a\.swc:3: node 3 is its own ancestor: edges form a cycle"),
    ],
)
def test_what_is_wrong_in_a_file_is_reported_with_its_line(line: str, reported: str) -> None:
    text = f"1 0 0 0 0 1 -1\n2 0 0 0 0 1 1\n{line}\n"
    with pytest.raises(StorageError, match=reported):
        parse_swc(text, 1, "a.swc", Scaling())


def test_of_a_circle_with_a_tail_a_line_on_the_circle_is_reported() -> None:
    text = "5 0 0 0 0 1 4\n4 0 0 0 0 1 3\n3 0 0 0 0 1 2\n2 0 0 0 0 1 3\n1 0 0 0 0 1 -1\n"
    with pytest.raises(StorageError, match=r"a\.swc:3: node 3 is .*cycle \(2 such lines\)"):
        parse_swc(text, 1, "a.swc", Scaling())


# --- sets ----------------------------------------------------------------------------------------


def test_a_folder_of_files_named_by_numbers(tmp_path: Path) -> None:
    every = [forest(name, 12, name) for name in (2**64 - 1, 3, 20)]
    write_skeletons(f"swc://{tmp_path}/all", every)
    (tmp_path / "all" / "notes.txt").write_text("not one of them")
    for address in (f"swc://{tmp_path}/all", str(tmp_path / "all")):
        actual = SkeletonSet.open(address)
        assert list(actual.titles) == [3, 20, 2**64 - 1]
        for read, written in zip(
            actual.read_all()[0], sorted(every, key=lambda s: s.name), strict=True
        ):
            equal(read, written)
        equal(actual.read(20), every[2])


def test_a_zip_of_files_named_by_words(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        for name, x in (("deep/b.swc", 2), ("a.swc", 1), ("__MACOSX/._a.swc", 0), ("c.txt", 0)):
            archive.writestr(name, f"1 0 {x} 0 0 1 -1\n")
    actual = SkeletonSet.open(str(tmp_path / "t.zip"))
    assert actual.titles == {1: "a.swc", 2: "b.swc"}
    assert [one.position[0, 2] for one in actual.read_all()[0]] == [1, 2]


def test_options_of_an_address(tmp_path: Path) -> None:
    (tmp_path / "8.swc").write_text("1 0 1 2 3 1 -1\n2 0 1 2 7 3 1\n")
    one = SkeletonSet.open(f"swc://{tmp_path}/8.swc?unit_nm=10,4,2&axis_order=zyx").read(8)
    assert one.position.tolist() == [[10, 8, 6], [10, 8, 14]]
    assert one.radius.tolist() == [2, 6]  # by default the smallest unit
    fine = SkeletonSet.open(f"swc://{tmp_path}/8.swc?unit_nm=2&radius_nm=5&spacing_nm=2").read(8)
    assert len(fine) == 5
    assert fine.lengths.tolist() == [2] * 4
    assert fine.radius.tolist() == [5, 15, 12.5, 10, 7.5]  # new nodes from the child up


@pytest.mark.parametrize(
    ("query", "reported"),
    [
        ("unit=8", "no option 'unit' .*axis_order, unit_nm, radius_nm, spacing_nm"),
        ("axis_order=yxz", "axis_order: expected xyz or zyx; got 'yxz'"),
        ("unit_nm=8,8", "unit_nm: expected one number, or three"),
        ("unit_nm=0", "unit_nm: expected a positive number of nanometres; got '0'"),
        ("spacing_nm=nan", "spacing_nm: expected a positive number"),
    ],
)
def test_wrong_options_are_reported(tmp_path: Path, query: str, reported: str) -> None:
    (tmp_path / "8.swc").write_text("1 0 1 2 3 1 -1\n")
    with pytest.raises(StorageError, match=reported):
        SkeletonSet.open(f"swc://{tmp_path}?{query}")


def test_what_is_no_set_of_skeletons_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no files \.swc"):
        SkeletonSet.open(f"swc://{tmp_path}")
    with pytest.raises(StorageError, match="no skeletons there"):
        SkeletonSet.open(str(tmp_path))
    with pytest.raises(StorageError, match="no 'info' of skeletons"):
        SkeletonSet.open(f"precomputed-skeletons://{tmp_path}")
    with pytest.raises(StorageError, match="precomputed is a format of volumes"):
        SkeletonSet.open(f"precomputed://{tmp_path}")
    with pytest.raises(StorageError, match="expected one skeleton for one file; got 2"):
        write_skeletons(f"swc://{tmp_path}/a.swc", [forest(1, 2, 0), forest(2, 2, 0)])
    (tmp_path / "1.swc").write_text("1 0 0 0 0 1 7\n")
    with pytest.raises(StorageError, match=r"1\.swc:1: node 1 has the parent 7"):
        SkeletonSet.open(str(tmp_path)).read_all()


def test_the_digest_is_of_bytes_and_options(tmp_path: Path) -> None:
    write_skeletons(f"swc://{tmp_path}", [forest(1, 9, 1), forest(2, 9, 2)])
    first = SkeletonSet.open(f"swc://{tmp_path}").read_all()[1]
    assert SkeletonSet.open(f"swc://{tmp_path}").read_all()[1] == first
    assert SkeletonSet.open(f"swc://{tmp_path}?unit_nm=2").read_all()[1] != first
    with (tmp_path / "2.swc").open("a") as file:
        file.write("# one more line\n")
    assert SkeletonSet.open(f"swc://{tmp_path}").read_all()[1] != first


# --- precomputed ---------------------------------------------------------------------------------


@settings(max_examples=15)
@given(st.lists(forests, min_size=1, max_size=6, unique_by=lambda s: s.name), st.booleans())
def test_precomputed_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, every: list[Skeleton], shard: bool
) -> None:
    address = f"precomputed-skeletons://{tmp_path_factory.mktemp('s')}"
    write_skeletons(address, every, shard=shard)
    actual = SkeletonSet.open(address)
    assert list(actual.titles) == sorted(skeleton.name for skeleton in every)
    for written in every:
        same_graph(actual.read(written.name), written)


@pytest.mark.parametrize("shard", [False, True])
def test_cloud_volume_reads_what_we_wrote(tmp_path: Path, shard: bool) -> None:
    every = [forest(name, 40, name) for name in range(1, 200 if shard else 5)]
    volume = other(tmp_path)
    write_skeletons(f"precomputed-skeletons://{tmp_path}/v/skeletons", every, shard=shard)
    assert (tmp_path / "v" / "skeletons" / "3").exists() != shard
    volume.skeleton.meta.refresh_info()
    volume = other(tmp_path, new=False)
    for written in every[:: len(every) // 4]:
        read = volume.skeleton.get(written.name)
        np.testing.assert_array_equal(read.vertices[:, ::-1], written.position)
        np.testing.assert_array_equal(read.radius, written.radius)
        mine = {tuple(sorted(edge)) for edge in written.edges.tolist()}
        assert {tuple(sorted(edge)) for edge in read.edges.tolist()} == mine


@pytest.mark.parametrize("shard", [False, True])
def test_we_read_what_cloud_volume_wrote(tmp_path: Path, shard: bool) -> None:
    from cloudvolume import Skeleton as Theirs

    every = [forest(name, 40, name) for name in (3, 2**40)]
    volume = other(tmp_path)
    # stored in voxels of 4 x 8 x 30 nm, x first
    matrix = np.array([[4, 0, 0, 100], [0, 8, 0, 0], [0, 0, 30, -60]], np.float32)
    info = volume.skeleton.meta.info
    info["transform"] = [float(value) for value in matrix.ravel()]
    info["vertex_attributes"] = [
        {"id": "vertex_types", "data_type": "uint8", "num_components": 1},
        {"id": "radius", "data_type": "float32", "num_components": 1},
    ]
    if shard:
        info["sharding"] = {
            "@type": "neuroglancer_uint64_sharded_v1", "preshift_bits": 1,
            "hash": "murmurhash3_x86_128", "minishard_bits": 2, "shard_bits": 0,
            "minishard_index_encoding": "gzip", "data_encoding": "raw",
        }  # fmt: skip
    volume.skeleton.meta.commit_info()
    volume = other(tmp_path, new=False)
    theirs = [
        Theirs(
            vertices=one.position[:, ::-1].astype(np.float32),
            edges=one.edges.astype(np.uint32),
            radii=one.radius.astype(np.float32),
            vertex_types=np.full(len(one), 2, np.uint8),
            segid=one.name,
            extra_attributes=info["vertex_attributes"],
        )
        for one in every
    ]
    volume.skeleton.upload(theirs)
    actual = SkeletonSet.open(f"precomputed-skeletons://{tmp_path}/v/skeletons")
    assert list(actual.titles) == [3, 2**40]
    factor = (4 * 8 * 30) ** (1 / 3)
    for one in every:
        moved = one.position * [30, 8, 4] + [-60, 0, 100]
        read = actual.read(one.name)
        same_graph(read, Skeleton(one.name, moved, one.parent, read.radius))
        np.testing.assert_allclose(read.radius, one.radius * factor)


def other(folder: Path, new: bool = True):
    """The small volume next to which the other library stores skeletons."""
    from cloudvolume import CloudVolume

    path = f"file://{folder}/v"
    if new:
        info = CloudVolume.create_new_info(
            num_channels=1, layer_type="segmentation", data_type="uint64", encoding="raw",
            resolution=[4, 8, 30], voxel_offset=[0, 0, 0], chunk_size=[8, 8, 8],
            volume_size=[8, 8, 8], skeletons="skeletons",
        )  # fmt: skip
        volume = CloudVolume(path, info=info, progress=False)
        volume.commit_info()
        volume.skeleton.meta.commit_info()
    return CloudVolume(path, progress=False)


@pytest.mark.parametrize("format_", ["swc", "precomputed-skeletons", "sharded"])
def test_skeletons_in_a_store_that_is_no_file_system(format_: str) -> None:
    every = [forest(name, 20, name) for name in (1, 2)]
    shard = format_ == "sharded"
    address = f"{'precomputed-skeletons' if shard else format_}://memory://skeletons/{format_}"
    write_skeletons(address, every, shard=shard)
    actual = SkeletonSet.open(address)
    for written, read in zip(every, actual.read_all()[0], strict=True):
        same_graph(read, written)


def test_damaged_and_missing_precomputed_skeletons_are_reported(tmp_path: Path) -> None:
    address = f"precomputed-skeletons://{tmp_path}"
    write_skeletons(address, [forest(1, 8, 1), forest(2, 8, 2)])
    body = (tmp_path / "1").read_bytes()
    (tmp_path / "1.gz").write_bytes(gzip.compress(body))
    (tmp_path / "1").unlink()
    same_graph(SkeletonSet.open(address).read(1), forest(1, 8, 1))
    (tmp_path / "2").write_bytes(body[:-1])
    with pytest.raises(
        StorageError, match=r"skeleton 2: expected \d+ bytes for 8 nodes and \d edges"
    ):
        SkeletonSet.open(address).read_all()
    with pytest.raises(StorageError, match="no skeleton 5"):
        SkeletonSet.open(f"{address}?ids=1,5").read_all()
    with pytest.raises(StorageError, match="ids: expected numbers"):
        SkeletonSet.open(f"{address}?ids=one")
    assert list(SkeletonSet.open(f"{address}?ids=1").titles) == [1]


# --- nodes in voxels -----------------------------------------------------------------------------


def scattered(seed: int, count: int) -> list[Skeleton]:
    """Skeletons with nodes in and around the bounds."""
    random = np.random.default_rng(seed)
    actual = []
    for name in range(count):
        one = forest(name * 7 + 1, int(random.integers(0, 60)), seed + name)
        low, side = np.array(BOUNDS.start) - 20, np.array(BOUNDS.shape) + 40
        place = (low + random.random((len(one), 3)) * side) * RESOLUTION
        actual.append(Skeleton(one.name, place, one.parent, one.radius))
    return actual


@settings(max_examples=25)
@given(
    st.integers(0, 99),
    st.tuples(st.integers(20, 200), st.integers(20, 200), st.integers(20, 300)),
    st.integers(0, 9),
)
def test_every_node_is_the_own_one_of_one_block(seed, shape, halo) -> None:
    skeletons = scattered(seed, 5)
    nodes = Nodes(skeletons, BOUNDS, RESOLUTION)
    everything = np.concatenate([np.zeros((0, 3)), *(one.position for one in skeletons)])
    voxel = np.floor(everything / RESOLUTION + 0.5)
    clipped = np.clip(voxel, BOUNDS.start, np.array(BOUNDS.stop) - 1)
    owners = np.zeros(len(nodes), int)
    for block in BlockGrid(BOUNDS, shape, (halo, 0, halo)):
        actual = nodes.near(block)
        inside = (clipped >= block.read.start) & (clipped < block.read.stop)
        number = np.flatnonzero(inside.all(axis=1))
        np.testing.assert_array_equal(actual["node"], number)
        np.testing.assert_array_equal(actual["voxel"] + block.read.start, clipped[number])
        np.testing.assert_array_equal(actual["position"], everything[number])
        np.testing.assert_array_equal(actual["outside"], (voxel != clipped)[number].any(axis=1))
        child = actual["parent"] >= 0
        assert (actual["parent_position"][child] == everything[actual["parent"][child]]).all()
        assert (actual["parent_position"][~child] == actual["position"][~child]).all()
        owners[number] += actual["own"]
    np.testing.assert_array_equal(owners, 1)


@settings(max_examples=25)
@given(
    st.integers(0, 99),
    st.tuples(st.integers(20, 200), st.integers(20, 200), st.integers(20, 300)),
    st.sampled_from([0.0, 100.0, 3000.0]),
)
def test_an_edge_is_reported_to_every_block_that_it_reaches(seed, shape, thick) -> None:
    skeletons = [
        Skeleton(one.name, one.position, one.parent, one.radius + thick * (one.radius > 6))
        for one in scattered(seed, 5)
    ]
    nodes = Nodes(skeletons, BOUNDS, RESOLUTION)
    child = np.flatnonzero(nodes.parent >= 0)
    above = nodes.parent[child]
    gone = nodes.position[child] - nodes.position[above]
    beyond = np.sqrt((gone**2).sum(axis=1)) + np.maximum(nodes.radius[child], nodes.radius[above])
    ends = np.stack([nodes.position[child], nodes.position[above]])
    low, high = ends.min(axis=0) - beyond[:, None], ends.max(axis=0) + beyond[:, None]
    for block in BlockGrid(BOUNDS, shape):
        actual = nodes.near(block)
        start, stop = (
            np.array(block.read.start) * RESOLUTION,
            block.read.stop * np.array(RESOLUTION),
        )
        reached = child[((low < stop) & (high >= start)).all(axis=1)]
        assert set(reached) <= set(actual["edge"])
        wider = np.array(RESOLUTION) * 3  # whole voxels, and one more on each side
        near = child[((low < stop + wider) & (high >= start - wider)).all(axis=1)]
        assert set(actual["edge"]) <= set(near)
        edge = actual["edge"]
        assert (np.diff(edge) > 0).all()
        np.testing.assert_array_equal(actual["edge_ends"][:, 1], nodes.parent[edge])
        np.testing.assert_array_equal(actual["edge_position"][:, 0], nodes.position[edge])
        np.testing.assert_array_equal(actual["edge_radius"][:, 1], nodes.radius[nodes.parent[edge]])


def test_nodes_of_one_order_whatever_the_parents() -> None:
    skeletons = scattered(3, 4)
    nodes = Nodes(skeletons, BOUNDS, RESOLUTION)
    first = np.cumsum([0, *map(len, skeletons)])
    for skeleton, start in zip(skeletons, first, strict=False):
        own = nodes.parent[start : start + len(skeleton)]
        np.testing.assert_array_equal(np.where(own < 0, -1, own - start), skeleton.parent)
        assert (nodes.skeleton[start : start + len(skeleton)] == skeleton.name).all()


def test_skeletons_that_changed_after_planning_are_an_error(tmp_path: Path) -> None:
    write_skeletons(f"swc://{tmp_path}", [forest(1, 9, 1)])
    content = SkeletonSet.open(f"swc://{tmp_path}").read_all()[1]
    assert len(placed_nodes(f"swc://{tmp_path}", content, BOUNDS, RESOLUTION)) == 9
    with pytest.raises(StorageError, match="changed during the run"):
        placed_nodes(f"swc://{tmp_path}", "another", BOUNDS, RESOLUTION)


# --- units ---------------------------------------------------------------------------------------


def inside(count: int = 200) -> np.ndarray:
    """Places in nanometres within the bounds."""
    random = np.random.default_rng(5)
    return (
        np.array(BOUNDS.start) + random.random((count, 3)) * (np.array(BOUNDS.shape) - 1)
    ) * RESOLUTION


def reported(position: np.ndarray) -> str:
    line = np.arange(-1, len(position) - 1)
    one = Skeleton(1, position, line, np.ones(len(position)))
    return misplaced(Nodes([one], BOUNDS, RESOLUTION), RESOLUTION)


def test_nodes_in_the_right_unit_raise_no_question() -> None:
    assert reported(inside()) == ""
    assert reported(np.zeros((0, 3))) == "expected nodes, got none"


@pytest.mark.parametrize(
    ("factor", "axes", "guess"),
    [
        (RESOLUTION, [0, 1, 2], "as voxels of 30 x 8 x 4 nm, axes unchanged, 100% of them"),
        ((1e3, 1e3, 1e3), [0, 1, 2], "as micrometres, axes unchanged, 100% of them"),
        ((0.1, 0.1, 0.1), [0, 1, 2], "as angstroms, axes unchanged, 100% of them"),
        ((1, 1, 1), [2, 1, 0], "as nanometres, axes x and z swapped, 100% of them"),
        (RESOLUTION, [2, 1, 0], "as voxels of 30 x 8 x 4 nm, axes x and z swapped"),
        ((7e-5, 7e-5, 7e-5), [0, 1, 2], "no common unit and order"),
    ],
)
def test_the_unit_of_misplaced_nodes_is_guessed(factor, axes, guess) -> None:
    text = reported((inside() / factor)[:, axes])
    assert guess in text
    assert "of 200 nodes are outside the volume" in text
    assert "the volume -90 to 4410, 40 to 1064, 400 to 1320 nm" in text


# --- public data ---------------------------------------------------------------------------------


def test_neurons_of_the_hemibrain() -> None:
    folder = public_data("hemibrain_da1_skeletons")
    actual, _ = SkeletonSet.open(f"swc://{folder}?unit_nm=8").read_all()
    assert [one.name for one in actual] == [722817260, 754534424, 1734350788, 1734350908]
    assert [len(one) for one in actual] == [4332, 4696, 4465, 4847]
    first = actual[2]
    assert first.position[0].tolist() == [28062 * 8, 37250 * 8, 15784 * 8]
    assert first.radius[1] == pytest.approx(18.2843 * 8)
    assert first.lengths.sum() == pytest.approx(2.1318e6, rel=1e-4)
    low = np.floor(np.min([one.position.min(axis=0) for one in actual], axis=0) / 8)
    high = np.ceil(np.max([one.position.max(axis=0) for one in actual], axis=0) / 8) + 1
    box = Box(tuple(low.astype(int)), tuple(high.astype(int)))
    assert misplaced(Nodes(actual, box, (8.0, 8.0, 8.0)), (8.0, 8.0, 8.0)) == ""
    wrong, _ = SkeletonSet.open(f"swc://{folder}?axis_order=zyx").read_all()
    text = misplaced(Nodes(wrong, box, (8.0, 8.0, 8.0)), (8.0, 8.0, 8.0))
    assert "18340 of 18340 nodes" in text
    assert "voxels of 8 x 8 x 8 nm, axes x and z swapped, 100% of them" in text


def test_zips_of_traced_and_predicted_neurites() -> None:
    folder = public_data("exaspim_swc_pairs")
    for name, count, first in (("pred", 15, 7408635512), ("target", 14, 1)):
        actual = SkeletonSet.open(f"swc://{folder}/{name}_swcs.zip?axis_order=zyx")
        assert len(actual.titles) == count
        assert next(iter(actual.titles)) == first
        assert all(len(one) for one in actual.read_all()[0])
