"""Images read at coarser voxels: means of boxes of stored voxels, whatever box is read."""

from __future__ import annotations

import itertools
import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import boxes, triples
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box, Triple, zyx
from volflow.core.stage import Layer
from volflow.errors import StorageError
from volflow.io.downsampled_array import downsampling_factors
from volflow.io.volume import Volume
from volflow.train.config.sources import SourceSpec

VOXEL = (40.0, 4.0, 4.0)
FOLDER = Path("unused")
_counter = itertools.count()


def stored(
    folder: Path, format_: str, voxels: np.ndarray, start: Triple, **declared: Any
) -> VolumeSpec:
    """A volume of these voxels with its first one at `start`, as stored or as declared."""
    channels = len(voxels) if voxels.ndim == 4 else 0
    bounds = Box(start, zyx(start) + voxels.shape[-3:])
    if format_ == "hdf5":
        path = folder / f"{next(_counter)}.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("em", data=voxels, chunks=True)
        declared = {"resolution": VOXEL, "offset": start, **declared}
        return VolumeSpec(path=f"hdf5://{path}?dataset=em", **declared)
    spec = VolumeSpec(path=f"{format_}://memory://downsampled/{next(_counter)}")
    layer = Layer(str(voxels.dtype), channels, "image")
    volume, _ = Volume.create(spec, layer, bounds, VOXEL, (3, 4, 5))
    volume.write(bounds, voxels)
    return spec.model_copy(update=declared)


