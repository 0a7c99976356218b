"""Objects that volflow reads back: damage is an error that names them, or changes nothing."""

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.runs import planned, toy
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.engine.driver import execute
from volflow.engine.executors.profile import find_profile
from volflow.engine.stored_profile import store_profile, stored_profile
from volflow.errors import VolflowError
from volflow.io.inputs import unfinished_writer
from volflow.io.run.lock import RunLock
from volflow.io.run.owners import layer_owner, set_owner
from volflow.io.run.stored_outline import stored_outline
from volflow.io.run.stored_pipeline import stored_document
from volflow.io.sealed import HEAD, KEY, seal_problem, seal_text, sealed, text_problem
from volflow.io.volume import Volume

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CONTENT = st.dictionaries(st.text().filter(lambda name: name != KEY), JSON, max_size=4)
BOUNDS = Box((0, 0, 0), (16, 16, 16))
FORMATS = ("precomputed", "zarr", "zarr3", "n5")


@given(CONTENT)
def test_a_checksum_survives_json(content):
    assert seal_problem(json.loads(json.dumps(sealed(content)))) == ""
    assert seal_problem(json.loads(json.dumps(sealed(content), sort_keys=True))) == ""


@given(CONTENT, JSON, st.data())
def test_another_value_is_noticed(content, other, data):
    if not content:
        return
    body = sealed(content)
    name = data.draw(st.sampled_from(sorted(content)))
    if json.dumps(other) == json.dumps(body[name]) or other == body[name]:
        return
    assert seal_problem({**body, name: other})


def test_whole_numbers_of_other_writers_are_the_same():
    assert seal_problem({**sealed({"size": 8.0}), "size": 8}) == ""


def test_objects_of_earlier_versions_have_their_keys():
    assert seal_problem({"a": 1}, known=("a", "b")) == ""
    assert seal_problem({"a": 1}, known=None) == ""
    assert "expected a key 'checksum', got 'a', 'c'" in seal_problem({"a": 1, "c": 2}, known="ab")
    assert "got none" in seal_problem({})
    assert seal_problem([1]) == "expected keys and values"


