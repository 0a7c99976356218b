"""Shards by id: read back by tensorstore, each id in the shard that its hash names."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
from hypothesis import given, settings
from hypothesis import strategies as st

from volflow.io.uint64_shards import ShardLayout, shard_index, unpacked

IDS = st.sets(st.integers(0, (1 << 64) - 1) | st.integers(0, 40), max_size=40)


def by_shard(layout: ShardLayout, ids: set[int]) -> dict[int, dict[int, bytes]]:
    names = np.array(sorted(ids), np.uint64)
    shards: dict[int, dict[int, bytes]] = {}
    for name, shard in zip(names.tolist(), layout.shard_of(names).tolist(), strict=True):
        shards.setdefault(shard, {})[name] = b"%d" % name * (name % 7)  # some are empty
    return shards


@settings(max_examples=60, deadline=None)
@given(IDS, st.integers(0, 9), st.integers(0, 6), st.booleans())
def test_tensorstore_reads_all_objects_back_and_no_others(
    ids, shard_bits, minishard_bits, preceded
) -> None:
    layout = ShardLayout(shard_bits, minishard_bits)
    shards = by_shard(layout, ids)
    with tempfile.TemporaryDirectory() as folder:
        for shard, objects in shards.items():
            heads = {name: b"%d." % name * (name % 5) for name in objects} if preceded else {}
            body = layout.shard_bytes(objects, heads)
            (Path(folder) / layout.name(shard)).write_bytes(body)
            index = shard_index(lambda start, stop, body=body: body[start:stop], layout.metadata)
            assert sorted(index) == sorted(objects)
            for name, (start, stop) in index.items():
                assert unpacked(body[start:stop], "gzip") == objects[name]
                head = heads.get(name, b"")
                assert body[start - len(head) : start] == head
        store = ts.KvStore.open(
            {
                "driver": "neuroglancer_uint64_sharded",
                "base": f"file://{folder}/",
                "metadata": layout.metadata,
            }
        ).result()
        keys = [struct.unpack(">Q", key)[0] for key in store.list().result()]
        assert sorted(keys) == sorted(ids)
        for objects in shards.values():
            for name, body in objects.items():
                assert bytes(store.read(struct.pack(">Q", name)).result().value) == body


def test_the_order_of_objects_changes_no_byte_and_hashes_spread() -> None:
    layout = ShardLayout(3)
    ids = np.arange(1, 4001, dtype=np.uint64) << np.uint64(20)
    counts = np.bincount(layout.shard_of(ids).astype(int), minlength=8)
    assert counts.min() > 400
    (objects,) = by_shard(ShardLayout(0), set(ids[:50].tolist())).values()
    backwards = dict(reversed(objects.items()))
    assert ShardLayout(0).shard_bytes(objects) == ShardLayout(0).shard_bytes(backwards)


def test_ids_of_several_shards_or_beyond_64_bits_are_refused() -> None:
    layout = ShardLayout(4)
    with pytest.raises(ValueError, match="200 ids are of more than one shard"):
        layout.shard_bytes(dict.fromkeys(range(200), b"a"))
    with pytest.raises(ValueError, match=r"expected ids of 64 bits, .*; got 18446744073709551616"):
        layout.shard_bytes({1 << 64: b"a"})
    with pytest.raises(ValueError, match=r"from 0 to 64 in all; got \(60, 6\)"):
        ShardLayout(60)
