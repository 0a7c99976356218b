"""Digests: what makes two results the same, in 16 characters.

    content   what a step's outputs *are*: stage, version, parameters, inputs, bounds, mask
    digest    that of its markers: content, block shape, and how its volumes are stored

A step downstream depends on the content alone, so other blocks of an earlier step do not make it
run again, unless it reads what is stored block by block and so has the same blocks.
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
    """Digest of a volume that this run does not write, as it is read."""
    return digest("volume", dict(identity))


def step_content(stage: Stage, inputs: Mapping[str, str], bounds: Box, mask: str) -> str:
    """Digest of what a step makes.

    Parameters
    ----------
    stage : Stage
    inputs : mapping
        By input: the digest of the volume's or the table's content.
    bounds : Box
    mask : str
        Digest of where work is to be done.
    """
    name, version = registered_name(type(stage)), stage.version
    return digest("step", name, version, stage.identity(), dict(inputs), str(bounds), mask)


def step_digest(content: str, block: Triple, layouts: Iterable[str]) -> str:
    """Digest of a step's markers.

    `layouts` say how each volume is stored: stored in another way, it is written anew. What is
    read block by block needs no part: who reads it has the same blocks.
    """
    return digest("blocks", content, list(block), sorted(layouts))


def layout(name: str, target: Target, placed: bool) -> str:
    """Digest of how a volume is stored; its address counts where the user placed it himself.

    A volume at its default place moves with the run folder, and the markers with it.
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
