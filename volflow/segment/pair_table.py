"""Open-addressing hash tables of pairs of small integers, for use in compiled kernels."""

from __future__ import annotations

import numpy as np

from volflow.kernels import kernel

EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)


@kernel
def pair_key(u: int, v: int) -> np.uint64:
    """The key of an unordered pair of integers below 2**31."""
    if u < v:
        return (np.uint64(u) << np.uint64(32)) | np.uint64(v)
    return (np.uint64(v) << np.uint64(32)) | np.uint64(u)


@kernel
def slot_of(keys: np.ndarray, key: np.uint64) -> np.int64:
    """The slot of a key in a table, or the empty slot where it would be inserted.

    Parameters
    ----------
    keys : uint64, (2**n,)
        The table, with `EMPTY` in free slots; at least one must be free.
    key : uint64
        A key from `pair_key`.
    """
    spread = key * np.uint64(0x9E3779B97F4A7C15)
    spread ^= spread >> np.uint64(32)
    last = np.uint64(len(keys) - 1)
    slot = spread & last
    while keys[slot] != key and keys[slot] != EMPTY:
        slot = (slot + np.uint64(1)) & last
    return np.int64(slot)


@kernel
def table_size(entries: int) -> int:
    """The power of two at which a table with this number of entries is at most half full."""
    size = 16
    while size < 2 * entries:
        size *= 2
    return size


@kernel
def group_pairs(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, int]:
    """The group number of each unordered pair, by first appearance, and the number of groups."""
    keys = np.full(table_size(len(a)), EMPTY, np.uint64)
    group_at = np.empty(len(keys), np.int32)
    group = np.empty(len(a), np.int64)
    count = 0
    for pair in range(len(a)):
        key = pair_key(a[pair], b[pair])
        slot = slot_of(keys, key)
        if keys[slot] == EMPTY:
            keys[slot] = key
            group_at[slot] = count
            count += 1
        group[pair] = group_at[slot]
    return group, count


@kernel
def sum_groups(group: np.ndarray, count: int, values: np.ndarray) -> np.ndarray:
    """Exact sums of the values of each group, int64."""
    total = np.zeros(count, np.int64)
    for number in range(len(group)):
        total[group[number]] += values[number]
    return total


@kernel
def first_of_groups(group: np.ndarray, count: int) -> np.ndarray:
    """The position of the first member of each group."""
    first = np.full(count, -1, np.int64)
    for number in range(len(group)):
        if first[group[number]] < 0:
            first[group[number]] = number
    return first
