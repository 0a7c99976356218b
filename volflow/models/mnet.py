r"""MNet: a mesh of streams of 2D and 3D convolutions, for sections of any thickness.

Level by level the sections are halved along y and x, row by row along z too; a node of the mesh
is met by what came along its row, through 2D convolutions, and by what came down from the row
above, through 3D convolutions. So the network need not be told how anisotropic its voxels are.

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
differences where streams meet. Ours differs in what is never used (heads in the middle, biases
before a normalisation), in `batch`, and in that a tile deeper than `sections` is halved along z
no more often than one of that depth.
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

THINNEST = 8  # sections; fewer are not halved
FAR = 1_000_000  # voxels; farther than any tile reaches
NORMS = ("instance", "batch")


class InstanceNorm(nn.Module):
    """Every channel of every volume brought to mean 0 and variance 1, then scaled and shifted.

    As that of torch, but by batches of one, which leaves the layout in memory as it is: twice as
    fast a step on a processor.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, Z, Y, X) to the same."""
        volumes = [x[n : n + 1] for n in range(len(x))]
        made = [batch_norm(one, None, None, self.weight, self.bias, True) for one in volumes]
        return made[0] if len(made) == 1 else torch.cat(made)


class Block(nn.Sequential):
    """Two convolutions, each with normalisation and activation; the shape stays."""

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
    """A node of the mesh: its input through 2D convolutions, through 3D ones, or both."""

    def __init__(self, inputs: int, outputs: int, norm: str, flat: bool, solid: bool) -> None:
        super().__init__()
        self.flat = Block(inputs, outputs, (1, 3, 3), norm) if flat else None
        self.solid = Block(inputs, outputs, (3, 3, 3), norm) if solid else None

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """(B, inputs, Z, Y, X) to two of (B, outputs, Z, Y, X), None where no one asks."""
        return (
            None if self.flat is None else self.flat(x),
            None if self.solid is None else self.solid(x),
        )


Met = dict[Place, tuple[Tensor | None, Tensor | None]]


class Encoder(nn.Module):
    """The mesh from left to right; see the module."""

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

    def forward(self, x: Tensor) -> Met:
        """(B, in_channels, Z, Y, X) to what each node makes; level l has Y / 2^(l-1)."""
        halved = halvings(x.shape[2], self.halvings)
        made: Met = {(1, 1): self.nodes[_name(1, 1)](x)}
        for level in range(2, self.levels + 1):
            for row in range(1, level + 1):
                along = made[row, level - 1][0] if row < level else None
                down = made[row - 1, level - 1][1] if row > 1 else None
                if along is not None:
                    along = max_pool3d(along, (1, 2, 2))
                if down is not None:
                    down = max_pool3d(down, (2 if row - 1 <= halved else 1, 2, 2))
                made[row, level] = self.nodes[_name(row, level)](apart(along, down))
        return made


class Decoder(nn.Module):
    """The mesh from right to left, from the last level to the image's own size."""

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

    def forward(self, made: Met, skips: dict[Place, Tensor]) -> Tensor:
        """What the encoder made to (B, widths[0], Z, Y, X)."""
        deeper = made
        for level in range(self.levels - 1, 0, -1):
            met: Met = {}
            for row in range(1, level + 1):
                skip = skips[row, level]
                along, down = deeper[row, level + 1][0], deeper[row + 1, level + 1][1]
                assert along is not None
                assert down is not None
                # Brought up along z, then both at once along y and x: the interpolation is linear.
                down = resized(down, (skip.shape[2], *down.shape[3:]))
                x = resized(along - down, skip.shape[2:]).abs()
                x = torch.cat([skip, x], 1) if self.skips else x
                met[row, level] = self.nodes[_name(row, level)](x)
            deeper = met
        flat, solid = deeper[1, 1]
        assert flat is not None
        assert solid is not None
        return flat + solid


class MNet(nn.Module):
    """Mesh network with a decoder for each kind of answer; it returns logits.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    out_channels : sequence of int
        Channels of each decoder's answer; decoders share the encoder only.
    widths : sequence of int
        Channels of each level, finest first.
    normalisation : "instance" or "batch"
        instance, as published: by the statistics of the tile, all of which an output depends on.
        batch: by constants once the network is trained, so that outputs know of no tiles.
    sections : int
        How deep tiles are: z is halved from row to row while at least 8 sections are left of this
        many (of the tile, where it has fewer).
    skips : bool
        Whether decoders are shown what the encoder made at their level; without, all must come
        through the last level, which is how the encoder is pretrained.

    Raises
    ------
    ValueError
        If these do not describe a network.
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
        made = self.encoder(x)
        skips = {at: apart(*pair) for at, pair in made.items() if at[1] < self.levels}
        answers = {n: self.decoders[n](made, skips) for n in sorted(set(self.rows))}
        weight, bias = self.head.weight, self.head.bias
        assert bias is not None
        logits = []
        first = 0
        while first < len(self.rows):  # channels of one decoder that lie together, at once
            decoder, last = self.rows[first], first + 1
            while last < len(self.rows) and self.rows[last] == decoder:
                last += 1
            logits.append(conv3d(answers[decoder], weight[first:last], bias[first:last]))
            first = last
        return torch.cat(logits, 1)

    def keep(self, channels: Sequence[int]) -> None:
        """Leave only these channels, in this order; a decoder that none needs is not computed."""
        for name, tensor in list(self.head.named_parameters()):
            setattr(self.head, name, nn.Parameter(tensor.detach()[list(channels)], False))
        self.head.out_channels = len(channels)
        self.rows = [self.rows[channel] for channel in channels]

    @property
    def total_stride(self) -> Triple:
        """Voxels by which the input can be shifted so that the output is shifted likewise."""
        side = 2 ** (self.levels - 1)
        return 2**self.halvings, side, side

    def receptive_field(self) -> tuple[Triple, Triple]:
        """How far before and after itself an output voxel sees, at most, exactly.

        `FAR` with instance normalisation, by which every voxel of the tile counts.
        """
        if self.normalisation == "instance":
            return (FAR, FAR, FAR), (FAR, FAR, FAR)
        before, after = [], []
        for axis, stride in enumerate(self.total_stride):
            sight = ReceptiveField(self.levels, self.halvings if axis == 0 else None, self.skips)
            spans = [(at, sight.of_answer((at, at))) for at in range(stride)]
            before.append(max(at - span[0] for at, span in spans))
            after.append(max(span[1] - at for at, span in spans))
        return (before[0], before[1], before[2]), (after[0], after[1], after[2])


def apart(flat: Tensor | None, solid: Tensor | None) -> Tensor:
    """How two streams differ where they meet; the one that there is where there is one."""
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
    """How often z is halved, at most `most` times, until fewer than 8 sections are left."""
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
            f"expected two widths and one of out_channels at least; got {list(widths)} and "
            f"{list(out_channels)}"
        )
    if min(in_channels, *out_channels, *widths, sections) < 1:
        raise ValueError(
            f"channels, widths and sections must be positive; got {in_channels}, "
            f"{list(out_channels)}, {list(widths)}, {sections}"
        )
    if normalisation not in NORMS:
        raise ValueError(f"normalisation must be one of {', '.join(NORMS)}; got {normalisation!r}")
