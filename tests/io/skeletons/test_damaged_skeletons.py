"""Damaged skeletons: the error names the file, or the skeleton in a shard."""

from __future__ import annotations

import pytest

from tests.fuzz.texts import _precomputed
from volflow.errors import StorageError
from volflow.io.skeletons import SkeletonSet


def read(folder):
    return SkeletonSet.open(f"precomputed-skeletons://{folder}/skeletons").read_all()[0]


def test_a_packed_skeleton_is_named(tmp_path):
    _precomputed("gz", tmp_path)
    assert len(read(tmp_path)) == 3
    path = tmp_path / "skeletons/2.gz"
    body = path.read_bytes()
    flipped = bytearray(body)
    flipped[-100] ^= 16
    for damaged in (b"", body[:-3], body[: len(body) // 2], bytes(flipped), b"\0" + body[1:]):
        path.write_bytes(damaged)
        with pytest.raises(StorageError, match=r"skeletons/2\.gz"):
            read(tmp_path)


def test_an_empty_shard_is_not_passed_over(tmp_path):
    _precomputed("sharded", tmp_path)
    assert len(read(tmp_path)) == 8
    (tmp_path / "skeletons/0.shard").write_bytes(b"")
    with pytest.raises(StorageError, match=r"0\.shard"):
        read(tmp_path)


def test_a_skeleton_that_is_damaged_in_its_shard_is_named(tmp_path):
    _precomputed("sharded", tmp_path)
    path = tmp_path / "skeletons/0.shard"
    body = bytearray(path.read_bytes())
    body[60] ^= 16
    path.write_bytes(body)
    with pytest.raises(StorageError, match=r"skeletons: skeleton [1-8]: cannot be read"):
        read(tmp_path)
