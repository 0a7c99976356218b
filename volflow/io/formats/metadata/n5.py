"""Metadata of N5 arrays, as Janelia's tools, BigDataViewer and n5-viewer write them.

N5 lists the fastest axis first. Arrays are turned round, so lists of numbers are, too; only a
`transform` has its numbers by the names of the axes, in any order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from volflow.io.formats.metadata.attributes import (
    SIZES,
    UNITS,
    attributes_metadata,
    axis_names,
    pixel_resolution,
    transform_metadata,
)
from volflow.io.formats.metadata.axes import Metadata, finite_numbers

Attributes = Mapping[str, Any]
_PLACES = ("transform", "pixelResolution", *SIZES, "voxel_size_nm_zyx", "element_size_um")


def array_metadata(own: Attributes, above: Sequence[tuple[Attributes, str]]) -> Metadata:
    """The metadata of an N5 array in the order z, y, x.

    Parameters
    ----------
    own : mapping
        Attributes of the array.
    above : sequence of (mapping, str)
        Those of the groups above it, nearest first, and the path from each to the array.
    """
    names = axis_names(own)
    names = ["z", "y", "x"][-3:] if names is None else names[::-1]
    rank = len(own.get("dimensions", names))
    if names == ["z", "y", "x"]:
        names = list("tczyx")[-rank:]
    if not any(own.get(key) is not None for key in _PLACES):
        for group, path in above:
            metadata = _from_group(group, path, names, own)
            if metadata is not None:
                return metadata
    return _from_own(own, above, names)


def _from_own(
    own: Attributes, above: Sequence[tuple[Attributes, str]], names: list[str]
) -> Metadata:
    transform = own.get("transform")
    if isinstance(transform, Mapping) and "scale" in transform:
        if not isinstance(transform.get("axes"), list):
            turned = {key: _turned(value) for key, value in transform.items()}
            return transform_metadata(turned, names, "transform")
        return transform_metadata(transform, names, "transform")
    metadata = attributes_metadata(_all_turned(own))
    pixel = own.get("pixelResolution")
    scale, warnings = metadata.scale, metadata.warnings
    factors = finite_numbers(own.get("downsamplingFactors"))
    if pixel is not None and factors is not None and metadata.source.endswith("pixelResolution"):
        scale, extra = _downsampled(pixel, factors, above)
        warnings = (*warnings, *extra)
    default = "" if metadata.source.endswith("pixelResolution") else metadata.default_unit
    return replace(metadata, names=names, scale=scale, warnings=warnings, default_unit=default)


def _downsampled(
    pixel: Any, factors: list[float], above: Sequence[tuple[Attributes, str]]
) -> tuple[Any, tuple[str, ...]]:
    """Voxel size of a coarser scale from `pixelResolution`, which is that of the finest scale.

    Some write that of the coarser scale itself: then it is the group's times the factors.
    """
    sides = finite_numbers(pixel_resolution(pixel)[0])
    if sides is None or len(sides) != len(factors):
        return pixel_resolution(pixel)[0], ()
    coarse = [side * factor for side, factor in zip(sides, factors, strict=True)]
    for group, _ in above:
        base = group.get("pixelResolution")
        finest = None if base is None else finite_numbers(pixel_resolution(base)[0])
        if finest is not None and len(finest) == len(factors):
            if np.allclose(sides, np.multiply(finest, factors)) and max(factors) > 1:
                return sides[::-1], ()
            return coarse[::-1], ()
    warning = "attributes: pixelResolution is taken as that of the finest scale, times"
    text = ", ".join(f"{factor:g}" for factor in factors)
    extra = (f"{warning} downsamplingFactors {text} (x, y, z)",) if max(factors) > 1 else ()
    return coarse[::-1], extra


def _from_group(group: Attributes, path: str, names: list[str], own: Attributes) -> Metadata | None:
    """Metadata in a group about the array at a path below it; None if there are none."""
    images = group.get("multiscales")
    first = images[0] if isinstance(images, list) and images else None
    datasets = first.get("datasets") if isinstance(first, Mapping) else None
    for dataset in datasets if isinstance(datasets, list) else []:
        if isinstance(dataset, Mapping) and str(dataset.get("path", "")).strip("/") == path:
            transform = dataset.get("transform")
            if isinstance(transform, Mapping) and "scale" in transform:
                return transform_metadata(transform, names, f"multiscales: {path}: transform")
    if not any(group.get(key) is not None for key in _PLACES):
        return None
    number = path.removeprefix("s")
    if not number.isdecimal() or not path.startswith("s"):
        return None
    metadata = _from_own({**group, "dimensions": own.get("dimensions")}, (), names)
    sides = None if isinstance(metadata.scale, Mapping) else finite_numbers(metadata.scale)
    factors = finite_numbers(own.get("downsamplingFactors"))
    listed = group.get("scales")
    if factors is None and isinstance(listed, list) and int(number) < len(listed):
        factors = finite_numbers(listed[int(number)])
    if sides is not None and factors is not None and len(factors) == len(sides):
        coarse = [side * factor for side, factor in zip(sides, factors[::-1], strict=True)]
        return replace(metadata, scale=coarse, finest=sides, source=f"group: {metadata.source}")
    if int(number) == 0:
        return replace(metadata, source=f"group: {metadata.source}")
    warning = f"group: {metadata.source} is that of the finest scale, and the factors of s{number}"
    text = f"{warning} are not known; the voxel size is not used"
    return Metadata(names=names, warnings=(*metadata.warnings, text))


def _all_turned(attributes: Attributes) -> dict[str, Any]:
    """Attributes whose lists of numbers and units, x first, are those of the array, z first."""
    turned = dict(attributes)
    for key in (*SIZES, *UNITS, "offset", "element_size_um"):
        if key in turned:
            turned[key] = _turned(turned[key])
    pixel = turned.get("pixelResolution")
    if isinstance(pixel, Mapping):
        turned["pixelResolution"] = {**pixel, "dimensions": _turned(pixel.get("dimensions"))}
    elif pixel is not None:
        turned["pixelResolution"] = _turned(pixel)
    return turned


def _turned(value: Any) -> Any:
    return value[::-1] if isinstance(value, list) else value
