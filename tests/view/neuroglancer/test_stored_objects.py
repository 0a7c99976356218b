"""The segments that are shown first have the objects that Neuroglancer asks for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.view.paint import expected, painted
from volflow.io.uint64_shards import ShardLayout
from volflow.view.layers import run_layers
from volflow.view.neuroglancer.scene import make_scene
from volflow.view.neuroglancer.stored_objects import having_objects

IDS = (3, 1 << 60, 17, 18, 400, 401)


@pytest.mark.parametrize("encoding", ["gzip", "raw"])
def test_ids_in_any_shard(tmp_path: Path, encoding: str) -> None:
    layout = ShardLayout(2, 1, encoding)
    stored = np.array([IDS[1], IDS[3], IDS[4], *range(1000, 1040)], np.uint64)
    shards = layout.shard_of(stored)
    for shard in np.unique(shards).tolist():
        objects = {int(name): b"abc" for name in stored[shards == shard]}
        (tmp_path / layout.name(shard)).write_bytes(layout.shard_bytes(objects))
    (tmp_path / "info").write_text(json.dumps({"sharding": layout.metadata}))
    assert having_objects(str(tmp_path), IDS) == (IDS[1], IDS[3], IDS[4])
    assert having_objects(str(tmp_path), ()) == ()


def test_ids_in_files(tmp_path: Path) -> None:
    for key in ("3", "17.index", "18:0", "4000"):
        (tmp_path / key).write_bytes(b"")
    (tmp_path / "info").write_text("{}")
    assert having_objects(str(tmp_path), IDS) == (3, 17, 18)


def test_a_damaged_folder_leaves_all(tmp_path: Path) -> None:
    layout = ShardLayout(0, 1)
    (tmp_path / "info").write_text(json.dumps({"sharding": layout.metadata}))
    (tmp_path / layout.name(0)).write_bytes(bytes(range(40)))
    assert having_objects(str(tmp_path), IDS) == IDS
    assert having_objects(str(tmp_path / "nothing"), IDS) == IDS


def test_segments_too_small_for_a_mesh_are_not_shown_first(tmp_path: Path) -> None:
    pytest.importorskip("zmesh")
    pytest.importorskip("DracoPy")
    labels = expected()["segmentation"]
    sizes = dict(zip(*np.unique(labels[labels > 0], return_counts=True), strict=True))
    large = sorted(sizes.values())[len(sizes) // 2]
    meshes = {"use": "meshes", "in": {"labels": "segmentation"}, "with": {"min_size": int(large)}}
    assert painted(tmp_path / "run", meshes).ok
    shown = make_scene(run_layers(str(tmp_path / "run"))).layers[-1].segments
    assert shown
    assert set(shown) == {name for name, size in sizes.items() if size >= large}
    assert len(shown) < len(sizes)
