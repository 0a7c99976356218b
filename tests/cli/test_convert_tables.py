"""Tables in other formats: the same numbers, names of other projects, matrices and graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from scipy import sparse

from volflow.cli import main
from volflow.errors import StorageError
from volflow.io.tables import graphs
from volflow.io.tables.read import read_table

LARGE = (1 << 64) - 1
SITES = [f"{site}_{axis}" for site in ("cleft", "pre", "post") for axis in "zyx"]
SYNAPSES = f"""synapse_id,pre,post,{",".join(SITES)},size_vox
5,7,{LARGE},1,2,3,4,5,6,7,8,9,10
6,7,{LARGE},1,2,3,4,5,6,7,8,9,11
7,{LARGE},3,1,2,3,4,5,6,7,8,9.5,12
8,0,3,1,2,3,4,5,6,7,8,9,13
"""


def convert(*words: object) -> Result:
    return CliRunner().invoke(main, ["convert", *map(str, words)], catch_exceptions=False)


@pytest.fixture
def table(tmp_path) -> Path:
    (tmp_path / "synapses.csv").write_text(SYNAPSES)
    return tmp_path / "synapses.csv"


def test_csv_and_parquet_hold_the_same_numbers(tmp_path, table) -> None:
    pytest.importorskip("pyarrow")
    assert convert(table, tmp_path / "s.parquet").exit_code == 0
    assert convert(tmp_path / "s.parquet", tmp_path / "back.csv").exit_code == 0
    one, other = (read_table(str(p)).columns for p in (table, tmp_path / "back.csv"))
    assert list(one) == list(other)
    assert all((one[name] == other[name]).all() for name in one)
    assert one["post"].dtype == np.uint64
    assert int(one["post"][0]) == LARGE


def test_columns_as_cave_names_them(tmp_path, table) -> None:
    assert convert(table, tmp_path / "cave.csv", "--names", "cave").exit_code == 0
    lines = (tmp_path / "cave.csv").read_text().splitlines()
    assert lines[0].startswith("id,pre_pt_root_id,post_pt_root_id,pre_pt_position_x,")
    assert lines[3] == f"7,{LARGE},3,6,5,4,3,2,1,9.5,8,7,12"
    refused = convert(table, tmp_path / "n.csv", "--names", "neuprint")
    assert refused.exit_code == 2
    assert "names neuprint: expected the columns pre, post, synapses or segment" in refused.stderr


def test_connections_as_neuprint_names_them(tmp_path) -> None:
    (tmp_path / "edges.csv").write_text("pre,post,synapses,score\n7,8,3,0.5\n")
    assert convert(tmp_path / "edges.csv", tmp_path / "n.csv", "--names", "neuprint").exit_code == 0
    assert (tmp_path / "n.csv").read_text() == "bodyId_pre,bodyId_post,weight\n7,8,3\n"


def test_the_mapping_of_supervoxels_as_dvid_names_it(tmp_path) -> None:
    table = tmp_path / "agglomeration.csv"
    table.write_text(f"supervoxel,segment,voxels,z0\n7,{LARGE},3,0\n{LARGE},0,2,1\n")
    assert convert(table, tmp_path / "mapping.csv", "--names", "dvid").exit_code == 0
    expected = f"segment_id,body_id\n7,{LARGE}\n{LARGE},0\n"
    assert (tmp_path / "mapping.csv").read_text() == expected


def test_the_matrix_counts_synapses_and_needs_no_pickle(tmp_path, table) -> None:
    assert convert(table, tmp_path / "m.npz").exit_code == 0
    matrix = sparse.load_npz(tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz", allow_pickle=False) as stored:
        neurons = stored["neurons"].tolist()
    assert neurons == [3, 7, LARGE]
    assert matrix.toarray().tolist() == [[0, 0, 0], [0, 0, 2], [1, 0, 0]]
    first = (tmp_path / "m.npz").read_bytes()
    assert convert(table, tmp_path / "m.npz", "--overwrite").exit_code == 0
    assert (tmp_path / "m.npz").read_bytes() == first


def test_networkx_reads_the_graph_that_a_count_of_pairs_gives(tmp_path) -> None:
    networkx = pytest.importorskip("networkx")
    random = np.random.default_rng(0)
    pairs = random.integers(1, 9, (200, 2)).astype(np.uint64) + np.uint64(1 << 60)
    lines = ["pre,post", *(f"{one},{other}" for one, other in pairs.tolist())]
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n")
    assert convert(tmp_path / "s.csv", tmp_path / "g.graphml").exit_code == 0
    graph = networkx.read_graphml(tmp_path / "g.graphml")
    counted: dict[tuple[str, str], int] = {}
    for one, other in pairs.tolist():
        counted[str(one), str(other)] = counted.get((str(one), str(other)), 0) + 1
    assert {(a, b): d["synapses"] for a, b, d in graph.edges(data=True)} == counted


def test_a_graph_that_is_too_large_and_one_without_networkx(monkeypatch) -> None:
    monkeypatch.setattr(graphs, "MOST_EDGES", 1)
    columns = {"pre": np.array([1, 2]), "post": np.array([2, 3])}
    with pytest.raises(
        StorageError, match="expected at most 1 edges, got 2; write a sparse matrix"
    ):
        graphs.graphml_bytes(columns)
    monkeypatch.setattr(graphs, "MOST_EDGES", 9)
    monkeypatch.setitem(__import__("sys").modules, "networkx", None)
    with pytest.raises(StorageError, match=r"pip install '\.\[graph\]'"):
        graphs.graphml_bytes(columns)


def test_what_cannot_be_converted_is_refused(tmp_path, table) -> None:
    refusals = {
        (table, tmp_path / "s.txt"): "expected a name that ends in .csv, .parquet",
        (table, table): "exists; choose another path, or give --overwrite",
        (table, "/proc/s.csv"): "DST: ",
        (tmp_path / "no.csv", tmp_path / "s.csv"): "no.csv: no such file",
        (table, tmp_path / "m.npz", "--names", "cave"): "--names: expected a table as DST",
        (table, tmp_path / "s.csv", "--chunk", "8"): "--chunk applies to volumes",
    }
    for words, message in refusals.items():
        refused = convert(*words)
        assert refused.exit_code == 2, refused.output
        assert message in refused.stderr
    (tmp_path / "other.csv").write_text("id\n4\n")
    refused = convert(tmp_path / "other.csv", tmp_path / "m.npz")
    assert "expected columns pre and post; got id" in refused.stderr


def test_an_empty_table_is_an_empty_matrix(tmp_path) -> None:
    (tmp_path / "s.csv").write_text("pre,post\n")
    assert convert(tmp_path / "s.csv", tmp_path / "m.npz").exit_code == 0
    assert sparse.load_npz(tmp_path / "m.npz").shape == (0, 0)


def test_agglomerates_for_webknossos_need_the_contacts_next_to_them(tmp_path) -> None:
    (tmp_path / "agglomeration.csv").write_text("supervoxel,segment,z,y,x\n7,5,1,2,3\n9,5,4,5,6\n")
    refused = convert(tmp_path / "agglomeration.csv", tmp_path / "a.zarr")
    assert refused.exit_code == 2
    assert "expected contacts.csv or contacts.parquet next to it" in refused.stderr
    (tmp_path / "contacts.csv").write_text("supervoxel_1,supervoxel_2,affinity\n7,9,0.5\n")
    assert convert(tmp_path / "agglomeration.csv", tmp_path / "a.zarr").exit_code == 0
    assert (tmp_path / "a.zarr/zarr.json").exists()
    again = convert(tmp_path / "agglomeration.csv", tmp_path / "a.zarr")
    assert again.exit_code == 2
    assert "exists" in again.stderr
