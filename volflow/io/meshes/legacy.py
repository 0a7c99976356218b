"""Meshes in Neuroglancer's format of one resolution, whose axes are x, y, z.

`ID:0` is a manifest in JSON, `ID:0:0` its only fragment:

    vertices: uint32 | x, y, z: float32 (vertices, 3) | triangles: uint32 (triangles, 3)
"""

from __future__ import annotations

import json
import struct
from typing import Any

from volflow.io.meshes.surfaces import Surface

TYPE = "neuroglancer_legacy_mesh"


def info_of() -> dict[str, Any]:
    """The content of `info`."""
    return {"@type": TYPE}


def manifest(name: int) -> bytes:
    """The manifest of a mesh whose only fragment is `ID:0:0`."""
    return json.dumps({"fragments": [f"{name}:0:0"]}, separators=(",", ":")).encode()


def encode(surface: Surface) -> bytes:
    """The bytes of a fragment: positions in nm as float32, so steps of 0.06 nm at 1 mm."""
    position = surface.position[:, ::-1].astype("<f4")
    count = struct.pack("<I", len(position))
    return count + position.tobytes() + surface.triangles.astype("<u4").tobytes()