@given(st.text(st.characters(codec="utf-8")), st.data())
def test_a_text_cut_short_or_changed_is_noticed(text, data):
    body = seal_text(text).encode()
    assert text_problem(body) == ""
    assert text_problem(body[: data.draw(st.integers(0, len(body) - 1))])
    place, bit = data.draw(st.integers(0, len(body) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(body)
    changed[place] ^= 1 << bit
    assert text_problem(bytes(changed))


def test_texts_of_earlier_versions_have_no_checksum():
    assert text_problem(b"run: out\nsteps: []\n") == ""
    assert text_problem(b"# a comment\nrun: out\n") == ""
    assert text_problem(HEAD.encode() + b"\nrun: out\n") == "expected a checksum on its last line"


# --- every object ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sealed")
    assert execute(planned(folder / "run", toy("Index"), toy("Double"))).ok
    store_profile(str(folder / "run"), find_profile("local", workers=3))
    return folder / "run"


def layer(folder, format_):
    spec = VolumeSpec(path=f"{format_}://{folder}/{format_}")
    for scale, size in ((0, 16), (1, 8)):
        bounds, layer = Box((0, 0, 0), (size,) * 3), Layer("uint32", 0, "segmentation")
        sides = (8.0 * 16 / size,) * 3
        volume, _ = Volume.create(spec, layer, bounds, sides, (8, 8, 8), scale=scale)
        volume.write(bounds, np.arange(bounds.size, dtype="u4").reshape(bounds.shape))
        set_owner(spec.path, "digest", scale, run=str(folder / "elsewhere"))
    return spec


def voxels(spec):
    finest, coarser = (Volume.open(spec.model_copy(update={"level": n})) for n in (0, 1))
    for volume in (finest, coarser):
        problem = unfinished_writer(volume)
        if problem:
            raise VolflowError(f"{volume.address}: {problem}")
    parts = [finest.resolution, coarser.resolution, finest.bounds, coarser.bounds, finest.kind]
    return [*parts, finest.read(BOUNDS).tobytes(), coarser.read(coarser.bounds).tobytes()]


def readers(run, tmp_path):
    """Each object that is read back, and the function that reads it."""
    yield run / "pipeline.yaml", lambda: stored_document(str(run))
    yield run / "outline.json", lambda: stored_outline(str(run))
    yield run / "profile.json", lambda: stored_profile(str(run)).request
    for format_ in FORMATS:
        spec = layer(tmp_path, format_)
        folder = tmp_path / format_
        yield folder / "volflow.owner.0.json", lambda spec=spec: layer_owner(spec.path)
        names = ("info", ".zattrs", ".zarray", "zarr.json", "attributes.json")
        for path in sorted(p for name in names for p in folder.rglob(name)):
            yield path, lambda spec=spec: voxels(spec)


@pytest.mark.parametrize("way", ["cut short", "a bit", "a byte"])
def test_a_damaged_object_is_an_error_that_names_it_or_reads_the_same(run, tmp_path, way):
    draw, seen = random.Random(way), set()
    for path, read in readers(run, tmp_path):
        body, expected = path.read_bytes(), read()
        refusals = []
        for _ in range(8):
            place = draw.randrange(len(body))
            changed = bytearray(body[:place]) if way == "cut short" else bytearray(body)
            if way == "a bit":
                changed[place] ^= 1 << draw.randrange(8)
            if way == "a byte":
                changed[place] = draw.randrange(256)
            path.write_bytes(changed)
            try:
                assert read() == expected, (path, place)
            except VolflowError as error:
                refusals.append(str(error))
            finally:
                path.write_bytes(body)
        assert read() == expected
        parts = (path.name, path.parent.name, str(path.parent))
        assert refusals, path
        assert all(any(part in text for part in parts) for text in refusals), refusals
        seen.add(path.name)
    assert {"info", ".zattrs", ".zarray", "zarr.json", "attributes.json"} < seen


def test_other_programs_may_add_to_the_metadata(tmp_path):
    spec = layer(tmp_path, "precomputed")
    info = tmp_path / "precomputed/info"
    body = json.loads(info.read_text())
    coarser = {**body["scales"][0], "key": "32_32_32", "size": [4, 4, 4], "resolution": [32] * 3}
    body = {"mesh": "mesh", **body, "scales": [*body["scales"], coarser]}
    before = voxels(spec)
    info.write_text(json.dumps(body))
    assert voxels(spec) == before


def test_metadata_of_earlier_versions_are_read(tmp_path):
    for format_ in FORMATS:
        spec = layer(tmp_path, format_)
        before = voxels(spec)
        for name in ("info", ".zattrs", "zarr.json", "attributes.json"):
            path = tmp_path / format_ / name
            if path.exists():
                path.write_text(json.dumps(without_checksums(json.loads(path.read_text()))))
        assert voxels(spec) == before


def without_checksums(value):
    if isinstance(value, dict):
        remaining = {k: v for k, v in value.items() if k not in ("checksum", "checksums")}
        return {name: without_checksums(item) for name, item in remaining.items()}
    return [without_checksums(item) for item in value] if isinstance(value, list) else value


def test_damaged_metadata_do_not_let_voxels_be_deleted(tmp_path):
    for format_ in FORMATS:
        spec = layer(tmp_path, format_)
        kind = Layer("uint32", 0, "segmentation")
        name = {"precomputed": "info", "zarr": ".zattrs", "zarr3": "zarr.json"}
        path = tmp_path / format_ / name.get(format_, "attributes.json")
        files = {each: each.read_bytes() for each in path.parent.rglob("*") if each.is_file()}
        path.write_bytes(files[path].replace(b'"segmentation"', b'"segmentatiom"'))
        with pytest.raises(VolflowError, match="is damaged, or was changed"):
            Volume.create(spec, kind, Box((0, 0, 0), (8, 8, 8)), (8, 8, 8), (8, 8, 8))
        path.write_bytes(files[path])
        assert {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()} == files


def test_a_damaged_lock_of_a_living_driver_is_not_taken_over(tmp_path):
    run = str(tmp_path)
    with RunLock(run, beat=0.05) as lock:
        path = tmp_path / "volflow.lock.json"
        holder = json.loads(path.read_text())
        assert lock.living() is not None
        path.write_text(json.dumps({**holder, "pid": 2**22 - 1}))
        assert RunLock(run).holder() is None  # not the dead process that the damaged object names
