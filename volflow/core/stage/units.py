"""Parameters of stages in the user's units: `0.002 µm³` or `120 nm` in place of voxels.

A stage declares such a parameter by a mark in its annotation, and always sees voxels:

    min_size: Annotated[int, Field(ge=0), SIZE] = 0

    text            "0.002 µm³"         a pipeline file, --set
    Units           voxel size, planes  known once the inputs of a run are open
    voxels          exact: 31250 at 4 x 4 x 4 nm

Before the voxel size is known, a stage is built with 1 in place of each such text, so that its
inputs and outputs can be connected; it never runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from math import floor
from typing import Any, Literal, NamedTuple

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import core_schema

from volflow.core.geometry import Resolution

NANOMETRES = {"nm": 1, "µm": 10**3, "mm": 10**6}
POWERS = {"": 1, "2": 2, "²": 2, "3": 3, "³": 3}
NOUNS = {1: "a length", 2: "an area", 3: "a volume"}
EXAMPLES = {1: "120 nm", 2: "0.01 µm²", 3: "0.002 µm³"}
EITHER = " or "  # between two texts of which the planes decide
LARGEST = 1 << 62  # voxels: sizes are compared in 64 bits
WHOLE = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)
PLAIN = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
NUMBER = r"\d{1,20}(?:\.\d{0,20})?(?:[eE][+-]?\d{1,2})?|\.\d{1,20}"
QUANTITY = re.compile(rf"\s*({NUMBER})\s*(nm|[µμu]m|mm)\s*(\^?[23]|[²³])?\s*", re.ASCII)
PATTERN = r"^\s*([0-9.]+([eE][+-]?[0-9]+)?\s*(nm|[µμu]m|mm)\s*(\^?[23]|[²³])?\s*(or|$)\s*){1,2}$"


class Quantity(NamedTuple):
    """A length, area or volume: `number` nanometres to a power of 1, 2 or 3."""

    number: Fraction
    power: int


class Resolved(NamedTuple):
    """A parameter whose value follows from the volume: in voxels, or one of two texts."""

    parameter: str
    text: str
    value: int | float | tuple[int, ...] | str


@dataclass
class Units:
    """The voxels that units are resolved to, and the parameters resolved so far.

    Attributes
    ----------
    resolution : (float, float, float) or None
        Voxel size z y x in nanometres; None: not known yet.
    planes : int
        Planes along z of the bounds; 1 is a single section, in which a size is an area.
    resolved : list of Resolved
        The parameters that were given in units, or by the number of planes.
    depends : bool
        Whether a parameter depended on the voxel size or the planes.
    """

    resolution: Resolution | None = None
    planes: int = 0
    resolved: list[Resolved] = field(default_factory=list)
    depends: bool = False

    @property
    def sides(self) -> tuple[Fraction, Fraction, Fraction]:
        """The voxel size z y x in nanometres, as the decimal number that is shown."""
        assert self.resolution is not None
        z, y, x = (Fraction(Decimal(repr(float(side)))) for side in self.resolution)
        return z, y, x


@dataclass(frozen=True)
class InUnits:
    """A mark of a parameter in voxels that also takes text with a unit.

    Attributes
    ----------
    kind : str
        `size`: a volume, and in a single section an area; both may be given: `0.002 µm³ or
        0.01 µm²`. `area`: pixels of a section. `length`: along y and x. `sides`: a length along
        each axis, or a list z y x of them.
    whole : bool
        Whether the value is a whole number of voxels: the nearest one, a half upwards, and at
        least 1 unless the amount is 0.
    """

    kind: Literal["size", "area", "length", "sides"]
    whole: bool = True

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.with_info_wrap_validator_function(self._validated, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        voxels = handler(schema)
        options = voxels["anyOf"] if voxels.keys() == {"anyOf"} else [voxels]
        text = {"type": "string", "pattern": PATTERN, "examples": [self.example]}
        lists = [{"type": "array", "items": text, "minItems": 3, "maxItems": 3}]
        return {"anyOf": [*options, text, *(lists if self.kind == "sides" else [])]}

    @property
    def example(self) -> str:
        """A text that the parameter takes."""
        if self.kind == "size":
            return f"{EXAMPLES[3]} or {EXAMPLES[2]}"
        return EXAMPLES[2] if self.kind == "area" else EXAMPLES[1]

    def _validated(self, value: Any, handler: Callable[[Any], Any], info: ValidationInfo) -> Any:
        texts = [each for each in _values(value) if isinstance(each, str)]
        if all((WHOLE if self.whole else PLAIN).fullmatch(text) for text in texts):
            return handler(value)
        quantities = _quantities(value, self.example)
        units = info.context if isinstance(info.context, Units) else None
        if units is None:
            raise ValueError("expected voxels: outside a pipeline the voxel size is not known")
        self._check_powers(quantities)
        units.depends = True
        if units.resolution is None:
            return 1
        voxels = self._voxels(quantities, units)
        units.resolved.append(Resolved(str(info.field_name), _shown(value), voxels))
        return handler(voxels)

    def _check_powers(self, quantities: list[list[Quantity]]) -> None:
        known = {"size": (2, 3), "area": (2,), "length": (1,), "sides": (1,)}[self.kind]
        for alternatives in quantities:
            powers = [quantity.power for quantity in alternatives]
            for power in powers:
                if power not in known:
                    wanted = " or ".join(NOUNS[each] for each in reversed(known))
                    raise ValueError(
                        f"expected voxels or {wanted} such as {self.example}, not {NOUNS[power]}"
                    )
            if len(set(powers)) < len(powers):
                raise ValueError(f"expected one volume and one area, such as {self.example}")

    def _voxels(
        self, quantities: list[list[Quantity]], units: Units
    ) -> int | float | tuple[int, ...]:
        z, y, x = units.sides
        if self.kind == "sides":
            along = quantities * 3 if len(quantities) == 1 else quantities
            sides = zip(along, (z, y, x), strict=True)
            return tuple(_whole(given.number / side) for (given,), side in sides)
        (alternatives,) = quantities
        if self.kind == "length":
            if abs(y - x) > y / 10_000:
                raise ValueError(
                    f"expected pixels, as they are not square ({float(y):g} x {float(x):g} nm)"
                )
            amount = alternatives[0].number / x
        else:
            flat = self.kind == "area" or units.planes == 1
            given = _of_power(alternatives, 2 if flat else 3)
            amount = given / (y * x if flat else z * y * x)
        return _whole(amount) if self.whole else float(amount)


SIZE = InUnits("size")
"""Mark of a number of voxels that is the size of an object."""
AREA = InUnits("area")
"""Mark of a number of pixels of a section."""
SUM = InUnits("size", whole=False)
"""Mark of a sum over voxels of numbers up to 1."""
LENGTH = InUnits("length", whole=False)
"""Mark of a length in pixels within sections."""
SIDES = InUnits("sides")
"""Mark of the sides of a box in voxels: a number, or z y x."""


@dataclass(frozen=True)
class OfRun:
    """A mark of a parameter, None by default, whose default is the voxel size of the run."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.with_info_before_validator_function(_of_run, handler(source))


