"""The layers of a run, and of volumes without a run."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import volflow
from tests.view.paint import BOUNDS, RESOLUTION, expected, painted
from volflow.config.pipeline import VolumeSpec
from volflow.core.stage import Layer
from volflow.errors import PlanError
from volflow.io.volume import Volume
from volflow.view.layers import is_run, layer_name, run_layers, volume_layers


def test_layers_are_found_with_their_kinds(run: Path) -> None:
    actual = run_layers(str(run))
    assert [(x.name, x.kind, x.written) for x in actual.layers] == [
        ("em", "image", True),
        ("affinity", "affinity", True),
        ("segmentation", "segmentation", True),
    ]
    assert actual.notes == ()


def test_a_run_that_was_moved_is_found_where_it_is(tmp_path: Path) -> None:
    painted(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "else where")
    actual = run_layers(str(tmp_path / "else where"))
    assert len(actual.layers) == 3
    assert all(str(tmp_path / "else where") in x.spec.path for x in actual.layers)
    assert actual.layers[2].scales[0].read(BOUNDS).any()


def test_what_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    source = tmp_path / "source"
    painted(source)
    copied = {"use": "convert", "in": {"volume": "foreign"}, "with": {"kind": "image"}}
    document = {
        "run": str(tmp_path / "run"),
        "block": [16, 32, 32],
        "volumes": {"foreign": {"path": f"precomputed://{source}/em"}},
        "steps": [copied],
    }
    assert volflow.run(document).ok
    assert [x.name for x in run_layers(str(tmp_path / "run")).layers] == ["foreign", "copy"]
    (source / "em" / "info").unlink()
    actual = run_layers(str(tmp_path / "run"))
    assert [x.name for x in actual.layers] == ["copy"]
    assert "foreign" in actual.notes[0]


def test_a_layer_that_is_a_link_out_of_the_run_is_none_of_it(tmp_path: Path) -> None:
    painted(tmp_path / "run")
    (tmp_path / "run" / "em").rename(tmp_path / "em")
    (tmp_path / "run" / "em").symlink_to(tmp_path / "em")
    actual = run_layers(str(tmp_path / "run"))
    assert [x.name for x in actual.layers] == ["affinity", "segmentation"]
    assert "link that leads out of the run" in actual.notes[0]


# --- volumes without a run -----------------------------------------------------------------------


def stored(address: str, array: np.ndarray, kind: str = "image") -> str:
    layer = Layer(array.dtype.name, 0, kind)
    spec = VolumeSpec(path=address)
    volume, _ = Volume.create(spec, layer, BOUNDS, RESOLUTION, (16, 32, 32))
    volume.write(BOUNDS, array)
    return address


def test_volumes_have_the_names_of_their_files_and_the_kinds_of_their_voxels(
    tmp_path: Path,
) -> None:
    voxels = expected()
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["volumes/truth"] = voxels["segmentation"] % 1000
    addresses = [
        stored(f"zarr://{tmp_path}/em.zarr", voxels["em"]),
        stored(f"zarr3://{tmp_path}/cells.zarr3", voxels["segmentation"]),
        f"hdf5://{tmp_path}/v.h5?dataset=volumes/truth",
    ]
    layers = volume_layers([f"{tmp_path}/em.zarr", *addresses[1:]])
    assert [(layer.name, layer.kind, layer.written) for layer in layers.layers] == [
        ("em", "image", False),
        ("cells", "segmentation", False),
        ("truth", "segmentation", False),
    ]
    assert layers.resolution == RESOLUTION
    assert layers.layers[0].scales[0].read(BOUNDS).any()


def test_the_kind_follows_metadata_then_dtype_then_name(tmp_path: Path) -> None:
    narrow = (expected()["segmentation"] % 200).astype("uint8")
    kinds = {
        stored(f"precomputed://{tmp_path}/a", narrow, "segmentation"): "segmentation",
        stored(f"zarr://{tmp_path}/raw.zarr", narrow): "image",
        stored(f"zarr://{tmp_path}/my_labels.zarr", narrow): "segmentation",
        stored(f"zarr://{tmp_path}/x.zarr/labels/cells", narrow): "segmentation",
        stored(f"zarr://{tmp_path}/float_seg.zarr", narrow.astype("float32")): "image",
        stored(f"zarr://{tmp_path}/wide.zarr", narrow.astype("uint32")): "segmentation",
    }
    layers = volume_layers(list(kinds)).layers
    assert [layer.kind for layer in layers] == list(kinds.values())
    (forced,) = volume_layers([f"zarr://{tmp_path}/raw.zarr"], {"raw": "segmentation"}).layers
    assert forced.kind == "segmentation"


def test_two_files_of_one_name_are_reported_apart(tmp_path: Path) -> None:
    em = expected()["em"]
    addresses = [stored(f"zarr://{tmp_path}/{folder}/em.zarr", em) for folder in "abc"]
    assert [layer.name for layer in volume_layers(addresses).layers] == ["em", "em_2", "em_3"]


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("precomputed://gs://bucket/em", "em"),
        ("/data/cells.ome.zarr", "cells"),
        ("zarr:///data/a.v2.zarr", "a.v2"),
        ("hdf5://v.h5?dataset=volumes/raw", "raw"),
        ("/data/_state", "state"),  # `_` is for the server's own layers
        ("/data/my cells.n5", "my_cells"),
        ("/data/sections", "sections"),
    ],
)
def test_layers_are_named_after_files(address: str, name: str) -> None:
    assert layer_name(address) == name


def test_all_volumes_that_cannot_be_shown_are_listed_at_once(tmp_path: Path) -> None:
    painted(tmp_path / "run")
    assert is_run(str(tmp_path / "run"))
    assert not is_run(str(tmp_path))
    with pytest.raises(PlanError) as caught:
        volume_layers([f"{tmp_path}/none.zarr", str(tmp_path / "run"), f"csv://{tmp_path}/t.csv"])
    missing, run, table = caught.value.problems
    assert "none.zarr" in missing
    assert "holds a run; expected volumes" in run
    assert "expected a volume, got skeletons or a table" in table
    with pytest.raises(
        PlanError, match=r"--kind seg=\.\.\.: expected one of the layers em, got 'seg'"
    ):
        volume_layers([f"precomputed://{tmp_path}/run/em"], {"seg": "image"})
