"""Operations per voxel: the few-shot segmenter, the bundled affinity network, flood filling.

    python -m benchmarks.networks.flops [SIDE]

All are counted by `volflow.models.flops`, with what each computes twice included: halos of tiles,
windows of objects that overlap, fields of view. The segmenter follows every object of a tile of
SIDE pixels (default 256), with windows as the loop over sections cuts them; the objects are those
of FIB-25, sections 0 to 120. Offline layers are left out: they are networks of their own, listed
below.
"""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.data import DATA
from volflow.checkpoints.find import bundled_networks
from volflow.checkpoints.header import read_header
from volflow.config.pipeline import VolumeSpec
from volflow.io.volume import Volume
from volflow.models.checkpoint import build
from volflow.models.flops import operations
from volflow.models.iicats.gates import OWN
from volflow.models.iicats.network import IICats, OfflineFilters, joined_support
from volflow.models.iicats.target_model import columns
from volflow.track.memory import Track, cropped
from volflow.train.sequences.objects import section_objects

REACH, STRIDE, LEAST_AREA = 16, 32, 20
SECTIONS = range(0, 120, 10)


class FloodFilling(nn.Module):
    """The network of flood filling: 9 modules of two 3x3x3 convolutions with 32 channels.

    References
    ----------
    Januszewski et al., High-precision automated reconstruction of neurons with flood-filling
    networks, Nature Methods 2018: field of view 33x33x17, moved by 8x8x4 voxels.
    """

    FIELD, MOVE = (17, 33, 33), (4, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        widths = [2] + [32] * 18
        self.layers = nn.ModuleList(nn.Conv3d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.head = nn.Conv3d(32, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(x)
        return logits


def shared_operations(network: IICats, side: int) -> int:
    """Operations of a section of so many pixels squared, for all its objects."""
    filters = OfflineFilters(network)

    def see() -> None:
        sections = network.sections(torch.empty(1, 1, side, side), torch.empty(1, 3, side, side))
        layers = {"d": 3, "m": 1, "syn": 1}
        encoded = {k: network.pairs(k, torch.empty(1, c, side, side)) for k, c in layers.items()}
        filters.see(sections.target, encoded)

    for _ in range(network.memory):
        operations(see)
    return operations(see)


def object_operations(network: IICats, height: int, width: int) -> int:
    """Operations of an object in a window: one new mask encoded, filters fitted, mask decoded."""

    def follow() -> None:
        size = (height // network.target_stride, width // network.target_stride)
        target = torch.empty(1, network.embed.out_channels, *size)
        pair = (columns(target), *network.pairs(OWN, torch.empty(1, 1, height, width)))
        memory = [pair] * network.memory
        ages = range(network.memory, 0, -1)
        own = network.own_response(joined_support(memory, ages), target)
        encoding = network.gates(own, torch.empty_like(own), 1, size)
        masks = torch.empty(1, network.last_masks, height, width)
        parts = [
            torch.empty(1, level.own_part.out_channels, height // stride, width // stride)
            for level, stride in zip(network.decoder.levels, network.decoder.strides, strict=True)
        ]
        parts.append(torch.empty(1, 8, height, width))
        network.decoder(parts, encoding, masks, (height, width))

    return operations(follow)


def windows_of(labels: np.ndarray) -> list[tuple[int, int]]:
    """Sides of the windows of all objects of a section."""
    sides = []
    for piece in section_objects(labels, LEAST_AREA):
        crop = cropped(piece.view(np.uint8) * np.uint8(255), (0, 0))
        remembered = Track(1, crops=(crop,)).remembered(REACH, STRIDE, labels.shape, 1)
        sides.append(remembered.masks.shape[1:])
    return sides


def segmenter(side: int) -> tuple[float, float, float]:
    """Operations per voxel for a section and for its objects, and objects per section."""
    with torch.device("meta"):
        network = IICats().eval()
    path = f"hdf5://{DATA}/fib25_medulla/ts2_z000-165.h5?dataset=neuron_ids"
    volume = Volume.open(VolumeSpec(path=path))
    costs: dict[tuple[int, int], int] = {}
    total = count = pixels = 0
    for z in SECTIONS:
        labels = volume[z : z + 1, 0:250, 0:250][0].astype(np.int64)
        pixels += labels.size
        for sides in windows_of(labels):
            if sides not in costs:
                costs[sides] = object_operations(network, *sides)
            total, count = total + costs[sides], count + 1
    shared = shared_operations(network, side) / side**2
    return shared, total / pixels, count / len(SECTIONS)


def bundled(name: str) -> float:
    """Operations per voxel of a bundled network in its tiles, halos included."""
    header = read_header(bundled_networks()[name])
    with torch.device("meta"):
        network = build(header).eval()
    tile = operations(lambda: network(torch.empty(1, header.in_channels, *header.input_tile)))
    return tile / np.prod(header.output_tile)


def main() -> None:
    """Print the table."""
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    shared, own, objects = segmenter(side)
    with torch.device("meta"):
        filling = FloodFilling()
    field = operations(lambda: filling(torch.empty(1, 2, *FloodFilling.FIELD)))
    flooding = field / np.prod(FloodFilling.MOVE)
    print(f"{'':32} kFLOP/voxel")
    print(f"{'segmenter, shared':32} {shared / 1e3:11.1f}")
    print(f"{f'segmenter, {objects:.0f} objects per section':32} {own / 1e3:11.1f}")
    for name in ("fib25-affinity", "cortex", "mitochondria", "synapse"):
        print(f"{name:32} {bundled(name) / 1e3:11.1f}")
    print(f"{'flood filling, one pass':32} {flooding / 1e3:11.1f}")
    print(f"flood filling / segmenter: {flooding / (shared + own):.0f}")


if __name__ == "__main__":
    main()