def slow_means(voxels: np.ndarray, bounds: Box, factors: Triple) -> np.ndarray:
    """The mean of each box, one after another and exactly, halves up."""
    coarse = bounds.zoom_out(factors)
    out = np.zeros((*voxels.shape[:-3], *coarse.shape), voxels.dtype)
    for index in np.ndindex(*coarse.shape):
        start = zyx(index) + coarse.start
        box = Box(start, start + 1).zoom_in(factors).clip(bounds)
        for channel in np.ndindex(*voxels.shape[:-3]):
            values = voxels[(*channel, *box.within(bounds))].ravel()
            mean = sum((Fraction(float(v)) for v in values), Fraction(0)) / values.size
            whole = voxels.dtype.kind in "ui"
            out[(*channel, *index)] = (mean + Fraction(1, 2)) // 1 if whole else float(mean)
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.mark.parametrize("format_", ["precomputed", "zarr", "n5", "hdf5"])
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_box_is_a_part_of_the_means_of_the_whole(
    folder: Path, format_: str, data: st.DataObject
) -> None:
    bounds, factors = data.draw(boxes(1, 9)), data.draw(triples(1, 4))
    dtype = data.draw(st.sampled_from(["uint8", "uint16", "float32"]))
    channels = data.draw(st.sampled_from([(), (2,)]))
    rng = np.random.default_rng(0)
    # multiples of 1/8 are summed exactly
    voxels = (rng.integers(0, 256, (*channels, *bounds.shape)) / (8 if "f" in dtype else 1)).astype(
        dtype
    )
    volume = Volume.open(
        stored(folder, format_, voxels, bounds.start, downsample=factors), partial=False
    )
    coarse = bounds.zoom_out(factors)
    assert (volume.bounds, volume.dtype) == (coarse, np.dtype(dtype))
    assert volume.resolution == tuple(a * b for a, b in zip(VOXEL, factors, strict=True))
    expected = slow_means(voxels, bounds, factors)
    np.testing.assert_array_equal(volume.read(coarse), expected, strict=True)
    box = data.draw(boxes(0, 7)).shift(coarse.start)
    inside = box.clip(coarse)
    part = np.full((*channels, *box.shape), 7, dtype)
    if inside.size:
        part[(..., *inside.within(box))] = expected[(..., *inside.within(coarse))]
    np.testing.assert_array_equal(volume.read(box, 7), part, strict=True)
    out = np.empty_like(part)
    volume.read(box, 7, out)
    np.testing.assert_array_equal(out, part)
    again = pickle.loads(pickle.dumps(volume))  # as it is sent to workers
    np.testing.assert_array_equal(again.read(coarse), expected)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_part_of_an_image_has_the_voxels_of_the_whole(data: st.DataObject) -> None:
    """Boxes that are averaged start at the same voxels, wherever an image begins."""
    bounds, factors = data.draw(boxes(4, 12)), data.draw(triples(1, 3))
    start = bounds.start + data.draw(triples(0, 3))
    voxels = np.random.default_rng(1).integers(0, 256, bounds.shape).astype("uint8")
    part = Box(start, bounds.stop)
    whole = Volume.open(stored(FOLDER, "zarr", voxels, bounds.start, downsample=factors))
    cut = Volume.open(
        stored(FOLDER, "zarr", voxels[part.within(bounds)], start, downsample=factors)
    )
    first = -(-start // factors)  # boxes that the part has all voxels of
    common = Box(first, cut.bounds.stop)
    np.testing.assert_array_equal(cut.read(common), whole.read(common))


LENGTHS = st.integers(1, 4000).map(lambda tenths: tenths / 10)


@given(st.tuples(LENGTHS, LENGTHS, LENGTHS), LENGTHS)
def test_a_length_halves_voxels_until_they_have_it(
    resolution: tuple[float, float, float], least: float
) -> None:
    if max(least / side for side in resolution) > 64:
        with pytest.raises(StorageError, match="expected factors of at most 64"):
            downsampling_factors(f"{least} nm", resolution)
        return
    for side, factor in zip(
        resolution, downsampling_factors(f"{least} nm", resolution), strict=True
    ):
        assert factor & (factor - 1) == 0
        assert side * factor >= least * 0.9998
        assert factor == 1 or side * factor / 2 < least


@pytest.mark.parametrize(
    ("resolution", "factors"),
    [
        ((50, 4, 4), (1, 2, 2)),  # serial sections
        ((30, 6, 6), (1, 1, 1)),
        ((30, 5.9999, 6), (1, 1, 1)),  # as metadata round 6
        ((40, 3, 3), (1, 2, 2)),
        ((4, 4, 4), (2, 2, 2)),  # FIB-SEM stays isotropic
        ((30, 1, 2), (1, 8, 4)),
    ],
)
def test_six_nanometres(resolution: tuple[float, float, float], factors: Triple) -> None:
    assert downsampling_factors("6 nm", resolution) == factors
    assert downsampling_factors("0.006 µm", resolution) == factors


def test_the_identity_depends_on_the_factors_not_on_their_text() -> None:
    voxels = np.arange(4 * 8 * 8, dtype="uint8").reshape(4, 8, 8)
    plain = stored(FOLDER, "zarr", voxels, (0, 0, 0))

    def identity(given: Any) -> dict[str, Any]:
        return Volume.open(plain.model_copy(update={"downsample": given})).identity()

    assert identity("6 nm") == identity((1, 2, 2)) != identity(None)
    assert identity("6 nm") != identity((1, 2, 1))
    assert identity("4 nm") == identity((1, 1, 1)) == identity(None)
    assert "downsample" not in identity(None)  # runs from before keep their digests


def test_values_are_scaled_after_they_are_averaged(folder: Path) -> None:
    voxels = np.array([0.1, 0.2, 0.4, 0.6], "float32").reshape(1, 1, 4)
    spec = stored(folder, "hdf5", voxels, (0, 0, 0), scale=10, downsample=(1, 1, 2))
    # means 0.15 and 0.5: 1.5 and 5, rounded to even
    assert Volume.open(spec).read(Box((0, 0, 0), (1, 1, 2))).ravel().tolist() == [2, 5]


@pytest.mark.parametrize(
    ("dtype", "declared", "message"),
    [
        ("uint64", {}, "as the mean of ids is no id; got uint64"),
        ("uint32", {}, "expected an image of uint8, int8, uint16"),
        ("bool", {}, "got bool"),
        ("uint8", {"ignore": [0]}, "downsample is for images; it excludes ignore"),
        ("uint8", {"boundary": True}, "downsample is for images; it excludes boundary"),
    ],
)
def test_only_images_are_averaged(
    folder: Path, dtype: str, declared: dict[str, Any], message: str
) -> None:
    voxels = np.ones((2, 4, 4), dtype)
    spec = stored(folder, "hdf5", voxels, (0, 0, 0), downsample=(1, 2, 2), **declared)
    with pytest.raises(StorageError, match=message):
        Volume.open(spec)


def test_metadata_of_labels_are_refused() -> None:
    spec = VolumeSpec(path=f"precomputed://memory://downsampled/{next(_counter)}")
    layer, box = Layer("uint8", 0, "segmentation"), Box((0, 0, 0), (2, 4, 4))
    volume, _ = Volume.create(spec, layer, box, VOXEL, (2, 4, 4))
    volume.write(box, np.ones(box.shape, "uint8"))
    with pytest.raises(StorageError, match="the mean of ids is no id; got segmentation"):
        Volume.open(spec.model_copy(update={"downsample": (1, 2, 2)}))


def test_a_length_needs_a_voxel_size(folder: Path) -> None:
    voxels = np.ones((2, 4, 4), "uint8")
    spec = stored(folder, "hdf5", voxels, (0, 0, 0), resolution=None, downsample="6 nm")
    with pytest.raises(StorageError, match=r"expected a voxel size in the metadata, got none; dec"):
        Volume.open(spec)
    factors = spec.model_copy(update={"downsample": (1, 2, 2)})
    assert Volume.open(factors).resolution is None
    sized = spec.model_copy(update={"resolution": (50, 4, 4)})
    assert Volume.open(sized).resolution == (50, 8, 8)


@pytest.mark.parametrize(
    "given", ["6", "6 nm²", "0 nm", "-6 nm", "", 2, [1, 2], [1, 2, 0], [1, 2, 65], [1, 2, True]]
)
def test_other_values_are_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"factors z y x of 1 to 64 such as \[1, 2, 2\], or a len"):
        VolumeSpec(path="em.zarr", downsample=given)


@pytest.mark.parametrize("name", ["image", "labels"])
def test_sources_of_a_training_are_resampled_instead(name: str) -> None:
    volumes: dict[str, Any] = {"image": {"path": "em.zarr"}, "labels": {"path": "labels.zarr"}}
    SourceSpec.model_validate(volumes)
    volumes[name]["downsample"] = [1, 2, 2]
    with pytest.raises(ValueError, match=f"{name}: downsample is for the images of pipelines"):
        SourceSpec.model_validate(volumes)
