"""Bent crops: image and truth are taken from the same places, and nothing is folded over."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volflow.errors import PlanError
from volflow.train.config.training import load
from volflow.train.data.augment import Augmentation, augmented
from volflow.train.data.elastic import FARTHEST, STIFF, deformed, sampling_positions
from volflow.train.data.samples import UNKNOWN, UNKNOWN_MARK, Sample

SHAPE = (9, 26, 31)
SHIFT, SPACING = (0.4, 1.0, 1.2), (8.0, 20.0, 24.0)
OFF = Augmentation(
    flips=False, transposed_axes=(), contrast=0, brightness=0, gamma=0, section_contrast=0,
    noise=0, blurred=0,
)  # fmt: skip


def telling(axis, shape=SHAPE, around=0):
    """A crop whose image, truth and mark encode each voxel's position along an axis."""
    place = np.indices([side + 2 * around for side in shape])[axis] - around
    inside = tuple(slice(around, around + side) for side in shape)
    image = place[inside].astype(np.float32)
    return Sample(image, place.astype(np.int32) + 100, place[inside].astype(np.uint8)[None])


def created(sample, seed, shift=SHIFT, spacing=SPACING):
    return deformed(sample, shift, spacing, np.random.default_rng(seed))


@given(st.integers(0, 10_000), st.integers(0, 2), st.sampled_from([0, 3]))
def test_image_truth_and_marks_are_taken_from_the_same_places(seed, axis, around):
    result = created(telling(axis, around=around), seed)
    known = result.known != UNKNOWN
    assert known.mean() > 0.5
    # A linear image gives its position exactly; labels of the nearest voxel are within a half.
    apart = np.abs(result.image[known] - (result.known[known] - 100))
    assert 0.1 < apart.max() <= 0.5 + 1e-5
    np.testing.assert_array_equal(result.marks[0][known], result.known[known] - 100)
    assert (result.marks[0][~known] == UNKNOWN_MARK).all()


@given(st.integers(0, 10_000))
def test_unknown_is_exactly_what_comes_from_beyond_the_crop(seed):
    sample = telling(2)
    where = np.rint(sampling_positions(SHAPE, SHIFT, SPACING, np.random.default_rng(seed)))
    beyond = ((where < 0) | (where >= np.reshape(SHAPE, (3, 1, 1, 1)))).any(axis=0)
    np.testing.assert_array_equal(created(sample, seed).truth == UNKNOWN, beyond)


@pytest.mark.parametrize("seed", range(4))
def test_truth_around_moves_on_with_the_face(seed):
    """A half-plane whose border leaves the crop goes on beyond it without a step."""
    around = 6
    sample = telling(1, around=around)
    truth = created(sample, seed).truth
    assert created(sample, seed).margin == (around,) * 3
    face = truth[:, :, around + 4 : -around - 4]
    inside = face[around], face[around - 1]
    both = (inside[0] != UNKNOWN) & (inside[1] != UNKNOWN)
    assert both.mean() > 0.1
    np.testing.assert_array_equal(inside[0][both], inside[1][both])


class Worst(np.random.Generator):
    """Control points moved as far as they may be, neighbours to opposite sides or at random."""

    def __init__(self, seed):
        super().__init__(np.random.PCG64(seed))
        self.alternating = seed % 2 == 0

    def standard_normal(self, shape):
        opposite = (-1.0) ** np.indices(shape).sum(axis=0)
        return 9 * (opposite if self.alternating else self.choice([-1.0, 1.0], shape))


@pytest.mark.parametrize("shape", [(13, 19, 28), (10, 40, 40), (9, 13, 19), (1, 7, 30)])
@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_folded_over_by_the_worst_that_is_allowed(shape, seed):
    spacing = np.array([4.0, 6.0, 9.0])
    actual = sampling_positions(shape, spacing / STIFF, spacing, Worst(seed))
    assert actual.shape == (3, *shape)
    for axis in range(3):
        assert (np.diff(actual[axis], axis=axis) > 0).all()


def test_a_point_is_moved_by_as_much_as_was_reported():
    spacing = (1.0, 1.0, 1.0)  # every voxel is a control point
    actual = sampling_positions((20, 30, 40), (0.5, 2.0, 0.0), spacing, np.random.default_rng(0))
    moved = actual - np.indices((20, 30, 40))
    cut = 0.9598  # of the standard deviation, where a normal is clipped at two of them
    np.testing.assert_allclose(moved.std(axis=(1, 2, 3)), [0.5 * cut, 2 * cut, 0], rtol=0.01)
    assert np.abs(moved[1]).max() == pytest.approx(2 * FARTHEST)


@given(st.integers(0, 10_000))
def test_the_same_seed_bends_alike_and_another_one_does_not(seed):
    sample = telling(2)
    one, two, other = created(sample, seed), created(sample, seed), created(sample, seed + 1)
    assert one.image.tobytes() == two.image.tobytes()
    assert one.truth.tobytes() == two.truth.tobytes()
    assert one.image.tobytes() != other.image.tobytes()


def test_no_shift_changes_nothing():
    rng = np.random.default_rng(0)
    sample = Sample(rng.normal(size=SHAPE).astype("float32"), rng.integers(0, 9, SHAPE, "int32"))
    result = created(sample, 0, (0, 0, 0))
    np.testing.assert_array_equal(result.image, sample.image)
    np.testing.assert_array_equal(result.truth, sample.truth)
    assert (result.image.dtype, result.truth.dtype) == (np.float32, np.int32)


@pytest.mark.parametrize("planar", ["sections of the source", "all"])
def test_sections_of_planar_crops_stay_sections(planar):
    how = {"elastic": 1.0, "elastic_shift": (0.5, 1, 1), "elastic_spacing": (10.0, 20.0, 20.0)}
    z = telling(0)
    free = augmented(z, OFF.model_copy(update=how), np.random.default_rng(0))
    assert np.ptp(free.image, axis=(1, 2)).max() > 0.1
    if planar == "all":
        how["planar"] = True
    else:
        z = Sample(z.image, z.truth, z.marks, flat=True)
    remaining = augmented(z, OFF.model_copy(update=how), np.random.default_rng(0))
    np.testing.assert_allclose(remaining.image, z.image, atol=1e-5)
    assert (remaining.truth == UNKNOWN).any()  # it was bent, within sections


@pytest.mark.parametrize("change", ["elastic", "cutout"])
def test_what_is_off_takes_no_random_number(change):
    """Trainings without it see the same crops as before."""
    assert getattr(Augmentation(), change) == 0

    def seen(chance, seed):
        how = OFF.model_copy(update={change: chance, "brightness": 0.5})
        return augmented(telling(1), how, np.random.default_rng(seed)).image.tobytes()

    # The second draws once more and is not changed; sooner or later that shows in what is drawn.
    assert any(seen(0.0, seed) != seen(1e-12, seed) for seed in range(8))


def test_shifts_that_would_fold_are_refused(tmp_path):
    text = """out: x
voxel_size_nm: [10, 10, 10]
sources:
  - synthetic: {bounds: "0:32,0:32,0:32", seed: 5}
validation: {source: {synthetic: {bounds: "0:32,0:32,0:32", seed: 6}}}
augmentation: {elastic: 0.2, elastic_shift: [0, 3, 2]}
"""
    (tmp_path / "train.yaml").write_text(text)
    reported = (
        r"train.yaml:6: augmentation.*elastic_shift along y must be at most 1/20 of.*got 3 voxels"
    )
    with pytest.raises(PlanError, match=reported):
        load(tmp_path / "train.yaml")
