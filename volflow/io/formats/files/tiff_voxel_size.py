"""Voxel sizes in the metadata of TIFF files, as ImageJ, OME and volflow write them.

    ImageJ   spacing and unit in the image description; XResolution and YResolution are pixels
             per unit
    tifffile voxel_size_nm_zyx, as volflow writes it for types that neither of the others has
    OME      PhysicalSizeX, Y, Z and their units (default: micrometres)

Plain resolution tags are not used: they have no z, and most programs write 72 dpi whatever the
image.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from volflow.core.geometry import Resolution
from volflow.io.formats.files.read_only import known_resolution, known_side
from volflow.io.formats.metadata.units import unit_nm


def tiff_voxel_size(file: Any) -> Resolution | None:
    """Nanometres per voxel, z y x, from an open `tifffile.TiffFile`; None if it has no such."""
    if file.is_ome and file.ome_metadata:
        return ome_voxel_size(file.ome_metadata)
    if file.is_shaped and file.shaped_metadata:
        sides = file.shaped_metadata[0].get("voxel_size_nm_zyx", ())
        return known_resolution(*map(known_side, sides)) if len(sides) == 3 else None
    if file.is_imagej and file.imagej_metadata:
        return imagej_voxel_size(file.imagej_metadata, file.pages[0].tags)
    return None


def imagej_voxel_size(metadata: dict[str, Any], tags: Any) -> Resolution | None:
    """The voxel size in ImageJ's metadata; None unless it has a unit of length and a spacing."""
    unit = metadata.get("unit")
    x, y, z = (unit_nm(metadata.get(name, unit)) for name in ("unit", "yunit", "zunit"))
    if x is None or y is None or z is None or "spacing" not in metadata:
        return None
    across, down = (_rational(tags.get(name)) for name in ("XResolution", "YResolution"))
    if not across or not down:
        return None
    return known_resolution(known_side(metadata["spacing"]) * z, y / down, x / across)


def _rational(tag: Any) -> float:
    """The value of a tag of two integers; 0 if it is absent or undefined."""
    numerator, denominator = (0, 0) if tag is None else tag.value
    return float(numerator) / float(denominator) if denominator else 0.0


def ome_voxel_size(xml: str) -> Resolution | None:
    """The voxel size of the first image in OME-XML; None unless it has all three sides."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    pixels = next((each for each in root.iter() if each.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return None
    sides = []
    for axis in "ZYX":
        size = known_side(pixels.attrib.get(f"PhysicalSize{axis}"))
        factor = unit_nm(pixels.attrib.get(f"PhysicalSize{axis}Unit", "µm"))
        sides.append(size * (factor or 0.0))
    return known_resolution(*sides)
