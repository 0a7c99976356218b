"""`predict` where a block is left to the device as a whole, as on a GPU; here it is a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.networks import ARGUMENTS, FIXED, checkpoint
from tests.stages.contract import Case, run
from tests.stages.test_predict import BOUNDS, EM, MANY
from volflow.models.inference import Inference
from volflow.stages import predict as predict_stage
from volflow.stages.predict import BASE, PER_TILE_VOXEL, Predict


@pytest.fixture(scope="module")
def headed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose network has several heads."""
    path = tmp_path_factory.mktemp("networks") / "headed.safetensors"
    return checkpoint(path, **MANY, arguments={**ARGUMENTS, "out_channels": 8}, normalisation=FIXED)


@pytest.fixture
def whole_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Inference]]:
    """Blocks are left to the device as a whole, as on a GPU; the inferences that were created."""
    given: list[Inference] = []
    created = Inference.__init__

    def leave(self: Inference, *args: Any, **more: Any) -> None:
        created(self, *args, **more)
        self.whole_blocks = True
        given.append(self)

    predict_stage._inference.cache_clear()
    monkeypatch.setattr(Inference, "__init__", leave)
    yield given
    predict_stage._inference.cache_clear()


@pytest.mark.parametrize(
    "with_",
    [
        {"precision": "fp32"},
        {"precision": "bf16", "write": {"far": (3, 0)}},
        {"precision": "fp32", "overlap": (4, 6, 8), "flips": "x"},
        {"precision": "fp32", "heads": ("height", "shape", "affinity"), "flips": "yx"},
    ],
)
def test_whole_blocks_on_the_device_have_the_same_bytes(
    headed: Path, with_: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    case = Case(Predict(model=str(headed), **with_), BOUNDS, {"em": EM})
    expected = run(case, BOUNDS.shape)
    given = request.getfixturevalue("whole_blocks")
    for shape in (BOUNDS.shape, (11, 40, 20)):
        actual = run(case, shape)
        assert actual.keys() == expected.keys()
        for name in expected:
            np.testing.assert_array_equal(actual[name], expected[name])
    assert len(given) == 1  # loaded once


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_what_the_device_needs_of_this_machine_is_within_the_plan(
    headed: Path, whole_blocks: list[Inference], dtype: str
) -> None:
    stage = Predict(model=str(headed), heads=("height", "shape", "affinity"))
    run(Case(stage, BOUNDS, {"em": EM.astype(dtype)}), BOUNDS.shape)
    transfers, table = whole_blocks[0].transfers, 4 * (np.iinfo(dtype).max + 1)
    # torch rounds buffers up to a power of two
    pinned = 2 * (transfers.bytes_up - table + transfers.bytes_down)
    planned = stage.memory(BOUNDS.shape) - BASE - PER_TILE_VOXEL * int(np.prod((36, 36, 36)))
    image = EM.size * np.dtype(dtype).itemsize
    assert 2 * image < pinned + image < planned
    assert table < BASE


def test_an_image_of_floats_is_refused(headed: Path, whole_blocks: list[Inference]) -> None:
    case = Case(Predict(model=str(headed)), BOUNDS, {"em": EM.astype("float32")})
    with pytest.raises(ValueError, match="expected uint8 or uint16 intensities; got float32"):
        run(case, BOUNDS.shape)
