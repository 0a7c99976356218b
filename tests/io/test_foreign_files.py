"""Files that volflow did not write, in and around its volumes: never deleted, never replaced."""

from __future__ import annotations

import contextlib
import os

import numpy as np
import pytest

from tests.io.conftest import place_on
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.creation import delete_volume
from volflow.io.run.ledger import Ledger
from volflow.io.run.records import Records
from volflow.io.store import Store
from volflow.io.volume import Volume

BOUNDS = Box((0, 0, 0), (16, 8, 8))
LAYER = Layer("uint8", 0, "segmentation")
FORMATS = ("precomputed", "zarr", "zarr3", "n5")
FOLDERS = {"precomputed": "8_8_8", "zarr": "0", "zarr3": "0", "n5": "s0"}
FOREIGN = [
    *("thesis.txt", "c/0/x", "deep/er/em.dat", "1/0/0/0.bak"),
    *(f"{folder}/{name}" for folder in ("0", "s0", "8_8_8") for name in ("notes", "x/.zarray")),
    *("0/0/0/0.tif", "0/c/0/0/notes.txt", "0/0.0.0", "8_8_8/0-8_0-8_0-8.gz", "8_8_8/1.shards"),
]
"""Files next to ours; some look nearly like chunks."""


@pytest.fixture(params=("file", "s3"))
def place(request, tmp_path):
    return place_on(request, request.param, tmp_path)


def create(address, chunk=(4, 8, 8), layer=LAYER, **more):
    spec = VolumeSpec(path=address, **more)
    volume, _ = Volume.create(spec, layer, BOUNDS, (8, 8, 8), chunk)
    shape = (layer.channels, *BOUNDS.shape) if layer.channels else BOUNDS.shape
    volume.write(BOUNDS, np.ones(shape, "uint8"))
    return volume


@pytest.mark.parametrize("format_", FORMATS)
def test_foreign_files_in_the_folder_of_a_volume_are_kept(place, format_):
    store = Store(place)
    for name in FOREIGN:
        store.write(name, b"precious")
    create(f"{format_}://{place}")
    create(f"{format_}://{place}", chunk=(8, 8, 8))
    create(f"{format_}://{place}", chunk=(8, 8, 8), layer=Layer("uint8", 2, ""))
    if format_ in ("precomputed", "zarr3"):
        create(f"{format_}://{place}", chunk=(4, 4, 4), shard=(8, 8, 8))
        create(f"{format_}://{place}", chunk=(4, 8, 4))
    assert all(store.read(name) == b"precious" for name in FOREIGN)
    delete_volume(Address.parse(f"{format_}://{place}"))
    assert set(store.list()) == set(FOREIGN)


@pytest.mark.parametrize("format_", FORMATS)
def test_all_of_our_own_files_are_deleted(tmp_path, format_):
    more = [{}, {"layer": Layer("uint8", 2, "")}]
    if format_ in ("precomputed", "zarr3"):
        more.append({"shard": (8, 8, 8), "chunk": (4, 4, 4)})
    for each in more:
        create(f"{format_}://{tmp_path}/v", **each)
        Store(f"{tmp_path}/v").write(f"{FOLDERS[format_]}/mine", b"")  # each key is looked at
        delete_volume(Address.parse(f"{format_}://{tmp_path}/v"))
        assert Store(f"{tmp_path}/v").list() == [f"{FOLDERS[format_]}/mine"]


@pytest.mark.parametrize("format_", ["zarr", "zarr3", "n5"])
def test_a_foreign_array_of_equal_metadata_is_not_taken_over(place, format_):
    create(f"{format_}://{place}/ours")
    ours, lab, folder = Store(f"{place}/ours"), Store(f"{place}/lab"), FOLDERS[format_]
    array = {name: ours.read(f"{folder}/{name}") for name in ours.list(f"{folder}/")}
    for name, body in array.items():
        lab.write(f"{folder}/{name}", body)
    with pytest.raises(StorageError, match=f"volflow did not write {folder}/"):
        create(f"{format_}://{place}/lab")
    assert {name: lab.read(name) for name in lab.list()} == {
        f"{folder}/{name}": body for name, body in array.items()
    }


@pytest.mark.parametrize("format_", FORMATS)
def test_foreign_chunks_are_not_written_over(place, format_):
    create(f"{format_}://{place}/ours")
    folder = FOLDERS[format_]
    chunk = max(name for name in Store(f"{place}/ours").list(f"{folder}/") if "0" in name)
    lab = Store(f"{place}/lab")
    lab.write(f"{folder}/{chunk}", b"precious")
    with pytest.raises(StorageError, match=f"volflow did not write {folder}/{chunk}"):
        create(f"{format_}://{place}/lab")
    assert lab.list() == [f"{folder}/{chunk}"]


