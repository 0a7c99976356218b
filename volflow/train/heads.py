"""The heads of a network that a training file asks for, and the channels of each.

Channels of the network, and below them those of the targets (yes or no) and of the marks of a
source, which have no channels for affinities and descriptors:

    network  | affinity | lsd | foreground | a mask head | ... |
    targets  | affinity |     | foreground | a mask head | ... |
    marks    |          |     | foreground | a mask head | ... |
"""

from __future__ import annotations

from volflow.checkpoints.header import Header
from volflow.checkpoints.heads import Head
from volflow.core.geometry import zyx
from volflow.models.checkpoint import build
from volflow.segment.descriptors import CHANNELS, ODD
from volflow.train.config.training import Training


def heads_of(training: Training) -> dict[str, Head]:
    """The heads of a training by name; empty if it has affinities alone."""
    offsets, shape = training.offsets, training.descriptors
    heads: dict[str, Head] = {}
    if offsets:
        heads["affinity"] = Head(channels=len(offsets), offsets=offsets)
    if shape is not None:
        heads["lsd"] = Head(channels=CHANNELS, odd=ODD, sigma_nm=shape.sigma_nm)
    if training.foreground is not None:
        heads["foreground"] = Head(channels=1)
    for name, masks in training.masks.items():
        heads[name] = Head(channels=len(masks.channels))
    return {} if list(heads) == ["affinity"] else heads


def channels_of(training: Training) -> dict[str, range]:
    """The network's channels of each head, by name."""
    first, channels = 0, {}
    heads = heads_of(training) or {"affinity": Head(channels=len(training.offsets))}
    for name, head in heads.items():
        channels[name] = range(first, first + head.channels)
        first += head.channels
    return channels


def header_of(training: Training) -> Header:
    """The header of the checkpoints that a training will write."""
    heads, affinities = heads_of(training), len(training.offsets)
    channels = sum(len(place) for place in channels_of(training).values())
    tile, halo = zyx(training.tiles.input_tile), zyx(training.tiles.halo)
    header = Header(
        network=training.network.kind,
        arguments=training.network.arguments(affinities, channels - affinities),
        out_channels=channels,
        offsets=() if heads else training.offsets,
        heads=heads,
        voxel_size_nm=training.voxel_size_nm,
        receptive_field=halo,
        halo=halo,
        total_stride=training.network.stride,
        input_tile=tile,
        output_tile=tile - halo * 2,
        batch=training.tiles.batch,
        padding=training.tiles.padding,
        normalisation=training.normalisation,
        card=training.card,
    )
    before, after = build(header).receptive_field()  # type: ignore[operator]  # ours have it
    return header.model_copy(update={"receptive_field": zyx(before).maximum(after)})
