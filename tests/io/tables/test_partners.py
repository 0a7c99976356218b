from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import triples
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box, Triple
from volflow.core.stage import Layer
from volflow.errors import StorageError
from volflow.io import label_lookup as labels
from volflow.io.label_lookup import labels_at
from volflow.io.tables.partners import read_partners
from volflow.io.volume import Volume

SITES = "pre_z,pre_y,pre_x,post_z,post_y,post_x"


@pytest.fixture
def table(tmp_path: Path):
    def write(text: str, query: str = "") -> str:
        (tmp_path / "partners.csv").write_bytes(text.encode())
        return f"csv://{tmp_path}/partners.csv{query}"

    return write


def test_columns_are_found_by_name_and_others_passed_over(table) -> None:
    text = (
        "\ufeffscore, post_x,post_y,post_z,pre_x,pre_y,pre_z,post_neuron,pre_neuron\r\n"
        "0.9,6,5,4,3,2,1, 8,18446744073709551615\r\n\r\n"
        '"0,1",60,50,40.5,30,20,10,80,9007199254740993\r\n'
    )
    actual = read_partners(table(text))
    assert actual.pre.tolist() == [[1, 2, 3], [10, 20, 30]]
    assert actual.post.tolist() == [[4, 5, 6], [40.5, 50, 60]]
    assert actual.line.tolist() == [2, 4]
    assert actual.neurons is not None
    assert actual.neurons.tolist() == [[2**64 - 1, 8], [2**53 + 1, 80]]  # to the last bit
    assert actual.neurons.dtype == np.uint64


def test_a_unit_is_one_number_or_three(table, tmp_path: Path) -> None:
    text = f"{SITES}\n1,2,3,4,5,6\n"
    assert read_partners(table(text)[len("csv://") :]).post.tolist() == [[4, 5, 6]]
    assert read_partners(table(text, "?unit_nm=8")).pre.tolist() == [[8, 16, 24]]
    actual = read_partners(table(text, "?unit_nm=40,4,2"))
    assert (actual.pre.tolist(), actual.post.tolist()) == ([[40, 8, 6]], [[160, 20, 12]])
    assert actual.neurons is None
    assert len(read_partners(table(f"{SITES}\n"))) == 0


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("", "expected a line of column names, got an empty file"),
        ("\n\n", "got an empty file"),
        ("pre_z,pre_y,pre_x,post_z,post_y,posty_x\n", ":1: columns are missing: 'post_x'; did you "
         "mean 'posty_x'"),
        ("pre_z;pre_y\n", "'pre_z'; did you mean 'pre_z;pre_y'"),
        (f"{SITES},pre_neuron\n", "'post_neuron'"),
        (f"{SITES},pre_z\n", ":1: column pre_z occurs twice"),
        (f"{SITES}\n1,2,3,4,5,6\n1,2,3,4,5\n", ":3: expected 6 values, one per column; got 5"),
        (f"{SITES}\n1,2,3,4,5,6\n1,2,3,4,,6\n", ":3: post_y is ''; expected a number"),
        (f"{SITES}\n1,2,x,4,5,6\n", ":2: pre_x is 'x'; expected a number"),
        (f"{SITES}\n1,2,3,4,5,6\n\n1,nan,3,4,5,6\n1,2,3,4,5,inf\n", ":4: pre_y is nan; expected "
         r"finite numbers \(2 of 3"),
        (f"{SITES},pre_neuron,post_neuron\n1,2,3,4,5,6,1.5,2\n", ":2: pre_neuron is '1.5'"),
        (f"{SITES},pre_neuron,post_neuron\n1,2,3,4,5,6,1,{2**64}\n", ":2: post_neuron is '1844"),
        (f"{SITES},pre_neuron,post_neuron\n1,2,3,4,5,6,-1,2\n", ":2: pre_neuron is '-1'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_reported_with_its_line(table, text: str, reported: str) -> None:
    with pytest.raises(StorageError, match=reported) as error:
        read_partners(table(text))
    assert "partners.csv" in str(error.value)


@pytest.mark.parametrize(
    ("query", "reported"),
    [
        ("?unit=8", "no option 'unit'; did you mean 'unit_nm'"),
        ("?unit_nm=8,8", "unit_nm: expected one positive number of nanometres, or three"),
        ("?unit_nm=-1", "got '-1'"),
        ("?unit_nm=nan", "got 'nan'"),
        ("?unit_nm=a", "got 'a'"),
    ],
)
def test_an_option_that_is_none_is_reported(table, query: str, reported: str) -> None:
    with pytest.raises(StorageError, match=reported):
        read_partners(table(f"{SITES}\n", query))


def test_what_is_no_table_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        read_partners(str(tmp_path / "nowhere.csv"))
    with pytest.raises(StorageError, match="expected CSV, got zarr"):
        read_partners(f"zarr://{tmp_path}/x")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StorageError, match="expected UTF-8 text"):
        read_partners(str(tmp_path / "bytes.csv"))
    with pytest.raises(StorageError, match="expected a volume; csv holds none"):
        Volume.open(VolumeSpec(path=f"csv://{tmp_path}/bytes.csv"))


@settings(max_examples=10, deadline=None)
@given(triples(3, 9), st.integers(2, 5), st.integers(0, 2**32))
def test_labels_are_those_of_the_voxels(
    tmp_path_factory: pytest.TempPathFactory, chunk: Triple, cell: int, seed: int
) -> None:
    random, box = np.random.default_rng(seed), Box((3, -4, 5), (14, 9, 17))
    array = random.integers(1, 2**63, box.shape, dtype=np.uint64)
    spec = VolumeSpec(path=f"zarr://{tmp_path_factory.mktemp('labels')}/labels")
    volume, _ = Volume.create(spec, Layer("uint64", 0, "segmentation"), box, (1, 1, 1), chunk)
    volume.write(box, array)
    voxel = random.integers(-6, 20, (60, 3))
    expected = [
        array[tuple(place - np.array(box.start))]
        if all(a <= p < b for a, p, b in zip(box.start, place, box.stop, strict=True))
        else 0
        for place in voxel
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "LARGEST_CELL", cell)
        assert labels_at(volume, voxel).tolist() == expected
    assert labels_at(volume, voxel[:0]).tolist() == []


def test_each_chunk_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box((3, 3, 3), (11, 11, 35))  # chunks count from where the volume begins
    volume, _ = Volume.create(
        VolumeSpec(path=f"zarr://{tmp_path}/labels"), Layer("uint64", 0), box, (1, 1, 1), (8, 8, 8)
    )
    volume.write(box, np.ones(box.shape, np.uint64))
    read, real = [], Volume.read
    monkeypatch.setattr(Volume, "read", lambda self, box: read.append(box) or real(self, box))
    voxel = np.array([[1, 1, 1], [7, 7, 30], [2, 5, 6], [0, 0, 31], [1, 1, 1]])
    assert labels_at(volume, voxel + 3).tolist() == [1] * 5
    assert sorted(map(str, read)) == sorted(
        map(str, [Box((4, 4, 4), (6, 9, 10)), Box((3, 3, 33), (11, 11, 35))])
    )


def test_channels_are_refused(tmp_path: Path) -> None:
    box = Box((0, 0, 0), (4, 4, 4))
    spec = VolumeSpec(path=f"zarr://{tmp_path}/affinity")
    volume, _ = Volume.create(spec, Layer("uint8", 3, "affinity"), box, (1, 1, 1), (4, 4, 4))
    with pytest.raises(ValueError, match="expected labels, got 3 channels"):
        labels_at(volume, np.zeros((1, 3), np.int64))
