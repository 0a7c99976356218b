"""The compressed Morton curve by which precomputed volumes number their chunks.

Bits of the chunk's numbers alternate x, y, z, x, ...; an axis without bits left is skipped.
"""

from __future__ import annotations

import math

from volflow.core.geometry import Triple, zyx


def chunk_bits(counts: Triple) -> Triple:
    """Bits of the chunk numbers along z, y, x of a grid of so many chunks."""
    return zyx([max(0, count - 1).bit_length() for count in counts])


def morton_box(bits: Triple, count: int) -> Triple:
    """Bits along z, y, x of the box that the lowest `count` bits of a Morton number span."""
    used = [0, 0, 0]
    while sum(used) < min(count, sum(bits)):
        for axis in (2, 1, 0):
            if used[axis] < bits[axis] and sum(used) < count:
                used[axis] += 1
    return zyx(used)


def morton_number(index: Triple, bits: Triple) -> int:
    """The Morton number of the chunk with this index z, y, x."""
    number = place = 0
    for bit in range(max(bits)):
        for axis in (2, 1, 0):
            if bit < bits[axis]:
                number |= (index[axis] >> bit & 1) << place
                place += 1
    return number


def shard_count(counts: Triple, per_shard: int) -> int:
    """Number of shards of a grid of so many chunks z, y, x, with 2**per_shard in each."""
    used = morton_box(chunk_bits(counts), per_shard)
    return math.prod(-(-count >> bits) for count, bits in zip(counts, used, strict=True))
