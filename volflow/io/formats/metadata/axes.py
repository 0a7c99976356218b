"""Axes, voxel size and position of a volume from metadata: one reader for all formats.

Each format finds its own keys and hands them over as `Metadata`, in the order of the stored axes;
`place` turns them into a `Placement`. What is not understood is refused, or named in a warning
that the plan prints and the report shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorstore as ts

from volflow.core.geometry import Box, Resolution, Zyx, zyx
from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.formats.metadata.units import NO_UNIT, unit_nm
from volflow.io.formats.stored_array import (
    ChunkedArray,
    Layout,
    MetadataNotes,
    anchored,
    spatial_chunks,
)

ALIASES = {
    **dict.fromkeys(("channel", "channels", "ch"), "c"),
    **dict.fromkeys(("time", "frame"), "t"),
    **dict.fromkeys(("plane", "pln", "slice", "section", "depth"), "z"),
    **dict.fromkeys(("row", "height"), "y"),
    **dict.fromkeys(("col", "column", "width"), "x"),
}
ROUNDING = 1e-3  # of a voxel: what float32 and decimal places leave of a whole number


@dataclass(frozen=True)
class Metadata:
    """Metadata of an array as found; None or empty where there are none.

    Numbers and units are listed one per stored axis, one per axis of space in their stored order,
    or once for all; a mapping has them by the name of the axis.

    Attributes
    ----------
    source : str
        Where this was found, for messages.
    names : list of str or None
        Of the axes, in their stored order.
    scale, translation : object
        Size of a voxel, and position of the centre of the first one, in the units.
    units : object
        Of scale and translation.
    default_unit : str
        The unit by convention where none is named; "" if there is no convention.
    finest, finest_translation : object
        Scale and translation of the finest scale of a pyramid of which this is a coarser one.
    problem : str
        A part of the metadata that places the volume and is not understood.
    warnings : tuple of str
        Other parts that are not understood.
    """

    source: str = "its metadata"
    names: Sequence[object] | None = None
    scale: Any = None
    translation: Any = None
    units: Any = None
    default_unit: str = ""
    finest: Any = None
    finest_translation: Any = None
    problem: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Placement:
    """The axes, voxel size and position of a stored array.

    Attributes
    ----------
    order : tuple of int
        Numbers of the stored axes in the order (c,) z, y, x.
    dropped : tuple of int
        Numbers of the axes of length 1 that are left out.
    resolution : tuple of float or None
        Nanometres per voxel, z y x; None if unknown.
    start : Zyx
        The first voxel.
    notes : MetadataNotes
        What was assumed, and what is left for the user's declaration to decide.
    """

    order: tuple[int, ...]
    dropped: tuple[int, ...]
    resolution: Resolution | None
    start: Zyx
    notes: MetadataNotes


def place(metadata: Metadata, shape: Sequence[int], where: str) -> Placement:
    """The placement of an array of this shape.

    Raises
    ------
    StorageError
        If the axes are not (c,) z, y, x in any order, with others of length 1.
    """
    warnings, of_size = list(metadata.warnings), []
    names = _axis_names(metadata, shape, where, warnings)
    order, dropped = _order(names, shape, where)
    spatial = order[-3:]
    source = metadata.source

    def triple(key: str) -> tuple[float, float, float] | None:
        return _triple(getattr(metadata, key), spatial, len(shape))

    scale = triple("scale")
    if metadata.scale is not None and (scale is None or min(scale) <= 0):
        of_size.append(
            f"{source}: expected a voxel size of positive numbers, got {_shown(metadata.scale)}; "
            f"it is not used"
        )
        scale = None
    factors = _factors(metadata, spatial, len(shape), scale is not None, of_size)
    resolution: Resolution | None = None
    if scale is not None and factors is not None:
        resolution = _product(scale, factors)
    start, offset_nm, problem = zyx(0), None, metadata.problem
    shift = triple("translation")
    if metadata.translation is not None and shift is None and not problem:
        problem = f"expected an offset of finite numbers, got {_shown(metadata.translation)}"
    if shift is not None and any(shift) and not problem:
        if scale is not None:  # a ratio, whatever the unit
            start, problem, warning = first_voxel(
                shift, scale, triple("finest"), triple("finest_translation")
            )
            warnings += [f"{source}: {warning}"] if warning else []
        elif factors is not None:
            offset_nm = _product(shift, factors)
        else:
            problem = f"expected a unit of the offset {_shown(shift)}, got none"
    problem = f"{source}: {problem}; declare `offset` in voxels" if problem else ""
    return Placement(
        order,
        dropped,
        resolution,
        start,
        MetadataNotes(tuple(warnings), tuple(of_size), offset_nm, problem),
    )


def first_voxel(
    shift: Sequence[float],
    scale: Sequence[float],
    finest: Sequence[float] | None = None,
    base: Sequence[float] | None = None,
) -> tuple[Zyx, str, str]:
    """The first voxel from a translation and the size of a voxel, in one unit, z y x.

    The centre of a coarser voxel is half its size less half a fine voxel beyond that of its first
    fine one, so a translation by that much more is explained by the scale. A translation by
    less than a voxel counts as 0.

    Parameters
    ----------
    shift, scale : sequence of float
    finest, base : sequence of float, optional
        Scale and translation of the finest scale of the pyramid.

    Returns
    -------
    Zyx, str, str
        The first voxel; the problem if there is no such whole voxel; a warning.
    """
    explained = [0.0, 0.0, 0.0]
    if finest is not None:
        begin = base if base is not None else (0.0, 0.0, 0.0)
        explained = [
            (side - fine) / 2 + (first - round(first / fine) * fine)
            for side, fine, first in zip(scale, finest, begin, strict=True)
        ]
    voxels = []
    for value, side, extra in zip(shift, scale, explained, strict=True):
        choices = [value / side, (value - extra) / side]
        voxels.append(next((v for v in choices if _is_whole(v)), choices[0]))
    if all(map(_is_whole, voxels)):
        return zyx([round(voxel) for voxel in voxels]), "", ""
    if all(abs(voxel) < 0.999 for voxel in voxels):
        return zyx(0), "", f"a translation of {_shown(shift)}, less than a voxel, is not used"
    return (
        zyx(0),
        f"expected a translation of whole voxels of {_shown(scale)}, got {_shown(shift)}",
        "",
    )


def declared_start(offset_nm: Sequence[float], resolution: Resolution, where: str) -> Zyx:
    """The first voxel from an offset in nanometres and a voxel size that the user declared.

    Raises
    ------
    StorageError
        If it is not a whole number of voxels.
    """
    start, problem, _ = first_voxel(offset_nm, resolution)
    if problem:
        raise StorageError(f"{where}: {problem} nm; declare `offset` in voxels")
    return start


def _is_whole(voxel: float) -> bool:
    return math.isfinite(voxel) and abs(voxel - round(voxel)) <= ROUNDING


def placed_array(
    address: Address,
    array: ts.TensorStore,
    metadata: Metadata,
    scales: int,
    spec: dict[str, Any] | None = None,
) -> ChunkedArray:
    """A foreign array with axes (c,) z, y, x at the place given by its metadata.

    `spec` is the specification by which its chunks are named; default: that of the array.

    Raises
    ------
    StorageError
        If its axes are others.
    """
    read = place(metadata, array.shape, f"volume {address}")
    view = array[ts.d[read.dropped][tuple(0 for _ in read.dropped)]] if read.dropped else array
    order = [sorted(read.order).index(number) for number in read.order]
    if order != sorted(order):
        view = view[ts.d[order].transpose[:]]
    chunk, shard = spatial_chunks(view)
    channels = view.shape[0] if view.rank == 4 else 0
    dtype = np.dtype(view.dtype.numpy_dtype)
    bounds = Box(read.start, read.start + zyx(view.shape[-3:]))
    layout = Layout(bounds, read.resolution, dtype, channels, chunk, shard)
    return ChunkedArray(
        address, layout, anchored(view, read.start), scales, False, read.notes, spec
    )


# --- axes ----------------------------------------------------------------------------------------


def _axis_names(
    metadata: Metadata, shape: Sequence[int], where: str, warnings: list[str]
) -> list[str]:
    """The names of the stored axes: c, t, z, y, x, or others as they are."""
    default = list("tczyx")[-len(shape) :]
    given = metadata.names
    if given is None or all(name in (None, "") for name in given):
        if len(shape) > 2:
            warnings.append(f"the axes are not named; taken as {', '.join(default)}")
        return default
    names = [str(name).strip().lower().removesuffix("^") for name in given]
    names = [ALIASES.get(name, name) for name in names]
    if len(names) != len(shape) or len(set(names)) != len(names):
        raise StorageError(
            f"{where}: {metadata.source}: expected a name for each of {len(shape)} axes, got "
            f"{', '.join(names)}"
        )
    if not set("zyx") & set(names) and len(shape) > 2:
        text = ", ".join(str(name) for name in given)
        warnings.append(f"{metadata.source}: axes named {text} are taken as {', '.join(default)}")
        return default
    return names


def _order(
    names: Sequence[str], shape: Sequence[int], where: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The stored axes in the order (c,) z, y, x, and those of length 1 to drop."""
    if len(names) != len(shape) or any(axis not in names for axis in "zyx"):
        raise StorageError(
            f"{where}: expected axes (c,) z, y, x; got {list(names)} of shape {tuple(shape)}"
        )
    chosen = [names.index(axis) for axis in "zyx"]
    if "c" in names and shape[names.index("c")] > 1:
        chosen.insert(0, names.index("c"))
    for number, length in enumerate(shape):
        if number not in chosen and length != 1:
            raise StorageError(
                f"{where}: expected length 1 of axis '{names[number]}', which is not channels, "
                f"z, y or x; got shape {tuple(shape)}"
            )
    dropped = tuple(number for number in range(len(shape)) if number not in chosen)
    return tuple(chosen), dropped


