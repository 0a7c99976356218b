"""Neuroglancer in a real browser: what is stored is what is seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np
import pytest

import volflow
from tests.stages.biology import document, stored
from tests.view.browser import IN_A_BROWSER, SIZE
from tests.view.paint import BOUNDS, RESOLUTION, expected, painted
from volflow.errors import StorageError
from volflow.view.layers import run_layers
from volflow.view.neuroglancer.scene import make_scene
from volflow.view.neuroglancer.viewer import (
    PROBED,
    Screenshot,
    neuroglancer_viewer,
    screenshot,
)

pytestmark = IN_A_BROWSER
FORMATS = {
    "precomputed": {},
    "sharded": {"chunk": [16, 16, 16], "shard": [16, 32, 32]},
    "zarr": {"path": "zarr://{run}/{name}.zarr"},
    "zarr3": {
        "path": "zarr3://{run}/{name}.zarr3", "chunk": [16, 16, 16], "shard": [16, 32, 32],
    },
    "n5": {"path": "n5://{run}/{name}.n5"},
}  # fmt: skip


def seen(folder: Path, *visible: str) -> tuple[np.ndarray, Screenshot]:
    """The pixels of a run in the browser, with these layers on; every request must be answered."""
    scene = make_scene(run_layers(str(folder)))
    assert set(visible) <= {layer.name for layer in scene.layers}
    scene.layers = [replace(layer, visible=layer.name in visible) for layer in scene.layers]
    with scene.serve() as server:
        with neuroglancer_viewer(scene.state(server.url)) as viewer:
            shot = screenshot(viewer, SIZE)
        failed = {key for status, key in server.answered if status not in (200, 206)}
        assert {key for key in failed if not key.endswith(PROBED)} == set()
        for name in visible:
            assert any(key.startswith(f"{name}/") for _, key in server.answered), name
    assert shot.errors == ()
    pixels = imagecodecs.png_decode(shot.png)[..., :3]
    assert pixels.shape == (SIZE[1], SIZE[0], 3)
    return pixels, shot


def coloured(pixels: np.ndarray) -> float:
    """The share of pixels that are far from grey, the panels' borders and lines left aside."""
    values = pixels.astype(int)
    return float((values.max(axis=-1) - values.min(axis=-1) > 40).mean())


def near(pixels: np.ndarray, colour: tuple[int, int, int]) -> float:
    """The share of pixels that have a colour."""
    return float((np.abs(pixels.astype(int) - colour).max(axis=-1) <= 4).mean())


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_that_is_written_is_seen(tmp_path: Path, format_: str) -> None:
    run = tmp_path / "run"
    volumes = {
        name: {
            key: value.format(run=run, name=name) if isinstance(value, str) else value
            for key, value in FORMATS[format_].items()
        }
        for name in ("em", "affinity", "segmentation")
    }
    steps = [{"use": "pyramid", "in": {"labels": "segmentation"}}] if format_ != "sharded" else []
    assert painted(run, *steps, volumes=volumes if FORMATS[format_] else {}).ok
    both, _ = seen(run, "em", "segmentation")
    assert coloured(both) > 0.15
    affinity, _ = seen(run, "affinity")
    assert near(affinity, (250, 180, 90)) > 0.1  # channels in their order, values as stored
    assert near(affinity, (20, 20, 20)) > 0.01


def test_an_image_alone_is_grey_and_not_blank(run: Path) -> None:
    image, _ = seen(run, "em")
    assert len(np.unique(image[100:].reshape(-1, 3), axis=0)) > 20
    assert coloured(image) < 0.03  # Neuroglancer's own lines


def test_synapses_are_arrows_over_the_neurons(tmp_path: Path) -> None:
    """Neuroglancer shows the lines without a request that fails; their heads are red."""
    volumes = stored(tmp_path)
    steps = [{"use": "synapses"}, {"use": "annotations", "in": {"table": "synapse_table"}}]
    assert volflow.run(document(tmp_path / "run", volumes, *steps)).ok
    bare, _ = seen(tmp_path / "run", "segmentation")
    pixels, _ = seen(tmp_path / "run", "segmentation", "annotations")
    red, yellow = (255, 59, 48), (255, 212, 0)
    assert near(pixels, red) > 10 * max(near(bare, red), 1e-5)
    assert near(pixels, yellow) > near(bare, yellow)


