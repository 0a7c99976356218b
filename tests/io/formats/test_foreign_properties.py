"""Volumes with random axes, units, offsets, chunks and codecs, written by other libraries.

Each is read as it was written, or refused.
"""

import json
import tempfile
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorstore as ts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from volflow.config.pipeline import VolumeSpec
from volflow.errors import StorageError
from volflow.io.volume import Volume

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import numcodecs
    import zarr

UNITS = {"nanometer": 1.0, "nm": 1.0, "um": 1e3, "micrometer": 1e3, "micron": 1e3, "angstrom": 0.1}
DTYPES = ("|u1", "<u2", ">u2", "<u8", ">i4", "<f4", ">f4")
CODECS = (
    {},
    {"compressors": numcodecs.LZ4()},
    {"compressors": numcodecs.BZ2()},
    {"compressors": numcodecs.LZMA()},
    {"compressors": None, "order": "F"},
)
FEW = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

cases = st.fixed_dictionaries(
    {
        "names": st.permutations("zyx").map("".join),
        "channel": st.sampled_from(["", "first", "last"]),
        "shape": st.tuples(*[st.integers(1, 9)] * 3),
        "chunk": st.tuples(*[st.integers(1, 5)] * 3),
        "dtype": st.sampled_from(DTYPES),
        "unit": st.sampled_from(list(UNITS)),
        "sides": st.tuples(*[st.sampled_from([4, 8, 30, 40, 12.5])] * 3),
        "start": st.tuples(*[st.integers(-9, 99)] * 3),
        "fraction": st.sampled_from([0, 0, 0, 0.3]),
        "separator": st.sampled_from([".", "/"]),
        "codec": st.sampled_from(CODECS),
        "lost": st.sampled_from(["", "", "", "chunks", "renamed"]),
        "seed": st.integers(0, 99),
    }
)


class Case:
    """Voxels and metadata in z, y, x, and in the order in which they are stored."""

    def __init__(self, case, channels=True):
        rng = np.random.default_rng(case["seed"])
        self.names = case["names"]
        turn = ["zyx".index(name) for name in self.names]
        voxels = rng.integers(1, 120, case["shape"]).astype(case["dtype"])
        sides, start = np.array(case["sides"], float), np.array(case["start"])
        if case["fraction"] and (start == 0).any():
            start = start + 100  # else it is less than a voxel, which counts as none
        self.start, self.sides, self.voxels = start, sides, voxels
        self.chunk = [case["chunk"][i] for i in turn]
        self.stored = voxels.transpose(turn)
        factor = UNITS[case["unit"]]
        self.scale = (sides[turn] / factor).tolist()
        self.shift = ((start + case["fraction"]) * sides)[turn] / factor
        self.shift = self.shift.tolist()
        if channels and case["channel"]:
            axis = 0 if case["channel"] == "first" else 3
            self.voxels = np.stack([voxels, voxels + 1])
            self.stored = np.stack([self.stored, self.stored + 1], axis=axis)
            for values, one in ((self.scale, 1.0), (self.shift, 0.0), (self.chunk, 2)):
                values.insert(axis, one)
            self.names = self.names[:axis] + "c" + self.names[axis:]
        self.fraction = bool(case["fraction"])


def compare(path, case, **declared):
    """Whether the volume was read, and as it was written; otherwise it was refused."""
    try:
        volume = Volume.open(VolumeSpec(path=str(path), **declared))
        volume.verify()
        voxels = volume.read(volume.bounds)
    except StorageError as error:
        return str(error)
    assert volume.bounds.start == tuple(case.start.tolist())
    assert volume.resolution == pytest.approx(tuple(case.sides.tolist()), rel=1e-4)
    native = case.voxels.astype(case.voxels.dtype.newbyteorder("="))
    np.testing.assert_array_equal(voxels, native, strict=True)
    return ""


