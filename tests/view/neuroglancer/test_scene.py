"""The state for Neuroglancer: layers, addresses, ids, and the position."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import volflow
from tests.view.paint import BOUNDS, FIRST, RESOLUTION, expected, painted
from volflow.errors import PlanError
from volflow.view.layers import run_layers
from volflow.view.neuroglancer.position import initial_view, largest
from volflow.view.neuroglancer.scene import make_scene, public_link
from volflow.view.neuroglancer.state import ViewerLayer, Viewpoint, link, viewer_state

PLACE = Viewpoint((100.0, 200.0, 300.0), (960.0, 640.0, 800.0), (20.0, 10.0, 5.0))


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=120) as answer:
        return bytes(answer.read())


def test_the_state_is_in_x_y_z_and_ids_are_text() -> None:
    layers = [
        ViewerLayer("em", "precomputed://u/em", "image", contrast=(3.0, 200.0)),
        ViewerLayer("seg", "precomputed://u/seg", "segmentation", segments=(FIRST + 1, 7)),
    ]
    state = json.loads(json.dumps(viewer_state(layers, PLACE)))
    assert list(state["dimensions"]) == ["x", "y", "z"]
    assert [side for side, unit in state["dimensions"].values()] == pytest.approx(
        [5e-9, 10e-9, 20e-9]
    )
    assert state["position"] == [60.0, 20.0, 5.0]
    assert state["crossSectionScale"] == pytest.approx(960 / 5 / 450)
    em, seg = state["layers"]
    assert (em["type"], em["shaderControls"]) == ("image", {"normalized": {"range": [3.0, 200.0]}})
    assert seg["segments"] == [str(FIRST + 1), "7"]
    assert state["selectedLayer"]["layer"] == "seg"


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_affinities_are_red_green_and_blue(channels: int) -> None:
    layer = ViewerLayer("a", "precomputed://u/a", "affinity", channels=channels)
    shader = viewer_state([layer], PLACE)["layers"][0]["shader"]
    read = [n for n in range(9) if f"getDataValue({n})" in shader]
    assert read == list(range(min(3, channels)))


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=9) | st.integers(), max_size=4))
def test_a_link_is_read_back(state: dict[str, Any]) -> None:
    text = link("https://viewer", state)
    assert " " not in text
    assert json.loads(unquote(text.split("#!", 1)[1])) == state


def test_largest_counts_and_leaves_0_out() -> None:
    labels = np.array([0] * 9 + [5] * 3 + [FIRST] * 4 + [2] * 3, np.uint64)
    assert largest(labels) == (FIRST, 2, 5)
    assert largest(labels, 1) == (FIRST,)
    assert largest(np.zeros(4, np.uint64)) == ()


def test_the_place_lies_in_the_largest_segment(run: Path) -> None:
    layers = run_layers(str(run))
    labels = layers.first("segmentation", "segmentation")
    place, ids = initial_view(layers, labels)
    voxel = [int(c // r) for c, r in zip(place.centre_nm, RESOLUTION, strict=True)]
    whole = expected()["segmentation"]
    index = tuple(v - a for v, a in zip(voxel, BOUNDS.start, strict=True))
    around = whole[tuple(slice(max(0, i - 1), i + 2) for i in index)]  # of the coarsest scale
    assert ids[0] in around
    assert set(ids) <= set(np.unique(whole).tolist())
    assert 0 not in ids
    assert place.extent_nm == tuple(
        float(n * r) for n, r in zip(BOUNDS.shape, RESOLUTION, strict=True)
    )


def test_without_segments_the_middle_is_looked_at(run: Path) -> None:
    place, ids = initial_view(run_layers(str(run)), None)
    assert ids == ()
    assert place.centre_nm == (32 * 20.0, 32 * 10.0, 56 * 10.0)


def test_the_layers_of_a_run_are_served_as_they_stand(run: Path) -> None:
    scene = make_scene(run_layers(str(run)))
    assert [layer.name for layer in scene.layers] == ["em", "affinity", "segmentation"]
    assert [layer.visible for layer in scene.layers] == [True, False, True]
    assert scene.notes == []
    with scene.serve() as server:
        state = json.loads(read(f"{server.url}/_state/state.json"))
        assert state == scene.state(server.url)
        assert public_link(server).endswith("/_state/state.json")
        for layer in state["layers"]:
            source = layer["source"].removeprefix("precomputed://")
            stored = (run / layer["name"] / "info").read_bytes()
            assert read(source + "info") == stored
        folder = next(each.name for each in (run / "segmentation").iterdir() if each.is_dir())
        chunk = next((run / "segmentation" / folder).iterdir())
        assert read(f"{server.url}/segmentation/{folder}/{chunk.name}") == chunk.read_bytes()
        for elsewhere in ("pipeline.yaml", "ledger/paint", "em/../pipeline.yaml"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                read(f"{server.url}/{elsewhere}")


def test_skeletons_are_served_with_the_segmentation_they_are_of(tmp_path: Path) -> None:
    pytest.importorskip("bioimage_cpp")
    skeletons = {"use": "skeletons", "name": "lines", "in": {"labels": "segmentation"}}
    assert painted(tmp_path / "run", skeletons).ok
    run = tmp_path / "run"
    with make_scene(run_layers(str(run))).serve() as server:
        layers = json.loads(read(f"{server.url}/_state/state.json"))["layers"]
        assert [isinstance(layer["source"], str) for layer in layers] == [True, True, False]
        volume, lines = (s.removeprefix("precomputed://") for s in layers[2]["source"])
        stored = run / "results/lines/precomputed"
        assert read(f"{volume}info") == (run / "segmentation/info").read_bytes()
        assert read(f"{lines}info") == (stored / "info").read_bytes()
        assert read(f"{lines}0.shard") == (stored / "0.shard").read_bytes()
    (run / "results").rename(tmp_path / "elsewhere")
    (run / "results").symlink_to(tmp_path / "elsewhere")  # a link out of the run is not followed
    assert all(isinstance(layer.source, str) for layer in make_scene(run_layers(str(run))).layers)
    assert not any(layer.objects for layer in make_scene(run_layers(str(run))).layers)


def test_meshes_are_served_with_the_segmentation_they_are_of(tmp_path: Path) -> None:
    pytest.importorskip("zmesh")
    meshes = {"use": "meshes", "in": {"labels": "segmentation"}, "with": {"min_size": 1}}
    assert painted(tmp_path / "run", meshes).ok
    stored = tmp_path / "run/results/meshes/precomputed"
    with make_scene(run_layers(str(tmp_path / "run"))).serve() as server:
        layers = json.loads(read(f"{server.url}/_state/state.json"))["layers"]
        _, surfaces = (s.removeprefix("precomputed://") for s in layers[2]["source"])
        assert read(f"{surfaces}info") == (stored / "info").read_bytes()
        assert read(f"{surfaces}0.shard") == (stored / "0.shard").read_bytes()


def test_what_is_declared_elsewhere_is_shown_too(tmp_path: Path) -> None:
    painted(tmp_path / "source")
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["truth"] = expected()["segmentation"]
    document = {
        "run": str(tmp_path / "run"),
        "block": [16, 32, 32],
        "volumes": {
            "segmentation": {"path": f"precomputed://{tmp_path}/source/segmentation"},
            "em": {"path": f"precomputed://{tmp_path}/source/em"},
            "truth": {
                "path": f"hdf5://{tmp_path}/v.h5?dataset=truth",
                "offset": list(BOUNDS.start),
                "resolution": list(RESOLUTION),
            },
        },
        "steps": [{"use": "score"}],
    }
    assert volflow.run(document).ok
    scene = make_scene(run_layers(str(tmp_path / "run")))
    kinds = {layer.name: layer.kind for layer in scene.layers}
    assert kinds == {"em": "image", "truth": "segmentation", "segmentation": "segmentation"}
    assert [note for note in scene.notes if "truth is hdf5" in note]
    assert len(scene.notes) == 1
    with scene.serve() as server:
        assert json.loads(read(f"{server.url}/truth/info"))["data_type"] == "uint64"
        info = (tmp_path / "source" / "em" / "info").read_bytes()
        assert read(f"{server.url}/em/info") == info


def test_a_segmentation_of_signed_numbers_is_left_out_and_reported(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["a"] = expected()["segmentation"].astype("int32")
    document = {
        "run": str(tmp_path / "run"),
        "block": [16, 32, 32],
        "resolution": list(RESOLUTION),
        "volumes": {"labels": {"path": f"hdf5://{tmp_path}/v.h5?dataset=a"}},
        "steps": [
            {"use": "convert", "in": {"volume": "labels"}, "with": {"dtype": "float32"}},
        ],
    }
    assert volflow.run(document).ok
    scene = make_scene(run_layers(str(tmp_path / "run")))
    assert [layer.name for layer in scene.layers] == ["copy"]
    assert any("int32" in note for note in scene.notes)


def test_a_run_without_layers_is_reported(tmp_path: Path) -> None:
    painted(tmp_path / "run")
    for name in ("em", "affinity", "segmentation"):
        (tmp_path / "run" / name / "info").unlink()
    with pytest.raises(PlanError, match="does not exist"):
        make_scene(run_layers(str(tmp_path / "run")))


def test_an_image_that_is_averaged_is_shown_as_stored_in_the_same_place(tmp_path: Path) -> None:
    """Its own voxel size, and the same nanometres as the results of its coarser voxels."""
    painted(tmp_path / "source")
    document = {
        "run": str(tmp_path / "run"),
        "block": [16, 32, 32],
        "volumes": {
            "em": {
                "path": f"precomputed://{tmp_path}/source/em",
                "downsample": [1, 2, 2],
            }
        },
        "steps": [{"use": "tests.view.neuroglancer.copying:Copy"}],
    }
    assert volflow.run(document).ok
    layers = run_layers(str(tmp_path / "run"))
    assert layers.resolution == (20, 20, 20)
    scene = make_scene(layers)
    with scene.serve() as server:
        infos = {n: json.loads(read(f"{server.url}/{n}/info")) for n in ("em", "copy")}
    em, copy = (infos[name]["scales"][0] for name in ("em", "copy"))
    assert (em["resolution"], copy["resolution"]) == ([10, 10, 20], [20, 20, 20])
    for key in ("voxel_offset", "size"):  # x, y, z; bounds are even along y and x
        in_nm = [np.multiply(each[key], each["resolution"]) for each in (em, copy)]
        np.testing.assert_array_equal(*in_nm)
    stored = (tmp_path / "source" / "em" / "info").read_bytes()
    assert infos["em"] == json.loads(stored)
