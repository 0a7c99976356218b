"""Foreign numbers made ours: by block as in one piece."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.io.test_volume import boxes, boxes_near, place
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.errors import StorageError
from volflow.io.volume import Volume


def stored(array, start=(0, 0, 0), **declared):
    """A volume that holds an array, opened as a foreign one with a declaration."""
    stop = tuple(a + n for a, n in zip(start, array.shape[-3:], strict=True))
    spec, bounds = VolumeSpec(path=place("zarr")), Box(start, stop)
    channels = array.shape[0] if array.ndim == 4 else 0
    layer = Layer(str(array.dtype), channels)
    volume, _ = Volume.create(spec, layer, bounds, (8, 8, 8), (4, 4, 4))
    volume.write(bounds, array)
    return spec.model_copy(update=declared)


def after(array, axis):
    """Each value one voxel further along an axis, with 0 in the first plane."""
    moved = np.roll(array, 1, axis)
    moved[(slice(None),) * axis + (0,)] = 0
    return moved


def scaled(array, scale):
    values = array.astype("f4") * np.float32(scale) if array.dtype.kind == "f" else array * scale
    return np.clip(np.rint(values), 0, 255).astype("u1")


@st.composite
def declarations(draw):
    """An array, its declaration, and the whole of what should be read, computed plainly."""
    bounds = draw(boxes(-5, 5, 1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 5)))
    kind = draw(st.sampled_from(["plain", "forward", "boundary"]))
    dtype = draw(st.sampled_from(["uint8", "float32", "uint16"]))
    count = draw(st.integers(0 if kind != "forward" else 3, 4))
    array = rng.random((*[count][: count > 0], *bounds.shape)) * 1.2
    array = array.astype(dtype) if dtype == "float32" else (array * 200).astype(dtype)
    declared = {}
    if dtype != "uint8" or draw(st.booleans()):
        declared["scale"] = 255.0 if dtype == "float32" else 0.5
    take = {"forward": 3, "boundary": 1}.get(kind, draw(st.integers(1, 3)))
    chosen = list(range(max(1, count)))
    if count > 0 and (count != take or draw(st.booleans())):
        chosen = draw(st.lists(st.integers(0, count - 1), min_size=take, max_size=take))
        declared["channels"] = tuple(chosen)
    whole = array[chosen] if count else array[None]
    if "scale" in declared:
        whole = scaled(whole, declared["scale"])
    if kind == "forward":
        declared["offset_sign"] = 1
        whole = np.stack([after(whole[axis], axis) for axis in range(3)])
    elif kind == "boundary":
        declared["boundary"] = True
        strongest = [np.maximum(whole[0], after(whole[0], axis)) for axis in range(3)]
        whole = np.stack([255 - values for values in strongest])
        for axis in range(3):
            whole[(axis, *[slice(None)] * axis, 0)] = 0
    elif len(chosen) == 1 and (count == 0 or "channels" in declared):
        whole = whole[0]
    return array, bounds, declared, whole


@settings(max_examples=100)
@given(declarations(), st.sampled_from([0, 7]), st.data())
def test_a_box_is_the_same_part_of_the_converted_volume(case, fill, data):
    array, bounds, declared, whole = case
    box = data.draw(boxes_near(bounds))
    volume = Volume.open(stored(array, bounds.start, **declared))
    assert (volume.dtype, volume.stored_dtype) == (whole.dtype, array.dtype)
    assert volume.channels == (len(whole) if whole.ndim == 4 else 0)
    np.testing.assert_array_equal(volume.read(bounds), whole, strict=True)
    expected = np.full((*whole.shape[:-3], *box.shape), fill, whole.dtype)
    shared = box.clip(bounds)
    if shared.size:
        expected[(..., *shared.within(box))] = whole[(..., *shared.within(bounds))]
    np.testing.assert_array_equal(volume.read(box, fill), expected, strict=True)


def test_forward_affinities_by_hand():
    # Stored: entry x joins x with x + 1. Ours: entry x joins x with x - 1, so all move up by one.
    array = np.zeros((3, 1, 1, 4), "u1")
    array[2, 0, 0] = [10, 20, 30, 0]
    volume = Volume.open(stored(array, offset_sign=1))
    assert volume.read(volume.bounds)[2, 0, 0].tolist() == [0, 10, 20, 30]


def test_boundaries_by_hand():
    # An affinity is 255 less the stronger boundary of its two voxels.
    array = np.array([[[0, 100, 255, 0]]], "u1")
    volume = Volume.open(stored(array, boundary=True))
    actual = volume.read(volume.bounds)
    assert actual[2, 0, 0].tolist() == [0, 155, 0, 0]
    assert not actual[:2].any()  # there is but one plane along z and y


def test_a_value_that_is_no_number_is_named_with_its_box():
    array = np.zeros((4, 4, 4), "f4")
    array[3, 0, 0] = np.nan
    spec = stored(array, scale=255)
    volume = Volume.open(spec)
    assert not volume.read(Box((0, 0, 0), (3, 4, 4))).any()
    with pytest.raises(
        StorageError, match=rf"{spec.path}: box 2:4,0:4,0:4: expected numbers .* got NaN"
    ):
        volume.read(Box((2, 0, 0), (4, 4, 4)))


@pytest.mark.parametrize(
    ("shape", "dtype", "declared", "message"),
    [
        (
            (3, 4, 4, 4),
            "u1",
            {"channels": (0, 3)},
            r"channels: expected numbers below 3, got \[0, 3\]",
        ),
        ((4, 4, 4), "u1", {"channels": (1,)}, r"expected numbers below 1"),
        ((2, 4, 4, 4), "u1", {"offset_sign": 1}, "expected three channels z, y, x; got 2"),
        ((4, 4, 4), "u1", {"offset_sign": 1}, "expected three channels z, y, x; got 1"),
        ((3, 4, 4, 4), "u1", {"boundary": True}, "expected one channel, got 3"),
        ((4, 4, 4), "f4", {"boundary": True}, "expected uint8, got float32; declare scale"),
        ((3, 4, 4, 4), "f4", {"boundary": True}, "one channel, got 3.*; boundary: expected u"),
        ((4, 4, 4), "u1", {"boundary": True, "offset_sign": 1}, "exclude each other"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused_on_opening(shape, dtype, declared, message):
    with pytest.raises(StorageError, match=message):
        Volume.open(stored(np.zeros(shape, dtype), **declared))


def test_our_own_volume_is_read_as_it_is():
    spec = stored(np.ones((3, 4, 4, 4), "u1"), offset_sign=1, scale=0.1)
    volume = Volume.open(spec, own=True)
    assert volume.read(volume.bounds).all()
