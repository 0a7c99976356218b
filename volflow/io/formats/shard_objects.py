"""Shards of a foreign precomputed volume: how many are missing, and which are cut short.

tensorstore reads a missing shard, and one that is empty, as zeros.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volflow.core.geometry import zyx
from volflow.errors import StorageError
from volflow.io.formats.morton import shard_count

DECLARE = "if missing chunks are background, declare it with `missing: background`"
NO_CHUNKS = re.compile(
    r"\..*|(zarr|attributes|provenance|info|volflow\..*)(\.json)?|.*\.(md|txt|json|ya?ml|html?|log)"
    r"|(readme|license|licence)(\..*)?",
    re.IGNORECASE,
)
"""Names of objects that a volume may have apart from its chunks."""
_SHARD = re.compile(r"[0-9a-f]+\.shard", re.ASCII)


def check_shards(
    folder: Path, scale: Mapping[str, Any], where: str, background: bool = False
) -> str:
    """A sentence on missing shards of a scale in a local folder; "" if none is known to be missing.

    Parameters
    ----------
    folder : Path
    scale : mapping
        Its entry in `info`.
    where : str
        The volume, for messages.
    background : bool
        Whether missing shards are declared to be background, whatever other objects there are.

    Raises
    ------
    StorageError
        If there is no shard, one is shorter than its index, or there are objects of other names.
    """
    sizes, others = _listed(folder)
    if not background and (others or not sizes):
        number = f"{len(sizes)} shards" if sizes else "no shard"
        raise StorageError(
            f"{where}: {number}: expected shards such as 0.shard in {folder}, got "
            f"{', '.join(others[:3]) or 'no others'}; correct the metadata, or remove other files; "
            f"{DECLARE}"
        )
    if not sizes:
        return "no shard exists; all is read as 0"
    sharding = scale["sharding"]
    index = 16 << int(sharding["minishard_bits"])
    short = sorted(name for name, size in sizes.items() if size < index)
    if short:
        raise StorageError(
            f"{where}: {folder / short[0]} is cut short; expected {index} bytes or more, got "
            f"{sizes[short[0]]}"
        )
    if sharding.get("hash") != "identity":  # any chunk may be in any shard
        return ""
    sides = zip(scale["size"][::-1], scale["chunk_size"][::-1], strict=True)
    counts = zyx([-(-side // step) for side, step in sides])
    per_shard = int(sharding["preshift_bits"]) + int(sharding["minishard_bits"])
    total = min(shard_count(counts, per_shard), 1 << int(sharding["shard_bits"]))
    missing = total - len(sizes)
    if missing <= 0:
        return ""
    return f"{missing:,} of {total:,} shards are missing and are read as 0"


def _listed(folder: Path) -> tuple[dict[str, int], list[str]]:
    """Bytes of the shards in a folder by name, and the names of objects that it may not have."""
    sizes, others = {}, []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _SHARD.fullmatch(entry.name):
                    sizes[entry.name] = entry.stat().st_size
                elif not NO_CHUNKS.fullmatch(entry.name):
                    others.append(entry.name)
    except (FileNotFoundError, NotADirectoryError):
        pass
    return sizes, others
