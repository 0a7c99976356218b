r"""MNet: a mesh of streams of 2D and 3D convolutions, for sections of any thickness.

From level to level y and x are pooled, from row to row z as well. A node of the mesh joins the
stream along its row, through 2D convolutions, with the one from the row above, through 3D
convolutions, so the network learns how anisotropic its voxels are.

    level   1       2       3           - 2D output, along the row: pools 1 2 2
    row 1   o - - - o - - - o           \ 3D output, to the next row: pools 2 2 2
              \       \
    row 2           o - - - o
                      \
    row 3                   o           decoders walk the same mesh from right to left

References
----------
Dong et al., MNet: Rethinking 2D/3D Networks for Anisotropic Medical Image Segmentation, IJCAI
2022; in the shape that SegNeuron (MICCAI 2024) gives it: one encoder, two decoders, absolute
differences where streams meet. Ours leaves out what is never used (heads in the middle, biases
before a normalisation), adds the normalisation `batch`, and pools a tile deeper than `sections`
along z no more often than one of that depth.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv3d, interpolate, max_pool3d

from volflow.models.mnet_receptive_field import ReceptiveField

Triple = tuple[int, int, int]
Place = tuple[int, int]
"""Row and level of a node, from 1."""

THINNEST = 8  # sections; fewer are not pooled along z
FAR = 1_000_000  # voxels; more than any tile has
NORMS = ("instance", "batch")


class InstanceNorm(nn.Module):
    """Each channel of each volume normalised to mean 0 and variance 1, then scaled and shifted.

    Equal to torch's, but computed in batches of one, which keeps the memory layout: a training
    step on a CPU is twice as fast.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, Z, Y, X) to the same."""
        volumes = [x[n : n + 1] for n in range(len(x))]
        outputs = [batch_norm(one, None, None, self.weight, self.bias, True) for one in volumes]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


class Block(nn.Sequential):
    """Two convolutions, each with normalisation and activation; the shape is unchanged."""

    def __init__(self, inputs: int, outputs: int, kernel: Triple, norm: str) -> None:
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            layers += [
                nn.Conv3d(channels, outputs, kernel, padding=padding, bias=False),
                InstanceNorm(outputs)
                if norm == "instance"
                else nn.BatchNorm3d(outputs, momentum=0.03),
                nn.LeakyReLU(0.01, inplace=True),
            ]
        super().__init__(*layers)


class Node(nn.Module):
    """A node of the mesh: 2D convolutions, 3D convolutions, or both, of its input."""

    def __init__(self, inputs: int, outputs: int, norm: str, flat: bool, solid: bool) -> None:
        super().__init__()
        self.flat = Block(inputs, outputs, (1, 3, 3), norm) if flat else None
        self.solid = Block(inputs, outputs, (3, 3, 3), norm) if solid else None

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """(B, inputs, Z, Y, X) to two of (B, outputs, Z, Y, X), None for a missing stream."""
        return (
            None if self.flat is None else self.flat(x),
            None if self.solid is None else self.solid(x),
        )


NodeOutputs = dict[Place, tuple[Tensor | None, Tensor | None]]
"""The 2D and the 3D output of each node."""


class Encoder(nn.Module):
    """The mesh from left to right; see the drawing at the top of the module."""

    def __init__(self, in_channels: int, widths: Sequence[int], norm: str, halvings: int) -> None:
        super().__init__()
        self.levels, self.halvings = len(widths), halvings
        self.nodes = nn.ModuleDict()
        entering = (in_channels, *widths[:-1])
        for level, (inputs, outputs) in enumerate(zip(entering, widths, strict=True), 1):
            for row in range(1, level + 1):
                last = level == self.levels
                flat, solid = not last or row < level, not last or row > 1
                self.nodes[_name(row, level)] = Node(inputs, outputs, norm, flat, solid)

    def forward(self, x: Tensor) -> NodeOutputs:
        """(B, in_channels, Z, Y, X) to the outputs of all nodes; level l has Y / 2^(l-1)."""
        halved = halvings(x.shape[2], self.halvings)
        outputs: NodeOutputs = {(1, 1): self.nodes[_name(1, 1)](x)}
        for level in range(2, self.levels + 1):
            for row in range(1, level + 1):
                along = outputs[row, level - 1][0] if row < level else None
                down = outputs[row - 1, level - 1][1] if row > 1 else None
                if along is not None:
                    along = max_pool3d(along, (1, 2, 2))
                if down is not None:
                    down = max_pool3d(down, (2 if row - 1 <= halved else 1, 2, 2))
                outputs[row, level] = self.nodes[_name(row, level)](difference(along, down))
        return outputs


class Decoder(nn.Module):
    """The mesh from right to left, from the last level to full resolution."""

    def __init__(self, widths: Sequence[int], norm: str, skips: bool) -> None:
        super().__init__()
        self.levels, self.skips = len(widths), skips
        self.nodes = nn.ModuleDict()
        for level in range(self.levels - 1, 0, -1):
            own, deeper = widths[level - 1], widths[level]
            for row in range(1, level + 1):
                both = level == 1
                self.nodes[_name(row, level)] = Node(
                    own + deeper if skips else deeper,
                    own,
                    norm,
                    both or row < level,
                    both or row > 1,
                )

    def forward(self, encoded: NodeOutputs, skips: dict[Place, Tensor]) -> Tensor:
        """The encoder's outputs to (B, widths[0], Z, Y, X)."""
        deeper = encoded
        for level in range(self.levels - 1, 0, -1):
            decoded: NodeOutputs = {}
            for row in range(1, level + 1):
                skip = skips[row, level]
                along, down = deeper[row, level + 1][0], deeper[row + 1, level + 1][1]
                assert along is not None
                assert down is not None
                # First along z, then along y and x for both at once: the interpolation is linear.
                down = resized(down, (skip.shape[2], *down.shape[3:]))
                x = resized(along - down, skip.shape[2:]).abs()
                x = torch.cat([skip, x], 1) if self.skips else x
                decoded[row, level] = self.nodes[_name(row, level)](x)
            deeper = decoded
        flat, solid = deeper[1, 1]
        assert flat is not None
        assert solid is not None
        return flat + solid


