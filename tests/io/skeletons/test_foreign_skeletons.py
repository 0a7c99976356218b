"""Skeleton files that other programs wrote: headers, byte order marks, packed files, units."""

import bz2
import gzip
import json
import lzma

import imagecodecs
import numpy as np
import pytest

from volflow.core.geometry import Box
from volflow.errors import StorageError
from volflow.io.skeletons import SkeletonSet
from volflow.io.skeletons.placed_nodes import Nodes
from volflow.io.skeletons.units import suspicious

NODES = "1 1 10 20 30 1 -1\n2 3 12 20 30 1 1\n"
PACKED = {
    ".gz": gzip.compress,
    ".br": imagecodecs.brotli_encode,
    ".zstd": imagecodecs.zstd_encode,
    ".zst": imagecodecs.zstd_encode,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path, encoding):
    path = tmp_path / "1.swc"
    path.write_bytes(NODES.replace("\n", "\r\n").encode(encoding))
    assert len(SkeletonSet.open(f"swc://{path}").read(1)) == 2


@pytest.mark.parametrize(
    ("header", "query", "first"),
    [
        ("# OFFSET 1 2 3", "", (33, 22, 11)),
        ("#offset: 1,2,3", "", (33, 22, 11)),
        ("# OFFSET 1 2 3", "?unit_nm=10", (330, 220, 110)),
        ("# OFFSET 1 2 3", "?axis_order=zyx", (11, 22, 33)),
        ("# OFFSET 1 2 3", "?header=ignore", (30, 20, 10)),
        ("# SCALE 1.0 1.0 1.0\n# the offset of 5 was removed", "", (30, 20, 10)),
        ("# SCALE 2 2 2", "?header=ignore", (30, 20, 10)),
    ],
)
def test_the_offset_of_a_header_counts(tmp_path, header, query, first):
    (tmp_path / "1.swc").write_text(f"{header}\n{NODES}")
    skeleton = SkeletonSet.open(f"swc://{tmp_path}{query}").read(1)
    assert tuple(skeleton.position[0]) == first


@pytest.mark.parametrize("header", ["# SCALE 2 2 2", "# OFFSET 1 2", "# OFFSET 1 2 nan"])
def test_a_header_that_is_not_understood_is_refused(tmp_path, header):
    (tmp_path / "1.swc").write_text(f"# by hand\n{header}\n{NODES}")
    with pytest.raises(StorageError, match=r"1.swc:2: expected .*\?header=ignore"):
        SkeletonSet.open(f"swc://{tmp_path}").read(1)
    with pytest.raises(StorageError, match="header: expected apply or ignore; got 'no'"):
        SkeletonSet.open(f"swc://{tmp_path}?header=no")


def body(shift):
    nodes = np.array([[10, 10, 10], [100, 100, 100]], "<f4") + np.float32(shift)
    return np.array([2, 1], "<u4").tobytes() + nodes.tobytes() + np.array([0, 1], "<u4").tobytes()


def test_packed_skeletons_are_read(tmp_path):
    info = {"@type": "neuroglancer_skeletons", "vertex_attributes": []}
    (tmp_path / "info").write_text(json.dumps(info))
    (tmp_path / "4").write_bytes(body(4))
    for number, (ending, pack) in enumerate(PACKED.items(), 5):
        (tmp_path / f"{number}{ending}").write_bytes(pack(body(number)))
    skeletons = SkeletonSet.open(f"precomputed-skeletons://{tmp_path}")
    assert list(skeletons.titles) == [4, 5, 6, 7, 8, 9, 10]
    for name in skeletons.titles:
        assert skeletons.read(name).position[0].tolist() == [10.0 + name] * 3
    (tmp_path / "6.br").write_bytes(b"no brotli")
    with pytest.raises(StorageError, match=r"6\.br cannot be unpacked"):
        skeletons.read(6)
    (tmp_path / "11.lz4").write_bytes(b"")
    with pytest.raises(StorageError, match=r"expected files named by a number.*; got 11\.lz4"):
        SkeletonSet.open(f"precomputed-skeletons://{tmp_path}")


@pytest.mark.parametrize(
    ("unit", "text"),
    [(1.0, ""), (0.001, "all 9 nodes are in one voxel"), (0.003, "the median edge is 0.3 nm long")],
)
def test_the_unit_of_a_tracing_is_judged(tmp_path, unit, text):
    lines = [f"{i} 0 {100 * i * unit} 0 0 1 {i - 1 if i > 1 else -1}" for i in range(1, 10)]
    if text.startswith("the median"):  # one long edge, so that not all are in one voxel
        lines.append("10 0 500 0 0 1 9")
    (tmp_path / "1.swc").write_text("\n".join(lines))
    skeletons = SkeletonSet.open(f"swc://{tmp_path}")
    nodes = Nodes(skeletons.read_all()[0], Box((0, 0, 0), (99, 99, 99)), (40.0, 8.0, 8.0))
    assert suspicious(nodes, (40.0, 8.0, 8.0)).startswith(text)
    assert bool(suspicious(nodes, (40.0, 8.0, 8.0))) == bool(text)
    assert not skeletons.has_unit
    assert SkeletonSet.open(f"swc://{tmp_path}?unit_nm=1").has_unit
