"""The training file: all problems at once, each with its place; the bundled ones are valid."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from volflow.errors import PlanError
from volflow.train.config.training import NEAREST, load
from volflow.train.data.sources import source_problems
from volflow.train.kinds import kind_of
from volflow.train.supervised import KIND as VOXELS

FOLDER = Path(__file__).parents[3] / "pipelines" / "train"
BUNDLED = sorted(FOLDER.glob("*.yaml"))

SYNTHETIC = """
out: somewhere
voxel_size_nm: [10, 10, 10]
sources:
  - synthetic: {bounds: "0:32,0:32,0:32", seed: 5}
validation:
  source:
    synthetic: {bounds: "0:32,0:32,0:32", seed: 6}
network: {widths: [2, 2], pools: [[2, 2, 2]]}
crop: [16, 16, 16]
"""


def written(tmp_path, text):
    path = tmp_path / "train.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_the_bundled_files_are_right(path):
    kind = kind_of(path)
    training = kind.load(path, ())
    assert training.steps > 0
    if kind is not VOXELS:
        return
    assert training.masks or training.offsets
    assert training.offsets[:3] in ((), NEAREST)


def test_something_was_bundled():
    assert {path.stem for path in BUNDLED} >= {"fib25", "fib25_lsd", "synth"}


def test_options_come_before_the_file_and_paths_become_absolute(tmp_path):
    path = written(tmp_path, SYNTHETIC)
    training = load(path, ("steps=7", "network.depth=2", f"out={tmp_path}/x"))
    assert (training.steps, training.network.depth) == (7, 2)
    assert training.out == f"{tmp_path}/x"
    assert Path(load(path).out).is_absolute()
    assert source_problems(training) == []


def test_all_mistakes_are_reported_at_once_each_with_its_line(tmp_path):
    text = SYNTHETIC.replace("seed: 5", "sead: 5") + "steps: 0\nlerning_rate: 1\nseed: none\n"
    with pytest.raises(PlanError) as caught:
        load(written(tmp_path, text))
    actual = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    assert "train.yaml:5: sources[0].synthetic.sead" in actual
    assert "did you mean 'seed'?" in actual
    assert "train.yaml:11: steps" in actual
    assert "train.yaml:12: lerning_rate" in actual
    assert "did you mean 'learning_rate'?" in actual
    assert "train.yaml:13: seed" in actual


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("crop: [16, 16, 16]", "crop: [16, 16, 15]"), "crop must be a multiple of 2 along x"),
        (("pools: [[2, 2, 2]]", "pools: []"), "expected one pool fewer than widths, 1; got 0"),
        (("crop:", "tiles: {halo: [48, 0, 0]}\ncrop:"), "halo leaves nothing of"),
        (("synthetic: {bounds", "bounds: here\n    synthetic: {bounds"), "expected a box z0:z1"),
        (("synthetic:", "image: {path: x}\n    synthetic:"), "either image and labels, or"),
    ],
)
def test_what_does_not_fit_together_is_reported(tmp_path, change, words):
    with pytest.raises(PlanError, match=words):
        load(written(tmp_path, SYNTHETIC.replace(*change)))


HEADS = (
    SYNTHETIC
    + """masks:
  organ: {channels: [mitochondria, mitochondria.contour]}
