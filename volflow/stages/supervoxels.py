"""The input `supervoxels` of the stages for proofreading, and its check."""

from __future__ import annotations

from collections.abc import Mapping

from volflow.core.stage import Layer


def whole_volume(inputs: Mapping[str, Layer | None]) -> list[str]:
    """The problem of supervoxels that end at block faces; empty if there is none."""
    layer = inputs.get("supervoxels")
    if layer is None or not layer.blockwise:
        return []
    return [
        "supervoxels: expected labels of the whole volume; got pieces, which end at block faces: "
        "write them with `relabel` first"
    ]
