"""Digests: 16 characters that are equal exactly if two results are the same.

    content   the outputs of a step: stage, version, parameters, inputs, bounds, mask
    digest    the markers of a step: content, block shape, and how its volumes are stored

A later step depends only on the content, so other blocks of an earlier step do not make it run
again; a step that reads what is stored block by block has the same blocks as its writer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from volflow.core.geometry import Box, Triple
from volflow.core.stage import Stage, registered_name
from volflow.engine.job import Target


def digest(*parts: object) -> str:
    """16 hexadecimal characters of plain values; the order of a mapping's keys does not count."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def foreign_content(identity: Mapping[str, object]) -> str:
    """Digest of a volume that another program or run wrote, as it is read."""
    return digest("volume", dict(identity))


def step_content(stage: Stage, inputs: Mapping[str, str], bounds: Box, mask: str) -> str:
    """Digest of the outputs of a step.

    Parameters
    ----------
    stage : Stage
    inputs : mapping
        Digest of the content of each input volume or table.
    bounds : Box
    mask : str
        Digest of the mask.
    """
    name, version = registered_name(type(stage)), stage.version
    return digest("step", name, version, stage.identity(), dict(inputs), str(bounds), mask)


def step_digest(content: str, block: Triple, layouts: Iterable[str]) -> str:
    """Digest of a step's markers.

    `layouts` are the digests of how each volume is stored: a volume that is to be stored in another
    way is written again. Inputs that are read block by block do not count: their writer has the
    same blocks.
    """
    return digest("blocks", content, list(block), sorted(layouts))


def layout(name: str, target: Target, placed: bool) -> str:
    """Digest of how a volume is stored; its address counts if the user chose it.

    A volume at its default address moves with the run folder, as the markers do.
    """
    spec = target.spec
    return digest(
        name,
        spec.path if placed else "",
        [target.layer.dtype, target.layer.channels, target.layer.kind],
        list(target.resolution),
        list(target.chunk),
        list(spec.shard or ()),
        spec.encoding or "",
        target.scale,
    )
