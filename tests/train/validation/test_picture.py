"""The picture of a validation: a row for each source, a panel for each of its channels."""

import imagecodecs
import numpy as np

from volflow.train.data.samples import Source
from volflow.train.validation.picture import draw_picture


def test_every_head_and_truth_has_its_panel(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (3, 8, 10)).astype(np.float32)
    truth = np.zeros((3, 8, 10), np.int32)
    truth[:, :, 5:] = 1
    marks = np.zeros((1, 3, 8, 10), np.uint8)
    marks[0, 1, 2] = 1
    marks[0, 1, 3] = 255  # unknown is drawn as none
    affinity, organ = (rng.integers(0, 255, (n, 3, 8, 10)).astype(np.uint8) for n in (3, 2))
    sources = [Source(image, truth, marks=marks), Source(image, truth * 0)]
    draw_picture(tmp_path / "a.png", sources, [{"affinity": affinity, "organ": organ}, {}])
    actual = imagecodecs.png_decode((tmp_path / "a.png").read_bytes())
    assert actual.shape == (8 + 4 + 8, 5 * 10 + 4 * 4, 3)
    panels = [actual[:8, 14 * n : 14 * n + 10] for n in range(5)]
    np.testing.assert_array_equal(panels[1], np.moveaxis(affinity[:, 1], 0, -1))
    np.testing.assert_array_equal(panels[2][..., 1], organ[0, 1])
    assert (panels[3][:, :5] == 0).all()
    assert (panels[3][:, 5:] > 0).all()
    rows = (panels[4] == 255).all(axis=(1, 2))
    np.testing.assert_array_equal(rows, np.arange(8) == 2)
    np.testing.assert_array_equal(actual[12:, :10], panels[0])
    assert (actual[12:, 10:] == 255).all()
