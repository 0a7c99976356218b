from __future__ import annotations

import numpy as np
import pytest

from tests.stages.contract import Case, StageContract
from volflow.core.geometry import BlockGrid, Box
from volflow.core.stage import find_stage
from volflow.stages.convert import Convert, exact_cast

BOUNDS = Box((2, -3, 5), (11, 8, 13))
VOLUME = np.random.default_rng(0).integers(0, 256, (3, *BOUNDS.shape)).astype(np.uint16)


class TestConvert(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        return Case(Convert(dtype="uint8", channels=3, kind="affinity"), BOUNDS, {"volume": VOLUME})


def test_a_value_that_does_not_fit_names_its_block() -> None:
    block = BlockGrid(BOUNDS, (3, 4, 4))[1, 0, 0]
    volume = np.full(block.write.shape, 256, np.uint16)
    with pytest.raises(ValueError, match=r"block \(1, 0, 0\) \(5:8,-3:1,5:9\): value 256 \(uint16"):
        Convert().run(block, volume=volume)


@pytest.mark.parametrize(
    ("value", "source", "target"),
    [
        (255, "uint64", "uint8"),
        (-1, "int32", "int8"),
        (2**63, "uint64", "float32"),  # a power of two, but beyond what is always exact
        (3.0, "float64", "uint8"),
        (0.1, "float64", "float32"),
        (float("nan"), "float32", "float64"),
        (float("inf"), "float64", "float32"),
        (2**24, "uint32", "float32"),
        (True, "bool", "uint8"),
    ],
)
def test_values_that_fit_and_one_that_is_doubtful(value: float, source: str, target: str) -> None:
    values = np.array([[[value]]], source)
    if (source, target) == ("uint64", "float32"):
        with pytest.raises(ValueError, match="does not fit float32"):
            exact_cast(values, target)
        return
    out = exact_cast(values, target)
    assert out.dtype == target
    np.testing.assert_array_equal(out, np.array([[[value]]], target))


@pytest.mark.parametrize(
    ("value", "source", "target"),
    [
        (256, "uint64", "uint8"),
        (-1, "int8", "uint64"),
        (2**63, "uint64", "int64"),
        (0.5, "float32", "uint8"),
        (float("nan"), "float32", "int64"),
        (2.0**64, "float64", "uint64"),
        (2.0**63, "float64", "int64"),
        (-1.0, "float64", "uint64"),
        (1e300, "float64", "float32"),
        (2**24 + 1, "uint32", "float32"),
        (-(2**53) - 1, "int64", "float64"),
    ],
)
def test_values_that_do_not_fit(value: float, source: str, target: str) -> None:
    values = np.array([[[0, value]]], source)
    with pytest.raises(ValueError, match=f"does not fit {target}"):
        exact_cast(values, target)


def test_types_are_checked_before_anything_runs() -> None:
    assert find_stage("convert") is Convert
    with pytest.raises(ValueError, match=r"expected an integer or float type .* got 'uint9'"):
        Convert(dtype="uint9")
    with pytest.raises(ValueError, match="got 'S4'"):
        Convert(dtype="S4")
