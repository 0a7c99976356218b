"""Known and unknown voxels of a source."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from volflow.checkpoints.header import Normalisation
from volflow.train.config.sources import MaskSpec, SourceSpec
from volflow.train.data.draw import draw_sample
from volflow.train.data.samples import UNKNOWN, UNKNOWN_MARK
from volflow.train.data.sources import SourceRequirements, contours, open_source

RULE = Normalisation()


@pytest.fixture
def volume(tmp_path):
    rng = np.random.default_rng(0)
    held = {
        "raw": rng.integers(0, 255, (4, 12, 16)),
        "labels": rng.integers(0, 4, (4, 12, 16)),
        "classes": rng.choice([0, 32, 191, 223], (4, 12, 16)),
        "known": np.broadcast_to(np.arange(16) < 10, (4, 12, 16)),
    }
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, array in held.items():
            file[name] = array.astype(np.uint8)
    return held, lambda name: {"path": f"hdf5://{tmp_path}/a.h5?dataset={name}"}


@settings(max_examples=30)
@given(
    arrays.arrays(np.int32, (3, 4, 5), elements=st.integers(0, 2)),
    st.tuples(*[st.integers(0, 2)] * 3),
)
def test_a_contour_is_where_another_label_is_near(labels, reach):
    actual = contours(labels, reach)
    for v in np.ndindex(labels.shape):
        box = tuple(slice(max(0, a - r), a + r + 1) for a, r in zip(v, reach, strict=True))
        assert actual[v] == bool((labels[box] != labels[v]).any())


def test_masks_are_reported_from_classes_and_are_unknown_elsewhere(volume):
    held, at = volume
    spec = SourceSpec.model_validate(
        {
            "image": at("raw"),
            "masks": {"cleft": {**at("classes"), "values": [223]}, "cell": at("labels")},
            "known": at("known"),
        }
    )
    channels = [("cleft", (1, 1, 1)), ("pre", (1, 1, 1)), ("cell.contour", (0, 1, 1))]
    source = open_source(spec, RULE, SourceRequirements(None, True, tuple(channels)))
    known = held["known"]
    edge = contours(held["labels"], (0, 1, 1))
    np.testing.assert_array_equal(source.marks[0], np.where(known, held["classes"] == 223, 255))
    np.testing.assert_array_equal(source.marks[1], np.full(known.shape, UNKNOWN_MARK))
    np.testing.assert_array_equal(source.marks[2], np.where(known, edge, 255))
    assert (source.truth == UNKNOWN).all()


@pytest.mark.parametrize("zero", ["background", "unknown"])
def test_foreground_is_known_where_background_is(volume, zero):
    held, at = volume
    spec = SourceSpec.model_validate({"image": at("raw"), "labels": at("labels"), "zero": zero})
    masked = spec.model_copy(update={"masks": {"foreground": MaskSpec(**at("known"))}})
    wanted = SourceRequirements(None, True, (("foreground", (0, 0, 0)),), foreground=True)
    actual, mask = open_source(masked, RULE, wanted).marks
    np.testing.assert_array_equal(mask, held["known"])  # though it has the same name
    there = held["labels"] != 0 if zero == "background" else np.full(actual.shape, UNKNOWN_MARK)
    np.testing.assert_array_equal(actual, there)


def test_eroded_objects_lose_their_rims_within_sections(volume):
    held, at = volume
    printed = {"image": at("raw"), "labels": at("labels"), "zero": "background"}
    whole, eroded = (open_source(SourceSpec(**printed, eroded=n), RULE).truth for n in (0, 1))
    rim = contours(held["labels"], (0, 1, 1))
    assert 0 < rim.mean() < 1
    np.testing.assert_array_equal(eroded > 0, (whole > 0) & ~rim)


def test_a_source_comes_in_the_trainings_voxels(volume):
    _, at = volume
    spec = SourceSpec.model_validate(
        {
            "image": at("raw"),
            "labels": at("labels"),
            "masks": {"cell": at("labels")},
            "known": at("known"),
            "voxel_size_nm": [50, 4, 4],
            "bounds": "1:4,0:12,0:16",
            "resample": "yx",
        }
    )
    source = open_source(spec, RULE, SourceRequirements((30, 8, 8), True, (("cell", (0, 0, 0)),)))
    assert source.image.shape == source.truth.shape == source.marks.shape[1:] == (3, 6, 8)
    known = source.marks[0] != UNKNOWN_MARK
    np.testing.assert_array_equal(known, np.broadcast_to(np.arange(8) < 5, (3, 6, 8)))
    here = source.truth != UNKNOWN
    np.testing.assert_array_equal(source.marks[0][known] == 1, here[known])


def test_a_synthetic_volume_knows_its_organelles():
    spec = SourceSpec.model_validate(
        {"synthetic": {"bounds": "0:40,0:48,0:48", "seed": 1, "synapses": True}, "rare": 1}
    )
    names = ("mitochondria", "cleft", "pre", "post")
    wanted = SourceRequirements(None, True, tuple((name, (1, 1, 1)) for name in names))
    source = open_source(spec, RULE, wanted)
    assert set(np.unique(source.marks)) == {0, 1}
    assert (source.marks.sum(0) <= 2).all()  # the parts of a synapse are apart
    shares = source.marks.mean(axis=(1, 2, 3))
    assert (shares > 0).all()
    assert (shares < 0.4).all()
    rng = np.random.default_rng(0)
    assert all((draw_sample([source], (8, 8, 8), rng).marks == 1).any() for _ in range(20))
