"""Contacts between touching labels, pooled to the edges of a region graph.

Each contact is counted once, by the block that owns the voxel with the higher index.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from volflow.kernels import kernel

INITIAL_LABELS = 1024  # labels that the table of `_number_as_met` can hold before it grows


class EdgeTable(NamedTuple):
    """Edges of a graph as columns, one row per pair of touching nodes.

    a, b : int32, (E,)
        The two nodes, as positions in a table of nodes.
    affinity_sum : int64, (E,)
        Sum of the uint8 affinities across the contact.
    contact : int64, (E,)
        Number of pairs of touching voxels.
    """

    a: np.ndarray
    b: np.ndarray
    affinity_sum: np.ndarray
    contact: np.ndarray

    def rows(self, chosen: np.ndarray) -> EdgeTable:
        """A selection of the edges, by mask or by position."""
        return EdgeTable(*(column[chosen] for column in self))

    @classmethod
    def empty(cls) -> EdgeTable:
        """No edges."""
        return cls(*(np.zeros(0, dtype) for dtype in (np.int32, np.int32, np.int64, np.int64)))

    @property
    def score(self) -> np.ndarray:
        """Mean affinity of each edge, float64 in [0, 1]."""
        score: np.ndarray = self.affinity_sum / (255 * self.contact)
        return score


class RegionGraph(NamedTuple):
    """The labels of a volume, their sizes and their contacts.

    id : uint64, (N,), ascending
    size : int64, (N,)
        In voxels.
    edges : EdgeTable
        `a` < `b` are positions in `id`.
    """

    id: np.ndarray
    size: np.ndarray
    edges: EdgeTable


def region_graph(labels: np.ndarray, affinity: np.ndarray) -> RegionGraph:
    """The labels of a volume and the contacts between them.

    Parameters
    ----------
    labels : uint64, (Z, Y, X)
        0 is background and has no contacts.
    affinity : uint8, (3, Z, Y, X)
        `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.

    Raises
    ------
    ValueError
        If the two arrays do not cover the same voxels.
    """
    if affinity.shape != (3, *labels.shape):
        raise ValueError(
            f"expected affinities of shape {(3, *labels.shape)}, three channels over the labels; "
            f"got {affinity.shape}"
        )
    ids, size, numbers = number_labels(labels)
    return RegionGraph(ids, size, count_contacts(numbers, affinity, len(ids)))


def number_labels(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The labels that occur, their sizes, and the position of each voxel's label among them.

    Returns
    -------
    ids : uint64, (N,), ascending
    size : int64, (N,)
        In voxels.
    numbers : int32, shape of `labels`
        Position in `ids`; -1 where the label is 0.
    """
    met, size, numbers = _number_as_met(labels)
    order = np.argsort(met, kind="stable")
    if not np.array_equal(order[::-1], np.arange(len(order))):
        rank = np.empty(len(met) + 1, np.int32)
        rank[order] = np.arange(len(met), dtype=np.int32)
        rank[-1] = -1
        return met[order], size[order], rank[numbers]
    np.subtract(len(met) - 1, numbers, out=numbers, where=numbers >= 0)
    return met[order], size[order], numbers


@kernel
def _number_as_met(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number the labels scanning backwards, which meets labels named by last voxel in order.

    Most voxels have the label of an adjacent voxel; only the others need a table lookup.
    """
    depth, height, width = labels.shape
    numbers = np.empty((depth, height, width), np.int32)
    met = np.empty(INITIAL_LABELS, np.uint64)
    size = np.zeros(INITIAL_LABELS, np.int64)
    number_at = np.full(2 * INITIAL_LABELS, -1, np.int32)
    count = 0
    for z in range(depth - 1, -1, -1):
        for y in range(height - 1, -1, -1):
            label, number = np.uint64(0), -1
            for x in range(width - 1, -1, -1):
                if labels[z, y, x] != label:
                    label = labels[z, y, x]
                    if label == 0:
                        number = -1
                    elif y + 1 < height and labels[z, y + 1, x] == label:
                        number = numbers[z, y + 1, x]
                    elif z + 1 < depth and labels[z + 1, y, x] == label:
                        number = numbers[z + 1, y, x]
                    else:
                        slot = _slot_of_label(label, met, number_at)
                        if number_at[slot] < 0:
                            if count == len(met):
                                met, size, number_at = _grow_labels(met, size)
                                slot = _slot_of_label(label, met, number_at)
                            number_at[slot] = count
                            met[count] = label
                            count += 1
                        number = number_at[slot]
                numbers[z, y, x] = number
                size[max(number, 0)] += number >= 0
    return met[:count].copy(), size[:count].copy(), numbers


@kernel
def _slot_of_label(label: np.uint64, met: np.ndarray, number_at: np.ndarray) -> int:
    """The slot of a label's number in the table, or the free slot (-1) for it.

    Sixteen consecutive labels share a cache line: labels of neighbouring voxels are often close.
    """
    spread = (label >> np.uint64(4)) * np.uint64(0x9E3779B97F4A7C15)
    line = (spread ^ (spread >> np.uint64(32))) << np.uint64(4)
    slot = np.int64((line | (label & np.uint64(15))) & np.uint64(len(number_at) - 1))
    while number_at[slot] >= 0 and met[number_at[slot]] != label:
        slot = (slot + 1) & (len(number_at) - 1)
    return int(slot)


@kernel
def _grow_labels(met: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The labels, sizes and numbers in tables twice as long."""
    longer = np.empty(2 * len(met), np.uint64)
    longer[: len(met)] = met
    longer_size = np.zeros(2 * len(met), np.int64)
    longer_size[: len(met)] = size
    number_at = np.full(4 * len(met), -1, np.int32)
    for number in range(len(met)):
        number_at[_slot_of_label(met[number], met, number_at)] = number
    return longer, longer_size, number_at


def count_contacts(numbers: np.ndarray, affinity: np.ndarray, count: int) -> EdgeTable:
    """The edges between numbered labels within an array.

    Parameters
    ----------
    numbers : int32, (Z, Y, X)
        0 to `count` - 1; -1 is background.
    affinity : uint8, (3, Z, Y, X)
        `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.
    count : int
        Number of labels.
    """
    if count == 0:
        return EdgeTable.empty()
    ends = np.cumsum(_contact_counts(numbers, count) + 1)  # a spare slot: see _sort_contacts
    lower, values, filled = _sort_contacts(numbers, affinity, ends)
    return EdgeTable(*_pool_contacts(lower, values, ends, filled))


@kernel
def _contact_counts(numbers: np.ndarray, count: int) -> np.ndarray:
    """For each label, the number of its contacts with labels of smaller numbers."""
    depth, height, width = numbers.shape
    contacts = np.zeros(count, np.int64)
    for z in range(depth):
        for y in range(height):
            for axis in range(3):
                if (axis == 0 and z == 0) or (axis == 1 and y == 0):
                    continue
                back = np.int64(axis == 2)
                row, before = numbers[z, y], numbers[z - (axis == 0), y - (axis == 1)]
                for x in range(back, width):
                    u, v = row[x], before[x - back]
                    contacts[max(u, v, 0)] += (u != v) & (u >= 0) & (v >= 0)
    return contacts


@kernel
def _sort_contacts(
    numbers: np.ndarray, affinity: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contacts in buckets, one per larger number: the smaller number and the affinity.

    The loop has no branches: every pair of voxels is written, and the next one overwrites it
    unless it was a contact. Each bucket therefore has a spare slot at its end.
    """
    depth, height, width = numbers.shape
    lower, values = np.empty(ends[-1], np.int32), np.empty(ends[-1], np.uint8)
    place = np.zeros(len(ends), np.int64)
    place[1:] = ends[:-1]
    for z in range(depth):
        for y in range(height):
            for axis in range(3):
                if (axis == 0 and z == 0) or (axis == 1 and y == 0):
                    continue
                back = np.int64(axis == 2)
                row, before = numbers[z, y], numbers[z - (axis == 0), y - (axis == 1)]
                across = affinity[axis, z, y]
                for x in range(back, width):
                    u, v = row[x], before[x - back]
                    bucket = max(u, v, 0)
                    lower[place[bucket]] = min(u, v)
                    values[place[bucket]] = across[x]
                    place[bucket] += (u != v) & (u >= 0) & (v >= 0)
    return lower, values, place


@kernel
def _pool_contacts(
    lower: np.ndarray, values: np.ndarray, ends: np.ndarray, filled: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pool the contacts of each bucket by the smaller number."""
    bucket_of = np.full(len(ends), -1, np.int32)  # the last bucket in which a number occurred
    edge_of = np.empty(len(ends), np.int64)  # and the edge for it
    edges = 0
    for b in range(len(ends)):
        for place in range(ends[b - 1] if b else 0, filled[b]):
            edges += bucket_of[lower[place]] != b
            bucket_of[lower[place]] = b
    bucket_of[:] = -1
    a_of, b_of = np.empty(edges, np.int32), np.empty(edges, np.int32)
    sums, contacts = np.zeros(edges, np.int64), np.zeros(edges, np.int64)
    edges = 0
    for b in range(len(ends)):
        for place in range(ends[b - 1] if b else 0, filled[b]):
            a = lower[place]
            if bucket_of[a] != b:
                bucket_of[a] = b
                edge_of[a] = edges
                a_of[edges] = a
                b_of[edges] = b
                edges += 1
            sums[edge_of[a]] += values[place]
            contacts[edge_of[a]] += 1
    return a_of, b_of, sums, contacts
