"""What a training learns, as heads of a network, and where each channel's truth is.

| affinity | lsd | foreground | a mask head | ... |     channels of the network
| affinity |     | foreground | a mask head | ... |     channels of yes or no, with their truth
                 | foreground | a mask head | ... |     marks of a source
"""

from __future__ import annotations

from volflow.checkpoints.header import Header
from volflow.checkpoints.heads import Head
from volflow.core.geometry import zyx
from volflow.models.checkpoint import build
from volflow.segment.descriptors import CHANNELS, ODD
from volflow.train.config.training import Training


def heads_of(training: Training) -> dict[str, Head]:
    """What a training learns, by name; empty for affinities alone."""
    offsets, learnt = training.offsets, training.descriptors
    heads: dict[str, Head] = {}
    if offsets:
        heads["affinity"] = Head(channels=len(offsets), offsets=offsets)
    if learnt is not None:
        heads["lsd"] = Head(channels=CHANNELS, odd=ODD, sigma_nm=learnt.sigma_nm)
    if training.foreground is not None:
        heads["foreground"] = Head(channels=1)
    for name, masks in training.masks.items():
        heads[name] = Head(channels=len(masks.channels))
    return {} if list(heads) == ["affinity"] else heads


def channels_of(training: Training) -> dict[str, range]:
    """The network's channels of each head, by name."""
    first, found = 0, {}
    heads = heads_of(training) or {"affinity": Head(channels=len(training.offsets))}
    for name, head in heads.items():
        found[name] = range(first, first + head.channels)
        first += head.channels
    return found


def header_of(training: Training) -> Header:
    """What the checkpoint of a training will say of itself."""
    heads, count = heads_of(training), len(training.offsets)
    channels = sum(len(place) for place in channels_of(training).values())
    tile, halo = training.tiles.input_tile, training.tiles.halo
    said = Header(
        network=training.network.kind,
        arguments=training.network.arguments(count, channels - count),
        out_channels=channels,
        offsets=() if heads else training.offsets,
        heads=heads,
        voxel_size_nm=training.voxel_size_nm,
        receptive_field=halo,
        halo=halo,
        total_stride=training.network.stride,
        input_tile=tile,
        output_tile=zyx([a - 2 * b for a, b in zip(tile, halo, strict=True)]),
        batch=training.tiles.batch,
        padding=training.tiles.padding,
        normalisation=training.normalisation,
        card=training.card,
    )
    before, after = build(said).receptive_field()  # type: ignore[operator]  # ours have it
    reach = zyx(before).maximum(after)
    return said.model_copy(update={"receptive_field": reach})
