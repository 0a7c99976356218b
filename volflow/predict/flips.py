"""Channels of a network shown an image from several sides: what each says in the image's frame.

Channel c of an affinity network with offset o joins voxel v with v + o. Shown the image flipped
along axes in which o is not zero, it joins v with v - o, so its output belongs one offset away;
the same shift turns a channel of offset o into one of offset -o. A channel that tells the part of
an arrow along an axis turns its sign when that axis is flipped.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from volflow.core.geometry import Triple, zyx
from volflow.predict.tiling import Network

AXES = "zyx"


def moved(array: np.ndarray, offset: Triple) -> np.ndarray:
    """The array whose voxel v is the given one's v + offset; at the faces the last is repeated."""
    if not any(offset):
        return array
    z, y, x = (
        (np.arange(n) + o).clip(0, n - 1) for n, o in zip(array.shape[-3:], offset, strict=True)
    )
    found: np.ndarray = array[..., z[:, None, None], y[:, None], x]
    return found


def subsets(axes: str) -> list[tuple[int, ...]]:
    """All sets of these axes, none of them first."""
    numbers = sorted(AXES.index(axis) for axis in axes)
    return [s for n in range(len(numbers) + 1) for s in itertools.combinations(numbers, n)]


def unflippable(offsets: Sequence[Triple], axes: str) -> list[Triple]:
    """Offsets that some flip turns into another pair of voxels: those along several axes."""
    numbers = {AXES.index(axis) for axis in axes}
    slanted = [offset for offset in offsets if sum(o != 0 for o in offset) > 1]
    return [offset for offset in slanted if any(offset[axis] for axis in numbers)]


def averaged(
    network: Network,
    axes: str,
    offsets: Sequence[Triple],
    odd: Sequence[str] = (),
    total: Sequence[float] = (),
) -> Network:
    """The network's mean over the image and its flips along all sets of these axes.

    Parameters
    ----------
    network : Network
        Its output is as large as its input.
    axes : str
        Of the letters z, y, x; '' leaves the network as it is.
    offsets : sequence of Triple
        The pair that each channel joins, (0, 0, 0) of one that is no affinity; () where none is.
    odd : sequence of str
        Of each channel, the axes whose flip turns v into `total` - v; () where none does.
    total : sequence of float
        Of each channel.

    Raises
    ------
    ValueError
        If an offset along several axes would be flipped into another pair.
    """
    slanted = unflippable(offsets, axes)
    if slanted:
        raise ValueError(f"a flip along {axes} turns offset {slanted[0]} into another pair")
    if not axes:
        return network

    def mean(batch: np.ndarray) -> np.ndarray:
        made = network(batch)
        if made.shape[-3:] != batch.shape[-3:]:
            raise ValueError(
                f"only a network whose output is as large as its input can be averaged over "
                f"flips; it was shown {batch.shape[-3:]} and made {made.shape[-3:]}"
            )
        made = made.astype("float32")
        sets = subsets(axes)
        for flipped in sets[1:]:
            sides = tuple(axis - 3 for axis in flipped)
            found = np.flip(network(np.ascontiguousarray(np.flip(batch, sides))), sides)
            for channel in range(made.shape[1]):
                answer = found[:, channel]
                if offsets and any(offsets[channel][axis] for axis in flipped):
                    answer = moved(answer, offsets[channel])
                if odd and sum(AXES[axis] in odd[channel] for axis in flipped) % 2:
                    answer = np.float32(total[channel]) - answer
                made[:, channel] += answer
        made /= len(sets)
        return made

    return mean


def nearest(offsets: Sequence[Triple]) -> list[tuple[int, Triple]] | None:
    """Channels that join a voxel with its neighbours along z, y, x, and how each is to be moved.

    Where a network joins a voxel with the *next* one, its channel is moved by one, as affinities
    here join a voxel with the *previous* one. None if a channel is lacking.
    """
    found: list[tuple[int, Triple]] = []
    for axis in range(3):
        previous = zyx([-1 if a == axis else 0 for a in range(3)])
        following = zyx([-o for o in previous])
        if previous in offsets:
            found.append((offsets.index(previous), (0, 0, 0)))
        elif following in offsets:
            found.append((offsets.index(following), previous))
        else:
            return None
    return found


def moving(network: Network, moves: Sequence[Triple]) -> Network:
    """The network with each of its channels moved: voxel v becomes what v + move was."""
    if not any(any(move) for move in moves):
        return network

    def moved_channels(batch: np.ndarray) -> np.ndarray:
        made = network(batch)
        if made.shape[-3:] != batch.shape[-3:]:
            raise ValueError(
                f"affinities with the next voxel can only be turned into those with the previous "
                f"one where the output is as large as the input; the network was shown "
                f"{batch.shape[-3:]} and made {made.shape[-3:]}"
            )
        return np.stack([moved(made[:, c], move) for c, move in enumerate(moves)], axis=1)

    return moved_channels
