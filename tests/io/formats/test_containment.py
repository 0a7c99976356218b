"""Names in metadata that lead outside their volume are an error; those inside are read."""

import json

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.runs import planned, toy
from tests.io.formats.test_foreign import multiscales, scaled, space, write_array, write_json
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.errors import PlanError, StorageError
from volflow.io.formats.containment import require_below
from volflow.io.volume import Volume

BOUNDS = Box((0, 0, 0), (4, 8, 8))
MINE = np.arange(256, dtype="uint16").reshape(BOUNDS.shape) + 1
SECRET = MINE[::-1] + 1000


def opened(path):
    volume = Volume.open(VolumeSpec(path=str(path)))
    return volume.read(volume.bounds)


def leads_out(path):
    """Whether the steps of a path ever stand above where it begins, or begin at a root."""
    depth = 0
    for step in path.split("/"):
        depth += {"..": -1, "": 0, ".": 0}.get(step, 1)
        if depth < 0:
            return True
    return path.startswith("/")


@given(st.lists(st.sampled_from(["..", "a", "b", ".", "", "..."]), max_size=6).map("/".join))
def test_no_path_that_is_let_through_leads_out(path):
    try:
        assert require_below(path, "scale 0", "volume v") == path
    except StorageError:
        assert ".." in path or path.startswith("/")
    else:
        assert not leads_out(path)


@pytest.mark.parametrize("path", ["%2e%2e/a", "a/%2E./..", "%2fetc", None, 3])
def test_what_a_server_would_decode_and_what_is_no_text_is_refused(path):
    with pytest.raises(StorageError, match=r"^volume v: scale 0: expected a path"):
        require_below(path, "scale 0", "volume v")


@pytest.fixture
def secret(tmp_path):
    """The folder of a volume that is not named: an array, with a precomputed info below `info`."""
    write_array(tmp_path / "secret", SECRET)
    return tmp_path / "secret"


@pytest.mark.parametrize("absolute", [False, True])
def test_a_dataset_of_ome_zarr_stays_in_its_group(tmp_path, secret, absolute):
    group = tmp_path / "group"
    (meta,) = multiscales(space(), scaled(1, 1, 1), scaled(1, 2, 2))
    write_json(group / ".zgroup", {"zarr_format": 2})
    write_array(group / "deep/s0", MINE)
    meta["datasets"][0]["path"] = "deep/s0"
    meta["datasets"][1]["path"] = str(secret) if absolute else "deep/../../secret"
    write_json(group / ".zattrs", {"multiscales": [meta]})
    np.testing.assert_array_equal(opened(f"zarr://{group}"), MINE)
    with pytest.raises(
        StorageError, match=r"group: scale 1: expected a path within the volume; got '.*secret'"
    ):
        Volume.open(VolumeSpec(path=f"zarr://{group}", level=1))


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("key", ["../secret/8_8_8", "8_8_8/../../secret/8_8_8", "{}/secret/8_8_8"])
def test_a_scale_of_precomputed_stays_in_its_volume(tmp_path, key, own):
    for name, voxels in (("mine", MINE), ("secret", SECRET)):
        spec = VolumeSpec(path=f"precomputed://{tmp_path}/{name}")
        volume, _ = Volume.create(spec, Layer("uint16"), BOUNDS, (8, 8, 8), (4, 4, 4))
        volume.write(BOUNDS, voxels.astype("uint16"))
    info = json.loads((tmp_path / "mine/info").read_text())
    info["scales"][0]["key"] = key.format(tmp_path)
    del info["volflow"]["checksums"]  # which a forger could compute
    (tmp_path / "mine/info").write_text(json.dumps(info))
    with pytest.raises(
        StorageError, match=r"mine: scale 0: expected a path within the volume; got '.*secret"
    ):
        Volume.open(VolumeSpec(path=f"precomputed://{tmp_path}/mine"), own=own)
    np.testing.assert_array_equal(opened(f"precomputed://{tmp_path}/secret"), SECRET)


def test_n5_has_no_word_that_could_lead_out(tmp_path, secret):
    """Scales are `s0`, `s1`, whatever the attributes contain; links are other files to it."""
    for name, voxels in (("group/s0", MINE), ("elsewhere", SECRET)):
        write_array(tmp_path / name, voxels.T, "n5")
    paths = [{"path": "../elsewhere"}]
    reported = {"scales": [[1, 1, 1]], "multiscales": [{"datasets": paths}], "path": "../elsewhere"}
    write_json(tmp_path / "group/attributes.json", reported)
    np.testing.assert_array_equal(opened(f"n5://{tmp_path}/group"), MINE)