class MNet(nn.Module):
    """Mesh network with a decoder for each group of channels; it returns logits.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    out_channels : sequence of int
        Channels of each decoder's output; decoders share the encoder only.
    widths : sequence of int
        Channels of each level, finest first.
    normalisation : "instance" or "batch"
        instance, as published: by the statistics of the tile, so that an output depends on all of
        it. batch: by constants once the network is trained, so that outputs do not depend on tiles.
    sections : int
        Depth of tiles: z is pooled from row to row while at least 8 sections are left of this many
        (of the tile, where that has fewer).
    skips : bool
        Whether decoders have skip connections; without them, everything passes through the last
        level, which is how the encoder is pretrained.

    Raises
    ------
    ValueError
        If the arguments do not describe a network.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: Sequence[int] = (3, 1),
        widths: Sequence[int] = (32, 64, 96, 128, 256),
        normalisation: str = "instance",
        sections: int = 20,
        skips: bool = True,
    ) -> None:
        super().__init__()
        _check(in_channels, out_channels, widths, normalisation, sections)
        self.levels, self.normalisation, self.skips = len(widths), normalisation, skips
        self.halvings = halvings(sections, self.levels - 1)
        self.encoder = Encoder(in_channels, widths, normalisation, self.halvings)
        self.decoders = nn.ModuleList(Decoder(widths, normalisation, skips) for _ in out_channels)
        # One row for each channel, whichever decoder it belongs to.
        self.head = nn.Conv3d(widths[0], sum(out_channels), 1)
        self.rows = [channel for channel, n in enumerate(out_channels) for _ in range(n)]

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, Z, Y, X) to logits (B, sum of out_channels, Z, Y, X).

        Y and X are multiples of 2 ** (levels - 1); Z is any, best a multiple of `total_stride`.
        """
        side = 2 ** (self.levels - 1)
        if x.shape[3] % side or x.shape[4] % side:
            raise ValueError(f"y and x must be multiples of {side}; got {tuple(x.shape[2:])}")
        encoded = self.encoder(x)
        skips = {at: difference(*pair) for at, pair in encoded.items() if at[1] < self.levels}
        features = {n: self.decoders[n](encoded, skips) for n in sorted(set(self.rows))}
        weight, bias = self.head.weight, self.head.bias
        assert bias is not None
        logits = []
        first = 0
        while first < len(self.rows):  # consecutive channels of one decoder at once
            decoder, last = self.rows[first], first + 1
            while last < len(self.rows) and self.rows[last] == decoder:
                last += 1
            logits.append(conv3d(features[decoder], weight[first:last], bias[first:last]))
            first = last
        return torch.cat(logits, 1)

    def keep(self, channels: Sequence[int]) -> None:
        """Keep only these channels, in this order; a decoder that none needs is not computed."""
        for name, tensor in list(self.head.named_parameters()):
            setattr(self.head, name, nn.Parameter(tensor.detach()[list(channels)], False))
        self.head.out_channels = len(channels)
        self.rows = [self.rows[channel] for channel in channels]

    @property
    def total_stride(self) -> Triple:
        """The product of all poolings z y x: shifting the input by it shifts the output equally."""
        side = 2 ** (self.levels - 1)
        return 2**self.halvings, side, side

    def receptive_field(self) -> tuple[Triple, Triple]:
        """The exact maximum distances z y x before and after an output voxel that influence it.

        `FAR` with instance normalisation, where every voxel of the tile counts.
        """
        if self.normalisation == "instance":
            return (FAR, FAR, FAR), (FAR, FAR, FAR)
        before, after = [], []
        for axis, stride in enumerate(self.total_stride):
            field = ReceptiveField(self.levels, self.halvings if axis == 0 else None, self.skips)
            spans = [(at, field.of_output((at, at))) for at in range(stride)]
            before.append(max(at - span[0] for at, span in spans))
            after.append(max(span[1] - at for at, span in spans))
        return (before[0], before[1], before[2]), (after[0], after[1], after[2])


