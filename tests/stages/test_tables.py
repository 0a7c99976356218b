"""Tables of objects, neurons and edges: as counted one by one, the same whatever the blocks."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import volflow
from tests.stages.biology import BOUNDS, RESOLUTION, SHAPES, document, files, stored, tissue
from volflow.config.pipeline import VolumeSpec
from volflow.core.stage import Columns
from volflow.errors import PlanError
from volflow.io.tables.read import read_table
from volflow.io.volume import Volume
from volflow.shape.neuron_rows import segment_properties
from volflow.stages.neurons import Neurons
from volflow.stages.synapses import Synapses

pytest.importorskip("pyarrow")

STEPS: tuple[dict[str, Any], ...] = (
    {"use": "synapses", "with": {"merge_nm": 0, "parquet": True}},
    {"use": "object_table", "in": {"objects": "mitochondria"}, "with": {"parquet": True}},
    {"use": "neurons", "with": {"parquet": True}},
    {"use": "edges", "with": {"parquet": True}},
    {
        "use": "annotations",
        "name": "mitochondria_points",
        "in": {"table": "object_table"},
        "with": {"kind": "point"},
    },
)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory) -> dict[str, Any]:
    return stored(tmp_path_factory.mktemp("tissue"))


def run(folder: Path, volumes: dict[str, Any], block: Any = SHAPES[1], **options: Any) -> Any:
    return volflow.run(document(folder, volumes, *STEPS, block=block), **options)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, volumes) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run(folder, volumes).ok
    return folder


def rows_of(run: Path, step: str) -> list[dict[str, str]]:
    with (run / f"results/{step}.csv").open() as text:
        return list(csv.DictReader(text))


@pytest.mark.parametrize("block", SHAPES)
def test_the_same_bytes_whatever_the_blocks(tmp_path, volumes, undisturbed, block) -> None:
    assert run(tmp_path / "run", volumes, block).ok
    assert files(tmp_path / "run") == files(undisturbed)


@pytest.mark.cluster
def test_the_same_bytes_with_two_workers(tmp_path, volumes, undisturbed) -> None:
    assert run(tmp_path / "run", volumes, cluster="local", workers=2).ok
    assert files(tmp_path / "run") == files(undisturbed)


def test_each_mitochondrion_is_in_its_neuron(undisturbed) -> None:
    labels, truth = tissue()[0]["mitochondria"], tissue()[0]["segmentation"]
    rows = rows_of(undisturbed, "object_table")
    assert [int(row["object_id"]) for row in rows] == np.unique(labels[labels > 0]).tolist()
    assert len(rows) > 10
    for row in rows:
        place = np.argwhere(labels == int(row["object_id"]))
        inside = Counter(truth[tuple(place.T)].tolist())
        del inside[0]
        assert inside[int(row["segment"])] == max(inside.values())
        assert float(row["share"]) == pytest.approx(max(inside.values()) / len(place), abs=6e-4)
        assert int(row["size_vox"]) == len(place)
        middle = place.mean(axis=0) * RESOLUTION
        np.testing.assert_allclose([float(row[a]) for a in "zyx"], middle, atol=1e-3)
        assert [int(row[f"{a}0"]) for a in "zyx"] == place.min(axis=0).tolist()
        assert [int(row[f"{a}1"]) for a in "zyx"] == (place.max(axis=0) + 1).tolist()


def test_neurons_have_their_sizes_synapses_and_objects(undisturbed) -> None:
    truth = tissue()[0]["segmentation"]
    pre, post = (Counter(int(row[n]) for row in rows_of(undisturbed, "synapses")) for n in ENDS)
    objects = Counter(int(row["segment"]) for row in rows_of(undisturbed, "object_table"))
    rows = rows_of(undisturbed, "neurons")
    names, sizes = np.unique(truth[truth > 0], return_counts=True)
    assert [int(row["segment"]) for row in rows] == names.tolist()
    for row, size in zip(rows, sizes.tolist(), strict=True):
        name = int(row["segment"])
        assert int(row["size_vox"]) == size
        assert float(row["volume_um3"]) == pytest.approx(size * 1e-6)
        counts = [int(row[n]) for n in ("pre_synapses", "post_synapses", "objects")]
        assert counts == [pre[name], post[name], objects[name]]


ENDS = ("pre", "post")


def test_edges_equal_a_count_of_pairs_by_networkx(undisturbed) -> None:
    networkx = pytest.importorskip("networkx")
    synapses = rows_of(undisturbed, "synapses")
    graph = networkx.MultiDiGraph()
    graph.add_edges_from((int(row["pre"]), int(row["post"])) for row in synapses)
    edges = {(int(row["pre"]), int(row["post"])): row for row in rows_of(undisturbed, "edges")}
    assert set(edges) == set(graph.edges())
    for (one, other), row in edges.items():
        own = [each for each in synapses if (int(each["pre"]), int(each["post"])) == (one, other)]
        assert int(row["synapses"]) == graph.number_of_edges(one, other) == len(own)
        assert float(row["size_vox"]) == sum(int(each["size_vox"]) for each in own)


@pytest.mark.parametrize("step", ["synapses", "object_table", "neurons", "edges"])
def test_parquet_holds_what_csv_does(undisturbed, step) -> None:
    text = read_table(f"{undisturbed}/results/{step}.csv").columns
    parts = read_table(f"parquet://{undisturbed}/results/{step}.parquet").columns
    assert list(text) == list(parts)
    for name, column in parts.items():
        np.testing.assert_array_equal(column, text[name], err_msg=name)


def test_a_segmentation_of_the_run_has_the_properties_in_its_info(tmp_path) -> None:
    folder = tmp_path / "run"
    result = volflow.run(
        {
            "run": str(folder),
            "bounds": str(BOUNDS),
            "resolution": list(RESOLUTION),
            "block": [48, 48, 48],
            "steps": [
                {"use": "synth", "with": {"cell": 10}, "out": {"truth": "segmentation"}},
                {"use": "neurons"},
                {"use": "pyramid", "in": {"labels": "segmentation"}},
            ],
        }
    )
    assert result.ok
    info = json.loads((folder / "segmentation/info").read_text())
    assert info["segment_properties"] == "segment_properties"
    assert len(info["scales"]) > 1
    stated = json.loads((folder / "segmentation/segment_properties/info").read_text())
    names = [row["segment"] for row in rows_of(folder, "neurons")]
    assert stated["inline"]["ids"] == names
    sizes = next(p for p in stated["inline"]["properties"] if p["id"] == "size_vox")
    assert sizes["values"] == [int(row["size_vox"]) for row in rows_of(folder, "neurons")]
    assert Volume.open(VolumeSpec(path=f"precomputed://{folder}/segmentation")).bounds == BOUNDS


def test_the_properties_are_capped_and_the_rest_is_counted(tmp_path, volumes) -> None:
    table = {name: np.zeros(5, dtype) for name, dtype in Neurons.columns}
    table["segment"] = np.array([2, 4, 6, 8, (1 << 64) - 1], np.uint64)
    table["size_vox"] = np.array([10, 50, 40, 30, 1])
    table["pre_synapses"] = np.array([0, 0, 0, 0, 3])
    stated, left = segment_properties(table, 3)
    assert stated["inline"]["ids"] == ["4", "6", str((1 << 64) - 1)]
    assert stated["inline"]["properties"][0]["values"] == [[], [], [0]]
    assert left == 2
    chosen = {"use": "neurons", "with": {"most_properties": 2}}
    result = volflow.run(document(tmp_path / "run", volumes, chosen))
    assert any("segments have no properties in Neuroglancer" in text for text in result.warnings)


def test_segments_of_another_segmentation_are_reported(tmp_path, volumes) -> None:
    (tmp_path / "own.csv").write_text("pre,post\n123456789,987654321\n")
    given = {**volumes, "synapse_table": {"path": str(tmp_path / "own.csv")}}
    result = volflow.run(document(tmp_path / "run", given, {"use": "neurons"}))
    assert result.ok
    assert "2 segments of the tables have no voxel" in result.warnings[0]


def test_a_missing_package_and_missing_columns_are_reported(tmp_path, volumes, monkeypatch) -> None:
    problems = Neurons().check_tables({"synapse_table": Columns((("pre", "uint64"),))})
    assert problems == ["synapse_table: expected a column of segments 'post', got the columns pre"]
    monkeypatch.setattr("volflow.stages.tabled.find_spec", lambda name: None)
    with pytest.raises(PlanError, match=r"pyarrow is not installed: pip install '\.\[parquet\]'"):
        run(tmp_path / "run", volumes)
    assert Synapses().check(None) == []  # type: ignore[arg-type]  # no grid is needed