def _of_run(value: Any, info: ValidationInfo) -> Any:
    if value is None and isinstance(info.context, Units):
        info.context.depends = True
        return info.context.resolution
    return value


@dataclass(frozen=True)
class ByPlanes:
    """A mark of a text parameter that takes two texts: `VOLUME or SECTION`.

    The second is the value where the bounds are a single section. Before that is known, and outside
    a pipeline, the first is.
    """

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.with_info_before_validator_function(_by_planes, handler(source))


def _by_planes(given: Any, info: ValidationInfo) -> Any:
    if not isinstance(given, str) or EITHER not in given:
        return given
    volume, _, section = (part.strip() for part in given.partition(EITHER))
    units = info.context if isinstance(info.context, Units) else Units()
    units.depends = True
    chosen = section if units.planes == 1 else volume
    if units.resolution is not None:
        units.resolved.append(Resolved(str(info.field_name), given, chosen))
    return chosen


def quantity(text: str, example: str = EXAMPLES[3]) -> Quantity:
    """The length, area or volume that a text names, exactly.

    Parameters
    ----------
    text : str
        A number and `nm`, `µm` or `mm`, to the power of 2 or 3 for areas and volumes: `µm³`,
        `um3` and `um^3` are the same.
    example : str
        A valid text, for the error.

    Raises
    ------
    ValueError
        If the text is anything else.
    """
    match = QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"expected voxels, or a number with a unit such as {example}")
    number, unit, exponent = match.groups()
    power = POWERS[(exponent or "")[-1:]]
    side = NANOMETRES[unit.replace("μ", "µ").replace("u", "µ")]
    return Quantity(Fraction(Decimal(number)) * side**power, power)


def check_size(text: str) -> str:
    """The text of a size in units, as a parameter takes it.

    Raises
    ------
    ValueError
        If the text is anything else.
    """
    SIZE._check_powers(_quantities(text, SIZE.example))
    return text


def size_in_voxels(value: int | str, resolution: Resolution, planes: int) -> int:
    """Voxels of a size given in voxels or in units, as stages resolve it.

    Parameters
    ----------
    value : int or str
    resolution : (float, float, float)
        Voxel size z y x in nanometres.
    planes : int
        Planes along z of the bounds; in a single one, the size is an area.

    Raises
    ------
    ValueError
        If the text is no size, or not one of the kind that the bounds need.
    """
    if isinstance(value, int) or WHOLE.fullmatch(value):
        return int(value)
    quantities = _quantities(value, SIZE.example)
    SIZE._check_powers(quantities)
    voxels = SIZE._voxels(quantities, Units(resolution, planes))
    assert isinstance(voxels, int)
    return voxels


def _values(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _quantities(value: Any, example: str) -> list[list[Quantity]]:
    """The alternatives of a text, or of each text of a list."""
    values = _values(value)
    if len(values) not in (1, 3) or not all(isinstance(each, str) for each in values):
        raise ValueError(f"expected three lengths z y x, all with a unit such as {example}")
    return [[quantity(part, example) for part in each.split(" or ", 1)] for each in values]


def _of_power(alternatives: list[Quantity], power: int) -> Fraction:
    """The number of the alternative that is an area, or a volume."""
    for number, own in alternatives:
        if own == power:
            return number
    if power == 2:
        reason = "an area such as 0.01 µm², as the bounds are a single section (one plane along z)"
    else:
        reason = "a volume such as 0.002 µm³, as the bounds have several planes along z"
    raise ValueError(f"expected {reason}; both may be given: {SIZE.example}")


def _whole(amount: Fraction) -> int:
    """The nearest whole number, a half upwards, and at least 1 unless the amount is 0."""
    number = floor(amount + Fraction(1, 2))
    if number >= LARGEST:
        raise ValueError(f"expected fewer than 2**62 voxels; this is {float(number):.3g}")
    return max(number, 1) if amount else 0


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else ", ".join(value)