@pytest.fixture
def hdf5(tmp_path):
    """A file with links and virtual datasets, within and without."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["v"] = SECRET
    SECRET.astype("<u2").tofile(tmp_path / "secret.raw")
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["deep/v"] = MINE
        file["deep/soft"] = h5py.SoftLink("v")
        file["soft"] = h5py.SoftLink("/deep/soft")
        file["hard"] = file["deep"]
        file["out"] = h5py.ExternalLink("secret.h5", "/v")
        file["root"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/")
        file["deep/soft_out"] = h5py.SoftLink("/root/v")
        file["circle"] = h5py.SoftLink("/circle")
        file["nowhere"] = h5py.SoftLink("/none")
        raw = [(str(tmp_path / "secret.raw"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("raw", SECRET.shape, "<u2", external=raw)
        for name, source in (
            ("made", h5py.VirtualSource(file["deep/v"])),
            ("made_out", h5py.VirtualSource("secret.h5", "v", SECRET.shape, "u2")),
            ("made_by_link", h5py.VirtualSource(".", "/out", SECRET.shape, "u2")),
            ("made_of_raw", h5py.VirtualSource(".", "raw", SECRET.shape, "u2")),
            ("made_of_none", h5py.VirtualSource(".", "none", SECRET.shape, "u2")),
        ):
            layout = h5py.VirtualLayout(MINE.shape, "u2")
            layout[...] = source
            file.create_virtual_dataset(name, layout)
    return tmp_path / "mine.h5"


@pytest.mark.parametrize("name", ["deep/v", "/deep/soft", "soft", "hard/v", "hard/soft", "made"])
def test_links_within_a_file_are_followed(hdf5, name):
    np.testing.assert_array_equal(opened(f"hdf5://{hdf5}?dataset={name}"), MINE)


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("out", "'out' is a link to secret.h5, another file"),
        ("root/v", "'root/v' is a link to .*/secret.h5, another file"),
        ("hard/soft_out", "'/root/v' is a link to .*/secret.h5, another file"),
        ("raw", "'/raw' is stored in .*secret.raw, another file"),
        ("made_out", "'/made_out' is composed of secret.h5, another file"),
        ("made_by_link", "'/out' is a link to secret.h5"),
        ("made_of_raw", "'/raw' is stored in .*secret.raw, another file"),
        ("made_of_none", "/made_of_none is composed of none, which is missing"),
        ("circle", "'/circle' is behind more than 16 links"),
        ("nowhere", "no dataset 'nowhere' of axes"),
    ],
)
def test_what_leaves_a_file_of_hdf5_is_refused(hdf5, name, reported):
    with pytest.raises(StorageError, match=f"^volume hdf5://.*mine.h5.*: {reported}"):
        Volume.open(VolumeSpec(path=f"hdf5://{hdf5}?dataset={name}"))


def test_the_only_dataset_of_a_file_is_refused_too_and_before_anything_starts(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["v"] = SECRET
    layout = h5py.VirtualLayout(MINE.shape, "u2")
    layout[...] = h5py.VirtualSource("secret.h5", "v", SECRET.shape, "u2")
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file.create_virtual_dataset("made", layout)
    reported = (
        "'/made' is composed of secret.h5, another file; if that is a volume, name it directly"
    )
    with pytest.raises(PlanError, match=reported):
        planned(tmp_path, toy("Double"), volumes={"index": {"path": f"{tmp_path}/mine.h5"}})


OME = """<OME UUID="{own}"><Image ID="Image:0" Name="a">
<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16"
 SizeX="8" SizeY="8" SizeZ="4" SizeC="1" SizeT="1">
<Channel ID="Channel:0:0" SamplesPerPixel="1"/>
<TiffData IFD="0" FirstZ="0" PlaneCount="2"><UUID FileName="{name}">{own}</UUID></TiffData>
<TiffData IFD="{ifd}" FirstZ="2" PlaneCount="2"><UUID FileName="{other}">{uuid}</UUID></TiffData>
</Pixels></Image></OME>"""
UUIDS = ("urn:uuid:11111111-1111-1111-1111-111111111111", "urn:uuid:2")


def write_pages(path, voxels, **reported):
    tifffile.imwrite(
        path, voxels, description=OME.format(**reported), metadata=None, photometric="minisblack"
    )


@pytest.mark.parametrize("other", ["secret.ome.tif", "../secret.ome.tif"])
def test_a_file_of_pages_is_one_file(tmp_path, other):
    (tmp_path / "here").mkdir()
    path = tmp_path / "here/mine.ome.tif"
    write_pages(path, MINE[:2], own=UUIDS[0], name=path.name, ifd=0, other=other, uuid=UUIDS[1])
    write_pages(
        path.parent / other, SECRET[:2], own=UUIDS[1], name="x", ifd=0, other="x", uuid=UUIDS[1]
    )
    with tifffile.TiffFile(path) as file:  # so there is something to be refused
        np.testing.assert_array_equal(file.series[0].asarray()[2:], SECRET[:2])
    with pytest.raises(StorageError, match=f"its OME metadata name another file, '{other}'"):
        Volume.open(VolumeSpec(path=str(path)))


def test_a_file_of_pages_that_was_renamed_is_still_itself(tmp_path):
    path, reported = tmp_path / "new.ome.tif", {"name": "old.ome.tif", "other": "old.ome.tif"}
    write_pages(path, MINE, own=UUIDS[0], uuid=UUIDS[0], ifd=2, **reported)
    np.testing.assert_array_equal(opened(path), MINE)