# --- numbers and units ---------------------------------------------------------------------------


def finite_numbers(value: object) -> list[float] | None:
    """A number or a list of them as floats; None if it holds anything else, or NaN."""
    try:
        numbers = [float(each) for each in np.ravel(np.asarray(value)).tolist()]
    except (TypeError, ValueError):
        return None
    return numbers if numbers and all(map(math.isfinite, numbers)) else None


def _triple(value: object, spatial: Sequence[int], rank: int) -> tuple[float, float, float] | None:
    """Finite numbers for z, y, x; None if there are none, or not as many as axes."""
    values = list(value.values()) if isinstance(value, Mapping) else value
    numbers = None if values is None else finite_numbers(values)
    if numbers is None:
        return None
    by_name = dict(zip(value, numbers, strict=True)) if isinstance(value, Mapping) else numbers
    triple: tuple[float, float, float] | None = _spread(by_name, spatial, rank)
    return triple


def _spread(values: Sequence[Any] | Mapping[Any, Any], spatial: Sequence[int], rank: int) -> Any:
    """Values for z, y, x from one per stored axis, per axis of space, one for all, or by name."""
    if isinstance(values, Mapping):
        return tuple(values[axis] for axis in "zyx") if set("zyx") <= set(values) else None
    if len(values) == 1:
        return (values[0],) * 3
    if len(values) == rank:
        return tuple(values[number] for number in spatial)
    if len(values) == 3:
        stored = sorted(spatial)
        return tuple(values[stored.index(number)] for number in spatial)
    return None


