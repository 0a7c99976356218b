"""The unit of the positions in a table, as its address states it."""

from __future__ import annotations

from volflow.config.problems import closest
from volflow.errors import StorageError
from volflow.io.address import Address

OPTIONS = ("unit_nm",)


def unit_of(address: Address) -> tuple[float, float, float]:
    """Nanometres of a unit along z, y, x."""
    given = dict(address.query)
    for name in given:
        if name not in OPTIONS:
            raise StorageError(
                f"{address}: no option '{name}'{closest(name, OPTIONS)} (options: "
                f"{', '.join(OPTIONS)})"
            )
    text = given.get("unit_nm", "1")
    try:
        sides = [float(word) for word in text.split(",")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 3) or not all(0 < side < float("inf") for side in sides):
        raise StorageError(
            f"{address}: unit_nm: expected one positive number of nanometres, or three for z,y,x; "
            f"got {text!r}"
        )
    z, y, x = sides * 3 if len(sides) == 1 else sides
    return z, y, x
