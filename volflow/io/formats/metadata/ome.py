"""Metadata of OME-Zarr groups, versions 0.1 to 0.5, and coordinate systems of later ones.

0.1 and 0.2 have no axes, and store t, c, z, y, x; 0.3 has names of axes; from 0.4 on axes have
units and scales have transformations. Later versions list axes in coordinate systems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from volflow.errors import StorageError
from volflow.io.formats.metadata.attributes import transform_metadata
from volflow.io.formats.metadata.axes import Metadata, finite_numbers

KNOWN = ("0.1", "0.2", "0.3", "0.4", "0.5")
_SIMPLE = ("scale", "translation")
Attributes = Mapping[str, Any]


def multiscale_of(attributes: Attributes, where: str) -> dict[str, Any] | None:
    """The first multiscale image of a group; None if the attributes list none.

    Raises
    ------
    StorageError
        If it is no list of datasets with a path each.
    """
    ome = attributes.get("ome")
    holder = ome if isinstance(ome, Mapping) and "multiscales" in ome else attributes
    images = holder.get("multiscales")
    if not images:
        return None
    first = images[0] if isinstance(images, list) else None
    datasets = first.get("datasets") if isinstance(first, dict) else None
    if (
        not isinstance(datasets, list)
        or not datasets
        or not all(
            isinstance(each, dict) and isinstance(each.get("path"), str) for each in datasets
        )
    ):
        raise StorageError(
            f"{where}: multiscales: expected a list of datasets with a path each, got "
            f"{str(images)[:60]}"
        )
    assert isinstance(first, dict)
    version = first.get("version", holder.get("version"))
    return {**first, "version": version, "images": len(images)}


def dataset_metadata(multiscale: Attributes, level: int, rank: int) -> Metadata:
    """The metadata of a scale whose array has this many axes."""
    datasets = multiscale["datasets"]
    dataset, finest = datasets[level], datasets[0]
    warnings = []
    version = multiscale.get("version")
    if version is not None and str(version) not in KNOWN:
        warnings.append(
            f"multiscales: expected a version of OME-Zarr from {KNOWN[0]} to {KNOWN[-1]}, got "
            f"{version}; read as {KNOWN[-1]}"
        )
    if multiscale.get("images", 1) > 1:
        warnings.append(
            f"multiscales: the first of {multiscale['images']} images is read; the others are not"
        )
    source = f"multiscales: {dataset['path']}"
    axes, systems = _axes(multiscale, dataset, rank)
    names = None if axes is None else [axis.get("name", "") for axis in axes]
    if "transform" in dataset and "coordinateTransformations" not in dataset:
        transform = dataset["transform"]
        if isinstance(transform, Mapping) and "scale" in transform:
            read = transform_metadata(transform, names, source)
            return replace(read, warnings=(*warnings, *read.warnings))
    common = multiscale.get("coordinateTransformations")
    if systems and common:
        warnings.append("multiscales: transformations between coordinate systems are not applied")
        common = None
    own = _compose([dataset.get("coordinateTransformations"), common], rank)
    first = _compose([finest.get("coordinateTransformations"), common], rank) if level else None
    return Metadata(
        source=source,
        names=names,
        scale=own.scale,
        translation=own.translation,
        units=None if axes is None else [axis.get("unit") for axis in axes],
        finest=first.scale if first else None,
        finest_translation=first.translation if first else None,
        problem=own.problem,
        warnings=(*warnings, *(f"{source}: {warning}" for warning in own.warnings)),
    )


def _axes(
    multiscale: Attributes, dataset: Attributes, rank: int
) -> tuple[list[dict[str, Any]] | None, bool]:
    """The axes of an image, None if there are none; and whether a coordinate system has them."""
    listed, of_system = multiscale.get("axes"), False
    systems = multiscale.get("coordinateSystems")
    if not listed and isinstance(systems, list) and systems:
        of_system = True
        outputs = [each.get("output") for each in _flat(dataset.get("coordinateTransformations"))]
        transforms = dataset.get("coordinateTransformations")
        if isinstance(transforms, list) and transforms and isinstance(transforms[-1], Mapping):
            outputs.append(transforms[-1].get("output"))
        known = [each for each in systems if isinstance(each, Mapping)]
        chosen = [each for each in known if each.get("name") in outputs] or known
        listed = chosen[0].get("axes") if chosen else None
    if not listed:
        return ([{"name": name} for name in "tczyx"] if rank == 5 else None), of_system
    return [
        dict(axis) if isinstance(axis, Mapping) else {"name": str(axis)} for axis in listed
    ], of_system


@dataclass(frozen=True)
class _Composed:
    """Transformations of a scale as one scale and one translation; None where unknown."""

    scale: list[float] | None
    translation: list[float] | None
    problem: str
    warnings: tuple[str, ...]


def _compose(lists: Sequence[Any], rank: int) -> _Composed:
    """Compose lists of transformations, the first one first."""
    scale, shift = np.ones(rank), np.zeros(rank)
    known, problem, warnings = False, "", []
    for transform in [each for listed in lists for each in _flat(listed)]:
        kind = transform.get("type")
        if kind == "identity":
            continue
        numbers = finite_numbers(transform.get(str(kind))) if kind in _SIMPLE else None
        if numbers is None or len(numbers) != rank:
            text = str(dict(transform))[:80]
            if kind == "scale" and not shift.any():
                warnings.append(f"the voxel size is not used: expected {rank} numbers, got {text}")
                return _Composed(None, None, problem, tuple(warnings))
            problem = f"expected a scale or translation of {rank} numbers, got {text}"
            return _Composed(None, None, problem, (f"the voxel size is not used: {problem}",))
        if kind == "scale":
            known, scale, shift = True, scale * numbers, shift * numbers
        else:
            shift = shift + numbers
    return _Composed(scale.tolist() if known else None, shift.tolist(), problem, tuple(warnings))


def _flat(transforms: Any) -> list[Mapping[str, Any]]:
    """A list of transformations with its sequences opened; other values as unknown ones."""
    if transforms is None:
        return []
    if not isinstance(transforms, list):
        return [{"type": "unknown", "value": transforms}]
    flat: list[Mapping[str, Any]] = []
    for each in transforms:
        if not isinstance(each, Mapping):
            flat.append({"type": "unknown", "value": each})
        elif each.get("type") == "sequence":
            flat += _flat(each.get("transformations"))
        else:
            flat.append(each)
    return flat