foreground: {}
"""
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("[mitochondria, mit", "[mitochondrion, mit"), "no source has a mask 'mitochondrion'"),
        (("ia.contour", "ia.edge"), r"a mask 'mitochondria.edge'.*'.contour' of one is its border"),
        (("ia.contour", "ia, foo.contour"), "masks.organ: no source has a mask 'foo'"),
        (("  organ:", "  lsd:"), "masks.lsd: a head of masks cannot be called affinity or lsd"),
        (
            ("foreground: {}", "foreground: {}\nstart: a\nstart_encoder: b"),
            "expected only one of them",
        ),
        (("crop:", "mixing: {beta: 0.7}\ncrop:"), "mixing.beta: expected less than 0.5; got 0.7"),
        (("zero: background", "zero: unknown"), "foreground is trained on labels with zero:"),
        (("{widths: [2, 2], p", "{kind: mnet, widths: [2, 2], p"), "of kind mnet has no pools"),
        (
            ("{widths: [2, 2], pools: [[2, 2, 2]]}", "{kind: mnet, widths: [2, 2, 2, 2]}"),
            "mnet has 5 levels; got 4 widths",
        ),
        (
            ("pools: [[2, 2, 2]]", "pools: [[2, 2, 2]], kernels: [[3, 3, 3]]"),
            "as many kernels as widths",
        ),
        (
            ("pools: [[2, 2, 2]]", "pools: [[2, 2, 2]], kernels: [[2, 3, 3], [3, 3, 3]]"),
            "kernels must be odd",
        ),
        (("zero: background", "sections: [3, 1]"), "sections must ascend"),
        (("zero: background", "masks: {a: {path: x}}"), "or image and masks, or synthetic"),
        (("zero: background", "known: {path: x}"), "or image and masks, or synthetic"),
        (("  source:\n", "  sources: []\n  sauce:\n"), "did you mean 'source'?"),
        (("zero: background", "mask: {a: 1}"), "unknown key 'mask'; did you mean 'masks'?"),
    ],
)
def test_what_cannot_be_learnt_is_reported(tmp_path, change, words):
    text = HEADS.replace("seed: 5}", "seed: 5}\n    zero: background")
    assert change[0] in text
    load(written(tmp_path, text))
    with pytest.raises(PlanError, match=words):
        load(written(tmp_path, text.replace(*change)))


def test_a_network_has_to_learn_something(tmp_path):
    with pytest.raises(PlanError, match="nothing to train: expected offsets, descriptors"):
        load(written(tmp_path, SYNTHETIC + "offsets: []\n"))


def test_sources_of_a_validation_have_names(tmp_path):
    text = SYNTHETIC.replace("  source:\n    synthetic:", "  sources:\n    - synthetic:")
    assert load(written(tmp_path, text)).validation.held_out[0].title == "synthetic"
    twice = text.replace("    - synthetic: {", "    - synthetic: {seed: 1, bounds: '0:9,0:9,0:9'}\n"
                         "    - synthetic: {")  # fmt: skip
    with pytest.raises(PlanError, match="need names that differ"):
        load(written(tmp_path, twice))
    load(written(tmp_path, twice.replace("'0:9,0:9,0:9'}", "'0:9,0:9,0:9'}\n      name: a")))


def test_what_is_wrong_with_the_volumes_of_masks_is_reported(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = np.zeros((32, 32, 32), np.uint8)
        file["mask"] = np.zeros((32, 32, 31), np.uint8)
        file["known"] = np.zeros((32, 32, 32), np.float32)
    at = f"{{path: 'hdf5://{tmp_path}/a.h5?dataset="
    text = SYNTHETIC.replace(
        'synthetic: {bounds: "0:32,0:32,0:32", seed: 5}',
        f"image: {at}raw'}}\n    masks: {{cleft: {at}mask'}}}}\n    known: {at}known'}}\n"
        "    voxel_size_nm: [10, 4, 10]",
    )
    text += "offsets: []\nmasks: {synapse: {channels: [cleft]}}\n"
    wrong = source_problems(load(written(tmp_path, text)))
    assert [
        t for t in wrong if "expected a volume that covers 0:32,0:32,0:32, got 0:32,0:32,0:31" in t
    ]
    assert [t for t in wrong if "expected integer labels, got float32" in t]
    smaller = "(32, 13, 32) voxels after resampling) is too small; expected at least (16, 16, 16)"
    assert [t for t in wrong if smaller in t]
    assert len(wrong) == 3


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(PlanError, match="cannot be read"):
        load(tmp_path / "nowhere.yaml")
    with pytest.raises(PlanError, match="expected keys and values"):
        load(written(tmp_path, "- 1\n"))


def test_volumes_that_are_not_there_or_too_small_are_reported_together(tmp_path):
    text = SYNTHETIC.replace(
        'synthetic: {bounds: "0:32,0:32,0:32", seed: 6}',
        "image: {path: 'hdf5:///nowhere/a.h5?dataset=raw'}\n"
        "    labels: {path: 'hdf5:///nowhere/a.h5?dataset=labels'}",
    )
    wrong = source_problems(load(written(tmp_path, text), ("crop=[64,16,16]",)))
    assert len(wrong) == 3
    assert "training data are not bundled" in wrong[-1]
    assert any("sources[0]: 0:32,0:32,0:32 is too small" in text for text in wrong)
    assert any("validation.source: " in text and "/nowhere/a.h5" in text for text in wrong)