def difference(flat: Tensor | None, solid: Tensor | None) -> Tensor:
    """The absolute difference of two streams, or the only one where the other is missing."""
    if flat is None or solid is None:
        only = solid if flat is None else flat
        assert only is not None
        return only
    return (flat - solid).abs()


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """A batch of volumes interpolated linearly to a size z y x."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return interpolate(x, size=list(size), mode="trilinear", align_corners=False)


def halvings(sections: int, most: int) -> int:
    """Number of poolings of z, at most `most`, until fewer than 8 sections are left."""
    times = 0
    while times < most and sections >= THINNEST:
        sections, times = sections // 2, times + 1
    return times


def _name(row: int, level: int) -> str:
    return f"row{row}level{level}"


def _check(
    in_channels: int,
    out_channels: Sequence[int],
    widths: Sequence[int],
    normalisation: str,
    sections: int,
) -> None:
    if len(widths) < 2 or not out_channels:
        raise ValueError(
            f"expected at least two widths and one of out_channels; got {list(widths)} and "
            f"{list(out_channels)}"
        )
    if min(in_channels, *out_channels, *widths, sections) < 1:
        raise ValueError(
            f"channels, widths and sections must be positive; got {in_channels}, "
            f"{list(out_channels)}, {list(widths)}, {sections}"
        )
    if normalisation not in NORMS:
        raise ValueError(f"normalisation must be one of {', '.join(NORMS)}; got {normalisation!r}")
