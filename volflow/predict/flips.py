"""Test-time flips: a network's channels mapped back from flipped images to the original frame.

Channel c of an affinity network with offset o joins voxel v with v + o. On an image that is flipped
along axes in which o is not zero, it joins v with v - o, so its output has to be shifted by o; the
same shift turns a channel of offset o into one of offset -o. A channel that holds a vector's
component along an axis changes sign when that axis is flipped.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from volflow.core.geometry import Triple, zyx
from volflow.predict.tiling import Network

AXES = "zyx"


def shifted(array: np.ndarray, offset: Triple) -> np.ndarray:
    """The array shifted so that voxel v holds the value at v + offset; edge values repeat."""
    if not any(offset):
        return array
    z, y, x = (
        (np.arange(n) + o).clip(0, n - 1) for n, o in zip(array.shape[-3:], offset, strict=True)
    )
    result: np.ndarray = array[..., z[:, None, None], y[:, None], x]
    return result


def axis_subsets(axes: str) -> list[tuple[int, ...]]:
    """All subsets of the axes as axis numbers, the empty set first."""
    numbers = sorted(AXES.index(axis) for axis in axes)
    return [s for n in range(len(numbers) + 1) for s in itertools.combinations(numbers, n)]


def unflippable(offsets: Sequence[Triple], axes: str) -> list[Triple]:
    """Offsets that flips along these axes map to another pair: those along several axes."""
    numbers = {AXES.index(axis) for axis in axes}
    slanted = [offset for offset in offsets if sum(o != 0 for o in offset) > 1]
    return [offset for offset in slanted if any(offset[axis] for axis in numbers)]


def average_over_flips(
    network: Network,
    axes: str,
    offsets: Sequence[Triple],
    odd: Sequence[str] = (),
    total: Sequence[float] = (),
) -> Network:
    """A network that averages its output over flips of the image along all subsets of axes.

    Parameters
    ----------
    network : Network
        Its output must have the shape of its input.
    axes : str
        Any of the letters z, y, x; '' returns the network unchanged.
    offsets : sequence of Triple
        The offset that each channel joins, (0, 0, 0) for other channels; () if none is an affinity.
    odd : sequence of str
        For each channel, the axes whose flip turns v into `total` - v; () if there are none.
    total : sequence of float
        For each channel, the sum of the two ends of its range.

    Raises
    ------
    ValueError
        If a flip would map an offset along several axes to another pair, or, when called, if the
        output's shape differs from the input's.
    """
    slanted = unflippable(offsets, axes)
    if slanted:
        raise ValueError(
            f"flips: expected axes that keep all offsets; {axes} maps offset {slanted[0]} to "
            f"another pair"
        )
    if not axes:
        return network

    def mean(batch: np.ndarray) -> np.ndarray:
        output = network(batch)
        check_same_shape("flips", batch.shape, output.shape)
        output = output.astype("float32")
        sets = axis_subsets(axes)
        for flipped in sets[1:]:
            sides = tuple(axis - 3 for axis in flipped)
            mirrored = np.flip(network(np.ascontiguousarray(np.flip(batch, sides))), sides)
            for channel in range(output.shape[1]):
                channel_output = mirrored[:, channel]
                if offsets and any(offsets[channel][axis] for axis in flipped):
                    channel_output = shifted(channel_output, offsets[channel])
                if odd and sum(AXES[axis] in odd[channel] for axis in flipped) % 2:
                    channel_output = np.float32(total[channel]) - channel_output
                output[:, channel] += channel_output
        output /= len(sets)
        return output

    return mean


def neighbour_channels(offsets: Sequence[Triple]) -> list[tuple[int, Triple]] | None:
    """Channels that join a voxel with its neighbours along z, y, x, and the shift of each.

    Affinities in volflow join a voxel with the *previous* one. The channel of a network that joins
    it with the *next* one is therefore shifted by one voxel. None if an axis has no channel.
    """
    channels: list[tuple[int, Triple]] = []
    for axis in range(3):
        previous = zyx([-1 if a == axis else 0 for a in range(3)])
        following = zyx([-o for o in previous])
        if previous in offsets:
            channels.append((offsets.index(previous), (0, 0, 0)))
        elif following in offsets:
            channels.append((offsets.index(following), previous))
        else:
            return None
    return channels


def shift_channels(network: Network, shifts: Sequence[Triple]) -> Network:
    """A network whose channel outputs are shifted: voxel v holds the value at v + shift."""
    if not any(any(shift) for shift in shifts):
        return network

    def shifted_channels(batch: np.ndarray) -> np.ndarray:
        output = network(batch)
        check_same_shape("affinities to the next voxel", batch.shape, output.shape)
        return np.stack([shifted(output[:, c], shift) for c, shift in enumerate(shifts)], axis=1)

    return shifted_channels


def check_same_shape(subject: str, batch: Sequence[int], output: Sequence[int]) -> None:
    """Raise a ValueError if a network's output is not as large as its input."""
    if tuple(output[-3:]) != tuple(batch[-3:]):
        raise ValueError(
            f"{subject}: expected a network whose output is as large as its input; got an output "
            f"of {tuple(output[-3:])} for an input of {tuple(batch[-3:])}"
        )


@dataclass(frozen=True)
class Channel:
    """The rule by which a written channel follows from the channel of a network.

    The functions above change whole outputs of a network, one after the other; `positions` names
    the voxel of the output that all of them together use for each voxel that is kept.
    """

    offset: Triple = (0, 0, 0)
    """The offset that an affinity joins, as in `average_over_flips`."""
    odd: str = ""
    """The axes whose flip turns a value v into `sum(range)` - v."""
    range: tuple[float, float] = (0.0, 1.0)
    """The values that are mapped to 0 and 255, as in `to_uint8`."""
    shift: Triple = (0, 0, 0)
    """As in `shift_channels`."""

    def is_odd(self, flipped: Sequence[int]) -> bool:
        """Whether flips along these axes turn the channel's values."""
        return sum(AXES[axis] in self.odd for axis in flipped) % 2 == 1

    def positions(
        self, flipped: Sequence[int], output: Triple, first: Triple, shape: Triple
    ) -> list[np.ndarray]:
        """Positions z, y, x in the output for the flipped image of the voxels that are kept.

        Parameters
        ----------
        flipped : sequence of int
            The axes along which the image was flipped.
        output, first, shape : Triple
            Shape of the network's output; first voxel and shape of the part that is kept.

        Returns
        -------
        list of three int arrays, of the lengths `shape`
        """
        moves = any(self.offset[axis] for axis in flipped)
        positions = []
        for axis, side in enumerate(output):
            position = np.arange(shape[axis]) + first[axis]
            position = (position + self.shift[axis]).clip(0, side - 1)
            if moves:
                position = (position + self.offset[axis]).clip(0, side - 1)
            positions.append(side - 1 - position if axis in flipped else position)
        return positions