def damage(folder, lost):
    """Remove all chunks, or rename them as another program packs them."""
    plain = (".zarray", ".zattrs", ".zgroup", "zarr.json", "attributes.json")
    for path in [p for p in folder.rglob("*") if p.is_file() and p.name not in plain]:
        if lost == "chunks":
            path.unlink()
        elif lost == "renamed":
            path.rename(path.with_name(path.name + ".gz"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["ome 2", "ome 3", "attributes 2", "attributes 3"])
@given(drawn=cases)
@FEW
def test_zarr_by_zarr_python(kind, drawn):
    case, version = Case(drawn), int(kind[-1])
    with tempfile.TemporaryDirectory() as folder:
        group = zarr.open_group(folder, mode="w", zarr_format=version)
        options = dict(drawn["codec"])
        if version == 3:
            order = {"dimension_names": list(case.names)} if "attributes" in kind else {}
            options = {**order, "chunk_key_encoding": {"name": "default"}}
        else:
            options["chunk_key_encoding"] = {"name": "v2", "separator": drawn["separator"]}
        array = group.create_array(
            "0", shape=case.stored.shape, chunks=case.chunk, dtype=case.stored.dtype, **options
        )
        array[...] = case.stored
        if kind.startswith("ome"):
            axes = [
                {"name": n, "type": "channel"}
                if n == "c"
                else {"name": n, "type": "space", "unit": drawn["unit"]}
                for n in case.names
            ]
            moves = [
                {"type": "scale", "scale": case.scale},
                {"type": "translation", "translation": case.shift},
            ]
            datasets = [{"path": "0", "coordinateTransformations": moves}]
            image = {"axes": axes, "datasets": datasets}
            attributes = {"multiscales": [{**image, "version": "0.4"}]}
            if version == 3:
                attributes = {"ome": {"version": "0.5", "multiscales": [image]}}
            group.attrs.update(attributes)
        else:
            named = {"_ARRAY_DIMENSIONS": list(case.names)} if version == 2 else {}
            size = {"voxel_size": case.scale, "offset": case.shift, "units": drawn["unit"]}
            array.attrs.update({**named, **size})
        damage(Path(folder) / "0", drawn["lost"])
        below = ["", "/0"] if kind.startswith("ome") else ["/0"]
        for path in below:
            refused = compare(f"{folder}{path}", case)
            assert bool(refused) == bool(drawn["lost"] or case.fraction), refused


@given(drawn=cases)
@FEW
def test_hdf5_by_h5py(drawn):
    case = Case(drawn)
    with tempfile.TemporaryDirectory() as folder:
        with h5py.File(f"{folder}/a.h5", "w") as file:
            chunk = tuple(np.minimum(case.chunk, case.stored.shape))
            data = file.create_dataset("data", data=case.stored, chunks=chunk)
            size, shift = case.scale, case.shift
            if drawn["seed"] % 2:  # numbers of the axes of space alone
                keep = [i for i, name in enumerate(case.names) if name != "c"]
                size, shift = [size[i] for i in keep], [shift[i] for i in keep]
            data.attrs.update({"resolution": size, "offset": shift, "unit": drawn["unit"]})
            if drawn["seed"] % 3:
                data.attrs["axis_names"] = list(case.names)
            else:
                for dimension, name in zip(data.dims, case.names, strict=True):
                    dimension.label = name
        refused = compare(f"{folder}/a.h5", case)
        assert bool(refused) == case.fraction, refused


@given(drawn=cases)
@FEW
def test_n5_by_tensorstore(drawn):
    drawn = {**drawn, "names": "xyz"}  # N5 has the fastest axis first
    case = Case(drawn, channels=False)
    transform = {"axes": list("zyx"), "units": [drawn["unit"]] * 3}
    transform |= {"scale": case.scale[::-1], "translate": case.shift[::-1]}
    with tempfile.TemporaryDirectory() as folder:
        spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{folder}/"}}
        dtype = case.stored.dtype.newbyteorder("=").name
        layout = ts.ChunkLayout(chunk_shape=case.chunk)
        opened = ts.open(
            spec, create=True, dtype=dtype, shape=case.stored.shape, chunk_layout=layout
        )
        opened.result()[...] = case.stored
        path = Path(folder) / "attributes.json"
        body = path.read_text().rstrip()[:-1]
        path.write_text(f'{body}, "transform": {json.dumps(transform)}}}')
        damage(Path(folder), drawn["lost"])
        refused = compare(f"n5://{folder}", case)
        assert bool(refused) == bool(drawn["lost"] or case.fraction), refused


@given(drawn=cases)
@settings(FEW, max_examples=10)
def test_nifti_by_nibabel(drawn):
    import nibabel

    case = Case({**drawn, "names": "xyz", "start": (0, 0, 0), "fraction": 0}, channels=False)
    if case.stored.dtype.itemsize == 8:
        return  # nibabel asks before it writes them
    with tempfile.TemporaryDirectory() as folder:
        unit, factor = (("micron", 1e3), ("mm", 1e6))[drawn["seed"] % 2]
        image = nibabel.Nifti1Image(case.stored, np.diag([*(case.sides[::-1] / factor), 1]))
        image.header.set_xyzt_units(unit)
        nibabel.save(image, f"{folder}/a.nii")
        assert compare(f"{folder}/a.nii", case) == ""