def test_meshes_are_drawn_in_the_panel_in_3d(tmp_path: Path) -> None:
    """Neuroglancer shows the surfaces of the segments without a request that fails."""
    pytest.importorskip("zmesh")
    assert painted(tmp_path / "bare").ok
    parameters = {"min_size": 1, "cell": 16}
    meshes = {"use": "meshes", "in": {"labels": "segmentation"}, "with": parameters}
    assert painted(tmp_path / "run", meshes).ok
    bare, _ = seen(tmp_path / "bare", "segmentation")
    pixels, _ = seen(tmp_path / "run", "segmentation")
    panel = (slice(SIZE[1] // 2 + 30, None), slice(SIZE[0] // 2 + 30, None))
    assert coloured(pixels[panel]) > 1.2 * coloured(bare[panel])


def test_properties_of_segments_are_loaded_and_objects_are_points(tmp_path: Path) -> None:
    steps: list[dict[str, Any]] = [
        {"use": "synth", "with": {"cell": 10, "mitochondria": True}, "out": {"truth": "neurites"}},
        {
            "use": "object_table",
            "in": {"objects": "mitochondria", "segmentation": "neurites"},
        },
        {"use": "neurons", "in": {"segmentation": "neurites"}},
        {
            "use": "annotations",
            "name": "points",
            "in": {"table": "object_table"},
            "with": {"kind": "point"},
        },
    ]
    given = {"bounds": "0:32,0:64,0:64", "resolution": [10, 10, 10]}
    assert volflow.run({**document(tmp_path / "run", {}, *steps), **given}).ok
    scene = make_scene(run_layers(str(tmp_path / "run")))
    linked = {layer.name: layer.linked for layer in scene.layers}
    assert linked["points"] == "neurites"
    with scene.serve() as server, neuroglancer_viewer(scene.state(server.url)) as viewer:
        shot = screenshot(viewer, SIZE)
        answered = {key: status for status, key in server.answered}
    assert answered["neurites/segment_properties/info"] == 200
    assert {
        k for k, s in answered.items() if s not in (200, 206) and not k.endswith(PROBED)
    } == set()
    assert shot.errors == ()


def test_hdf5_is_seen_where_it_is_declared_to_be(tmp_path: Path) -> None:
    voxels = expected()
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["affinity"] = voxels["affinity"][::-1]
        file["labels"] = voxels["segmentation"]
    where: dict[str, Any] = {"offset": list(BOUNDS.start), "resolution": list(RESOLUTION)}
    document = {
        "run": str(tmp_path / "run"),
        "block": [16, 32, 32],
        "volumes": {
            "affinity": {
                "path": f"hdf5://{tmp_path}/v.h5?dataset=affinity",
                "channels": [2, 1, 0],
                **where,
            },
            "labels": {"path": f"hdf5://{tmp_path}/v.h5?dataset=labels", **where},
        },
        "steps": [
            {"use": "convert", "in": {"volume": "affinity"}, "with": {"channels": 3}},
            {"use": "score", "in": {"segmentation": "labels", "truth": "labels"}},
        ],
    }
    assert volflow.run(document).ok
    pixels, _ = seen(tmp_path / "run", "affinity")
    assert near(pixels, (250, 180, 90)) > 0.1
    pixels, _ = seen(tmp_path / "run", "labels")
    assert coloured(pixels) > 0.15


def test_a_browser_that_does_not_finish_is_an_error(run: Path) -> None:
    scene = make_scene(run_layers(str(run)))
    nowhere = scene.state("http://127.0.0.1:9/none")
    with (
        neuroglancer_viewer(nowhere) as viewer,
        pytest.raises(StorageError, match="not all layers were drawn within 4 s"),
    ):
        screenshot(viewer, SIZE, timeout=4)
