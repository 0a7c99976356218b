"""Attributes by which labs and programs place an array: their names, units and order.

_ARRAY_DIMENSIONS, axis_names, axes, dimension_names, axistags     names of the axes
voxel_size_nm_zyx, voxel_size, resolution, element_size_um         size of a voxel
offset                                                             first voxel
units, unit                                                        of both; default nanometres
transform: {axes, scale, translate, units}                         all of it, by name
pixelResolution: {dimensions, unit}                                of N5
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from volflow.io.formats.metadata.axes import Metadata, finite_numbers

NAMES = ("_ARRAY_DIMENSIONS", "axis_names", "axes", "dimension_names", "dimensions_names")
SIZES = ("voxel_size", "resolution")
UNITS = ("units", "unit", "voxel_size_unit", "voxel_size_units", "resolution_unit")
_NM = "nanometer"


def attributes_metadata(attributes: Mapping[str, Any], source: str = "attributes") -> Metadata:
    """Axes, voxel size and position of an array from its attributes.

    Lists are in the order of the stored axes.
    """
    names = axis_names(attributes)
    transform = attributes.get("transform")
    if isinstance(transform, Mapping) and "scale" in transform:
        return transform_metadata(transform, names, f"{source}: transform")
    units = next((attributes[name] for name in UNITS if attributes.get(name) is not None), None)
    scale, key = None, ""
    for name in ("voxel_size_nm_zyx", *SIZES, "element_size_um"):
        if attributes.get(name) is not None:
            key, scale = name, attributes[name]
            break
    warnings = []
    pixel = attributes.get("pixelResolution")
    if scale is None and pixel is not None:
        key = "pixelResolution"
        scale, units = pixel_resolution(pixel, units)
    translation = attributes.get("offset")
    default = _NM
    if key == "element_size_um":
        units, default = "micrometer", ""
        if translation is not None:
            warnings.append(f"{source}: the unit of offset is taken as that of element_size_um")
    elif key == "voxel_size_nm_zyx":
        units, numbers = _NM, finite_numbers(scale)
        if numbers is not None and len(numbers) == 3:
            scale = dict(zip("zyx", numbers, strict=True))
    return Metadata(
        source=f"{source}: {key}" if key else source,
        names=names,
        scale=scale,
        translation=translation,
        units=units,
        default_unit=default,
        warnings=tuple(warnings),
    )


def transform_metadata(transform: Mapping[str, Any], names: Any, source: str) -> Metadata:
    """A `transform` of Janelia's tools: numbers by the names of the axes.

    Its axes name the numbers, not the stored axes, which keep the order of their format.
    """
    axes = transform.get("axes")
    labels = [str(axis).lower() for axis in axes] if isinstance(axes, list | tuple) else None
    values: dict[str, Any] = {}
    for key in ("scale", "translate", "units"):
        listed = transform.get(key)
        if listed is None:
            values[key] = None
        elif labels is None or isinstance(listed, str) or np.size(listed) != len(labels):
            values[key] = listed
        else:
            flat = np.ravel(np.asarray(listed, object)).tolist()
            values[key] = dict(zip(labels, flat, strict=True))
    return Metadata(
        source=source,
        names=names,
        scale=values["scale"],
        translation=values["translate"],
        units=values["units"],
    )


def pixel_resolution(pixel: Any, units: Any = None) -> tuple[Any, Any]:
    """The numbers of N5's `pixelResolution` and their unit: a mapping, or a bare list."""
    if isinstance(pixel, Mapping):
        return pixel.get("dimensions"), pixel.get("unit", units)
    return pixel, units


def axis_names(attributes: Mapping[str, Any]) -> list[str] | None:
    """The names of the axes in the attributes; None if there are none."""
    tags = attributes.get("axistags")  # of ilastik and vigra
    if isinstance(tags, str | bytes):
        try:
            entries = json.loads(tags).get("axes", [])
            return [str(entry["key"]) for entry in entries]
        except (ValueError, AttributeError, KeyError, TypeError):
            return None
    for key in NAMES:
        value = attributes.get(key)
        if isinstance(value, str | bytes):
            text = value.decode(errors="replace") if isinstance(value, bytes) else value
            parts = text.replace(" ", "").split(",")
            return parts if len(parts) > 1 else list(text.strip())
        if value is not None and np.size(value):
            flat = value if isinstance(value, list | tuple) else np.ravel(value).tolist()
            return [_name(each) for each in flat]
    return None


def _name(entry: Any) -> str:
    if isinstance(entry, Mapping):
        return str(entry.get("name", ""))
    return entry.decode(errors="replace") if isinstance(entry, bytes) else str(entry or "")
