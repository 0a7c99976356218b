"""Units of length as metadata spell them."""

from __future__ import annotations

NO_UNIT = ("", "none", "null", "pixel", "pixels", "voxel", "voxels", "px", "unitary", "arbitrary")
"""Words in place of a unit that are no unit of length."""

_NANOMETRES = {
    "angstrom": 0.1,
    "picometer": 1e-3,
    "picometre": 1e-3,
    "nanometer": 1.0,
    "micrometer": 1e3,
    "millimeter": 1e6,
    "meter": 1e9,
    "å": 0.1,
    "a": 0.1,
    "pm": 1e-3,
    "nm": 1.0,
    "nanometre": 1.0,
    "um": 1e3,
    "µm": 1e3,  # micro sign
    "μm": 1e3,  # Greek mu
    "\\u00b5m": 1e3,  # as ImageJ escapes it
    "micron": 1e3,
    "micrometre": 1e3,
    "mm": 1e6,
    "millimetre": 1e6,
    "cm": 1e7,
    "centimeter": 1e7,
    "centimetre": 1e7,
    "m": 1e9,
    "metre": 1e9,
    "in": 2.54e7,
    "inch": 2.54e7,
}


def unit_nm(name: object) -> float | None:
    """Nanometres of a unit of length; None if it is not one."""
    text = str(name).strip().lower()
    return _NANOMETRES.get(text, _NANOMETRES.get(text.removesuffix("s")))