@pytest.mark.parametrize("format_", FORMATS)
def test_chunks_beyond_the_old_grid_are_foreign(tmp_path, format_):
    names = {"precomputed": "0-8_0-8_2-4", "zarr": "7/0/0", "zarr3": "c/7/0/0", "n5": "0/0/7"}
    address, key = f"{format_}://{tmp_path}", f"{FOLDERS[format_]}/{names[format_]}"
    create(address)
    before = Store(str(tmp_path)).list()
    Store(str(tmp_path)).write(key, b"precious")
    with pytest.raises(StorageError, match=f"volflow did not write {key}"):
        create(address, chunk=(2, 8, 8))
    assert Store(str(tmp_path)).list() == sorted([*before, key])
    create(address, chunk=(8, 8, 8))
    assert Store(str(tmp_path)).read(key) == b"precious"


@pytest.mark.parametrize(
    ("format_", "key"),
    [
        ("zarr", "0/1/0/0/x"),
        ("zarr", "0/1"),
        ("zarr3", "0/c"),
        ("n5", "s0/0/0"),
        ("n5", "s0/0/0/3/x"),
    ],
)
def test_files_that_take_the_place_of_a_folder_are_refused(tmp_path, format_, key):
    Store(str(tmp_path)).write(key, b"precious")
    with pytest.raises(StorageError, match=f"volflow did not write {key} "):
        create(f"{format_}://{tmp_path}")


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("other", FORMATS)
def test_a_foreign_volume_of_another_format_is_not_built_upon(tmp_path, format_, other):
    create(f"{other}://{tmp_path}")
    for name in ("info", ".zattrs", "zarr.json", "attributes.json"):
        body = Store(str(tmp_path)).read_json(name)
        if body is not None:
            body.pop("volflow", None)
            body.get("attributes", {}).pop("volflow", None)
            Store(str(tmp_path)).write_json(name, body)
    before = Store(str(tmp_path)).list()
    with pytest.raises(StorageError, match="was not written by volflow"):
        create(f"{format_}://{tmp_path}")
    assert Store(str(tmp_path)).list() == before


@pytest.mark.parametrize("format_", FORMATS)
def test_a_creation_that_was_interrupted_anywhere_is_completed(tmp_path, monkeypatch, format_):
    class Killed(Exception):
        pass

    plain = {name: getattr(Store, name) for name in ("write", "delete")}
    for number in range(12):
        address = f"{format_}://{tmp_path}/{number}"
        if number % 2:
            create(address, chunk=(8, 8, 8))
        left = [number // 2]

        def counted(store, key, *rest, name, left=left):
            if not left[0]:
                raise Killed
            left[0] -= 1
            return plain[name](store, key, *rest)

        with monkeypatch.context() as patch:
            for name in plain:
                patch.setattr(
                    Store, name, lambda s, k, *rest, name=name: counted(s, k, *rest, name=name)
                )
            with contextlib.suppress(Killed):
                create(address)
        create(address, chunk=(2, 8, 8))
        assert not [key for key in Store(address).list() if "creating" in key]
        fresh = f"{format_}://{tmp_path}/fresh"
        if number == 0:
            create(fresh, chunk=(2, 8, 8))
        owned = [key for key in Store(address).list() if "owner" not in key]
        assert owned == Store(fresh).list()


def test_what_a_link_leads_to_is_kept(tmp_path):
    create(f"zarr://{tmp_path}/v")
    (tmp_path / "lab/0").mkdir(parents=True)
    (tmp_path / "lab/0/0").write_bytes(b"precious")
    os.symlink(tmp_path / "lab", tmp_path / "v/0/9")
    create(f"zarr://{tmp_path}/v", chunk=(8, 8, 8))
    assert (tmp_path / "lab/0/0").read_bytes() == b"precious"
    assert (tmp_path / "v/0/9").is_symlink()


def test_foreign_files_in_the_ledger_and_the_records_are_kept(place):
    foreign = ["ledger/a/thesis.txt", "ledger/a/d/p/done/0-1.txt", "ledger/a/d/p/failed/x"]
    foreign += ["records/a/d/tables/0_0_0.csv", "records/a/d/tables/more/notes"]
    store, ledger, records = Store(place), Ledger(place), Records(place, "records/a/d/tables")
    for name in foreign:
        store.write(name, b"precious")
    ledger.mark_done("a/d/p", 0, 1, {})
    ledger.mark_failed("a/d/p", 1, {})
    records.write((0, 1, 12), {"n": np.ones(1)})
    ledger.clear_failed("a/d/p")
    assert ledger.done("a/d/p") == [(0, 1)]
    ledger.purge_step("a")
    records.delete_all()
    assert set(store.list()) == set(foreign)
