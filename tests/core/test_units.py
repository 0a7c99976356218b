"""Parameters in units: exact numbers of voxels, and errors that name what was expected."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from volflow.core.stage import AREA, LENGTH, SIDES, SIZE, SUM, OfRun, Resolved, Units
from volflow.core.stage.units import size_in_voxels

Side = Annotated[int, Field(ge=1)]
Floats = tuple[float, float, float]


class Sizes(BaseModel):
    """One parameter of each kind."""

    size: Annotated[int, Field(ge=0), SIZE] = 0
    area: Annotated[int, Field(ge=1), AREA] = 1
    sum: Annotated[float, Field(gt=0), SUM] = 1.0
    length: Annotated[float, Field(gt=0, le=100), LENGTH] = 1.0
    sides: Annotated[tuple[Side, Side, Side] | Side | None, SIDES] = None
    resolution: Annotated[Floats | None, Field(validate_default=True), OfRun()] = None


def sizes(units: Units | None = None, **parameters: Any) -> Sizes:
    return Sizes.model_validate(parameters, context=units)


def message(units: Units | None = None, **parameters: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        sizes(units, **parameters)
    return str(caught.value)


def decimal(number: Fraction) -> str:
    """A fraction whose denominator divides a power of ten, as a decimal number."""
    return f"{Decimal(number.numerator) / Decimal(number.denominator):f}"


side = st.integers(1, 5000).map(lambda tenths: tenths / 10)  # nm, with one decimal
spelling = st.sampled_from(["{}m{}", "{}m^{}", " {}m{}"])


@given(st.integers(1, 10**7), st.tuples(side, side, side), st.sampled_from("nµμu"), spelling)
def test_the_same_amount_in_any_unit_is_the_same_number_of_voxels(count, voxel, prefix, spelled):
    z, y, x = (Fraction(str(length)) for length in voxel)
    step = 1 if prefix == "n" else 1000
    volume, area = count * z * y * x / step**3, count * y * x / step**2
    several, single = Units(voxel, 7), Units(voxel, 1)
    in_volume = f"{decimal(volume)}{spelled.format(prefix, 3)}"
    in_area = f"{decimal(area)}{spelled.format(prefix, 2)}"
    assert sizes(several, size=in_volume).size == count
    assert sizes(single, size=in_area).size == count
    assert sizes(several, area=in_area).area == count
    assert sizes(single, size=f"{in_volume} or {in_area}").size == count
    assert sizes(several, size=f"{in_area} or {in_volume}").size == count
    assert sizes(several, sum=in_volume).sum == count
    assert sizes(several, sides=f"{decimal(count * z)} nm").sides[0] == count
    assert size_in_voxels(in_volume, voxel, 7) == count
    assert several.resolved[0] == Resolved("size", in_volume, count)


@pytest.mark.parametrize(
    ("text", "voxels"),
    [
        ("0 µm³", 0),
        ("1e-9 µm³", 1),  # 1/64 of a voxel: at least one
        ("95 nm³", 1),  # 1.48 voxels
        ("96 nm³", 2),  # 1.5 voxels, a half upwards
        ("160 nm³", 3),  # 2.5 voxels
        ("1e-6 mm³", 15625000000),
        (" .002   µm³ ", 31250),
    ],
)
def test_voxels_are_the_nearest_whole_number_a_half_upwards_and_at_least_one(text, voxels):
    assert sizes(Units((4, 4, 4), 2), size=text).size == voxels


def test_lengths_are_along_each_axis_or_in_pixels_of_a_section():
    units = Units((40, 8, 8), 5)
    assert sizes(units, sides="8 µm").sides == (200, 1000, 1000)
    assert sizes(units, sides=["2 µm", "0.004 mm", "400 nm"]).sides == (50, 500, 50)
    assert sizes(units, length="20 nm").length == 2.5
    assert sizes(units, sides=[1, 2, 3]).sides == (1, 2, 3)
    assert "not square (4 x 8 nm)" in message(Units((40, 4, 8), 5), length="20 nm")


def test_numbers_are_voxels_whatever_the_units():
    for units in (None, Units(), Units((40, 8, 8), 1)):
        plain = sizes(units, size=7, area="7", sum="0.5", sides=512)
        assert (plain.size, plain.area, plain.sum, plain.sides) == (7, 7, 0.5, 512)
        assert units is None or not units.resolved


def test_before_the_voxel_size_is_known_units_are_checked_and_marked():
    units = Units()
    assert sizes(units, size="3 µm³").size == 1
    assert units.depends
    assert "not a length" in message(Units(), size="3 nm")
    assert sizes(Units((30, 9.2, 9.2), 4)).resolution == (30, 9.2, 9.2)
    assert sizes(Units((30, 9.2, 9.2), 4), resolution=(1, 2, 3)).resolution == (1, 2, 3)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"size": "3 µm"}, "expected voxels or a volume or an area such as 0.002 µm³ or 0.01 µm²"),
        ({"size": "3 cm³"}, "expected voxels, or a number with a unit such as 0.002 µm³ or"),
        ({"size": "-3 µm³"}, "expected voxels, or a number with a unit such as"),
        ({"size": "0.002"}, "expected voxels, or a number with a unit such as"),
        ({"size": "3 µm4"}, "expected voxels, or a number with a unit such as"),
        ({"size": "3 µm²"}, "expected a volume such as 0.002 µm³, as the bounds have several pla"),
        ({"size": "3 µm³ or 2 µm³"}, "expected one volume and one area"),
        ({"size": "1e80 mm³"}, "expected fewer than 2**62 voxels; this is 1.56e+96"),
        ({"area": "3 µm³"}, "expected voxels or an area such as 0.01 µm², not a volume"),
        ({"area": "0 µm²"}, "greater than or equal to 1"),
        ({"length": "3 µm²"}, "expected voxels or a length such as 120 nm, not an area"),
        ({"length": "1 µm"}, "less than or equal to 100"),
        ({"sides": ["1 µm", 20, 20]}, "expected three lengths z y x, all with a unit"),
        ({"sides": ["1 µm", "1 µm"]}, "expected three lengths z y x, all with a unit"),
    ],
)
def test_other_texts_are_errors_that_name_what_was_expected(parameters, expected):
    assert expected in message(Units((4, 4, 4), 9), **parameters)


def test_a_volume_needs_the_area_in_a_single_section_and_a_run():
    assert "expected an area such as 0.01 µm², as the bounds are a single section" in message(
        Units((4, 4, 4), 1), size="0.002 µm³"
    )
    assert "expected voxels: outside a pipeline the voxel size is not known" in message(
        size="0.002 µm³"
    )


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("0.002 µm³", True),
        (" 2e6nm^3 ", True),
        ("0.002 um3 or 0.01 µm²", True),
        ("0.002 µm³ and 0.01 µm²", False),
        ("0.002", False),
        ("3 cm", False),
    ],
)
def test_the_schema_accepts_quantities_and_one_alternative(text, fits):
    number, of_text = Sizes.model_json_schema()["properties"]["size"]["anyOf"]
    assert number == {"type": "integer", "minimum": 0}
    assert bool(re.search(of_text["pattern"], text)) == fits
    assert bool(re.search(of_text["pattern"], of_text["examples"][0]))
