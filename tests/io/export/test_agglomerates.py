"""The attachment of webKnossos, written and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
from hypothesis import given
from hypothesis import strategies as st

from volflow.errors import StorageError
from volflow.io.export.agglomerates import agglomerate_arrays, write_agglomerates


def tables(segments: list[int], edges: list[tuple[int, int]]) -> tuple[Any, Any]:
    """Supervoxels 10, 20, ... with these segments, in reverse order, and contacts of them."""
    labels = np.arange(1, len(segments) + 1, dtype=np.uint64)[::-1] * np.uint64(10)
    parts = {"supervoxel": labels, "segment": np.array(segments[::-1], np.uint64)}
    parts |= {axis: labels.astype(np.int64) * n for n, axis in enumerate("zyx", 1)}
    contacts = {
        f"supervoxel_{n + 1}": np.array([10 * edge[n] for edge in edges], np.uint64)
        for n in range(2)
    }
    contacts["affinity"] = np.arange(1, len(edges) + 1) / 16
    return parts, contacts


def test_two_agglomerates(tmp_path: Path) -> None:
    """Supervoxels 1, 2, 3, 4 and 7 are in one, 5 and 6 in the other."""
    edges = [(1, 2), (2, 3), (3, 4), (5, 6), (1, 7), (4, 5)]  # the last between the two
    write_agglomerates(str(tmp_path / "a.zarr"), *tables([8, 8, 8, 8, 90, 90, 8], edges))
    group = json.loads((tmp_path / "a.zarr/zarr.json").read_text())
    assert group["attributes"]["voxelytics"]["artifact_schema_version"] == 4
    expected = {
        "segment_to_agglomerate": ("uint64", [0, 1, 1, 1, 1, 2, 2, 1]),
        "agglomerate_to_segments_offsets": ("uint64", [0, 0, 5, 7]),
        "agglomerate_to_segments": ("uint32", [1, 2, 3, 4, 7, 5, 6]),
        "agglomerate_to_edges_offsets": ("uint64", [0, 0, 4, 5]),
        "agglomerate_to_edges": ("uint32", [[0, 1], [0, 4], [1, 2], [2, 3], [0, 1]]),
        "agglomerate_to_affinities": ("float32", [1 / 16, 5 / 16, 2 / 16, 3 / 16, 4 / 16]),
        "agglomerate_to_positions": (
            "int32",
            [[30 * n, 20 * n, 10 * n] for n in (1, 2, 3, 4, 7, 5, 6)],
        ),
    }
    for name, (dtype, values) in expected.items():
        kvstore = {"driver": "file", "path": f"{tmp_path}/a.zarr/{name}"}
        array = ts.open({"driver": "zarr3", "kvstore": kvstore}).result().read().result()
        assert array.dtype.name == dtype, name
        assert array.tolist() == values, name


@given(
    segments=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    seed=st.integers(0, 99),
)
def test_every_supervoxel_is_listed_by_its_agglomerate(segments: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    ends = random.integers(1, len(segments) + 1, (20, 2))
    edges = sorted({(min(a, b), max(a, b)) for a, b in ends.tolist() if a != b})
    arrays = agglomerate_arrays(*tables(segments, edges))
    names = sorted({segment for segment in segments if segment})
    owner = [0, *(names.index(segment) + 1 if segment else 0 for segment in segments)]
    assert arrays["segment_to_agglomerate"].tolist() == owner
    back = set()
    for number in range(1, len(names) + 1):
        first, last = arrays["agglomerate_to_segments_offsets"][[number, number + 1]].tolist()
        listed = arrays["agglomerate_to_segments"][first:last].tolist()
        assert listed == [n for n, each in enumerate(owner) if n and each == number]
        first, last = arrays["agglomerate_to_edges_offsets"][[number, number + 1]].tolist()
        pairs = arrays["agglomerate_to_edges"][first:last].tolist()
        assert pairs == sorted(pairs)
        values = arrays["agglomerate_to_affinities"][first:last].tolist()
        back |= {(listed[a], listed[b], v) for (a, b), v in zip(pairs, values, strict=True)}
    inside = {
        (a, b, n / 16) for n, (a, b) in enumerate(edges, 1) if owner[a] and owner[a] == owner[b]
    }
    assert back == inside


def test_tables_that_do_not_fit() -> None:
    parts, contacts = tables([1, 1], [(1, 2)])
    with pytest.raises(StorageError, match=r"agglomeration: .*missing: segment, z"):
        agglomerate_arrays({k: parts[k] for k in ("supervoxel", "y", "x")}, contacts)
    with pytest.raises(StorageError, match="contacts: supervoxel 30 is not in the table"):
        agglomerate_arrays(parts, tables([1, 1, 1], [(2, 3)])[1])