def _factors(
    metadata: Metadata, spatial: Sequence[int], rank: int, needed: bool, warnings: list[str]
) -> tuple[float, float, float] | None:
    """Nanometres of the units of z, y, x; None if they are unknown."""
    given = metadata.units
    if isinstance(given, Mapping):
        listed: Any = {name: _text(unit) for name, unit in given.items()}
    else:
        listed = [_text(unit) for unit in np.ravel(np.asarray(given, object)).tolist()]
    units = _spread(listed, spatial, rank)
    if units is None:
        warnings.append(f"{metadata.source}: expected a unit per axis, got {_shown(given)}")
        units = ("",) * 3
    if not any(units):
        if not metadata.default_unit:
            if needed:
                warnings.append(
                    f"{metadata.source}: the voxel size {_shown(metadata.scale)} has no unit and "
                    f"is not used; declare `resolution`"
                )
            return None
        if needed:
            warnings.append(
                f"{metadata.source}: the voxel size {_shown(metadata.scale)} has no unit; taken "
                f"as {metadata.default_unit}"
            )
        units = (metadata.default_unit,) * 3
    factors = [unit_nm(unit) for unit in units]
    if None in factors:
        if needed:
            warnings.append(
                f"{metadata.source}: expected a unit of length, got {', '.join(units)!r}; the "
                f"voxel size is not used; declare `resolution`"
            )
        return None
    z, y, x = (factor for factor in factors if factor is not None)
    return z, y, x


def _text(unit: object) -> str:
    text = unit.decode(errors="replace") if isinstance(unit, bytes) else str(unit or "")
    return "" if text.strip().lower() in NO_UNIT else text.strip()


def _product(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    z, y, x = (float(one * other) for one, other in zip(a, b, strict=True))
    return z, y, x


def _shown(value: object) -> str:
    """A value from metadata as short text."""
    value = list(value.values()) if isinstance(value, Mapping) else value
    numbers = finite_numbers(value)
    text = str(value) if numbers is None else ", ".join(f"{each:g}" for each in numbers)
    return text if len(text) <= 60 else text[:57] + "..."
