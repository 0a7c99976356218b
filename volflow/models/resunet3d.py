"""A residual 3D U-Net whose output does not depend on the tiling of the volume.

It normalises with BatchNorm, whose statistics are constants once the network is trained, so an
output depends on its receptive field only. Skip connections are added, not concatenated, and the
coarse level is upsampled by repeating voxels: both are cheap at full resolution, where nearly all
of the time is spent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

Triple = tuple[int, int, int]
CUBE = (3, 3, 3)
Span = tuple[int, int]
"""First and last voxel along one axis, both included."""


Activation = Callable[[], nn.Module]

ACTIVATIONS: dict[str, Activation] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "elu": lambda: nn.ELU(inplace=True),
}


class Unit(nn.Sequential):
    """Convolution, normalisation and an optional activation; the shape is unchanged."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Triple, activation: Activation | None = None
    ) -> None:
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        layers: list[nn.Module] = [
            nn.Conv3d(inputs, outputs, kernel, padding=padding, bias=False),
            nn.BatchNorm3d(outputs, momentum=0.03),
        ]
        if activation is not None:
            layers.append(activation())
        super().__init__(*layers)


class Residual(nn.Module):
    """A unit that sets the width, followed by `depth` units with a residual connection."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        first: Triple,
        depth: int,
        activation: Activation,
        kernel: Triple = CUBE,
    ) -> None:
        super().__init__()
        self.enter = Unit(inputs, outputs, first, activation)
        between = [activation] * (depth - 1)
        self.inner = nn.Sequential(
            *(Unit(outputs, outputs, kernel, active) for active in (*between, None))
        )
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, Z, Y, X) to (B, outputs, Z, Y, X)."""
        x = self.enter(x)
        inner = self.inner(x)
        inner += x  # in place, as all that is added here: a third less memory for a tile
        output: Tensor = self.activation(inner)
        return output


class ResUNet3D(nn.Module):
    """Residual 3D U-Net with one 1x1x1 head; it returns logits.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the image and of the head.
    widths : sequence of int
        Channels of each level, finest first.
    pools : sequence of 3 int
        Pooling z y x between a level and the next, one fewer than widths; (1, 2, 2) until
        voxels are about isotropic.
    depth : int
        Convolutions inside each residual connection.
    first_kernel : 3 int
        Kernel of the very first convolution, odd; (1, 5, 5) for thick sections.
    activation : "relu" or "elu"
        elu is common in U-Nets of this field; relu takes an eighth less time on a CPU.
    kernels : sequence of 3 int, optional
        Kernel of each level, odd, z y x; (1, 3, 3) on the finest for thick sections. Default:
        (3, 3, 3) on all. `first_kernel` is independent of it.

    Raises
    ------
    ValueError
        If the arguments do not describe a network.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 12,
        widths: Sequence[int] = (16, 32, 64, 96),
        pools: Sequence[Sequence[int]] = ((2, 2, 2), (2, 2, 2), (2, 2, 2)),
        depth: int = 1,
        first_kernel: Sequence[int] = CUBE,
        activation: str = "relu",
        kernels: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {', '.join(ACTIVATIONS)}; got {activation!r}"
            )
        active = ACTIVATIONS[activation]
        self.pools = [_triple(pool, "pools") for pool in pools]
        self.first_kernel = _triple(first_kernel, "first_kernel")
        self.kernels = [_triple(k, "kernels") for k in kernels or [CUBE] * len(widths)]
        self.depth = depth
        _check((in_channels, out_channels), widths, self.pools, depth)
        _check_kernels(len(widths), self.kernels, self.first_kernel)
        finest = self.kernels[0]
        entry = Residual(in_channels, widths[0], self.first_kernel, depth, active, finest)
        self.down = nn.ModuleList([entry])
        self.lift = nn.ModuleList()
        self.up = nn.ModuleList()
        for (fine, coarse), (near, far) in zip(
            pairwise(widths), pairwise(self.kernels), strict=True
        ):
            self.down.append(Residual(fine, coarse, far, depth, active, far))
            self.lift.append(Unit(coarse, fine, (1, 1, 1)))
            self.up.append(Residual(fine, fine, near, depth, active, near))
        self.head = nn.Conv3d(widths[0], out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, Z, Y, X) to logits (B, out_channels, Z, Y, X).

        Z, Y and X are multiples of `total_stride`.
        """
        skips = []
        for block, pool in zip(self.down, [*self.pools, None], strict=True):
            x = block(x)
            if pool is not None:
                skips.append(x)
                x = nn.functional.max_pool3d(x, pool)
        for level in reversed(range(len(self.pools))):
            x = repeated(self.lift[level](x), self.pools[level])
            x += skips.pop()
            x = self.up[level](x)
        logits: Tensor = self.head(x)
        return logits

    def keep(self, channels: Sequence[int]) -> None:
        """Keep only these channels of the head, in this order; the others are not computed."""
        for name, tensor in list(self.head.named_parameters()):
            setattr(self.head, name, nn.Parameter(tensor.detach()[list(channels)], False))
        self.head.out_channels = len(channels)

    @property
    def total_stride(self) -> Triple:
        """The product of all poolings z y x: shifting the input by it shifts the output equally."""
        z, y, x = (prod(pool[axis] for pool in self.pools) for axis in range(3))
        return z, y, x

    def receptive_field(self) -> tuple[Triple, Triple]:
        """The exact maximum distances z y x before and after an output voxel that influence it.

        The distance depends on the voxel's position within a stride, so each axis is traced from
        all positions down the network.
        """
        before, after = [], []
        for axis, stride in enumerate(self.total_stride):
            spans = [(at, self._input_span((at, at), 0, axis)) for at in range(stride)]
            before.append(max(at - span[0] for at, span in spans))
            after.append(max(span[1] - at for at, span in spans))
        return (before[0], before[1], before[2]), (after[0], after[1], after[2])

    def _input_span(self, span: Span, level: int, axis: int) -> Span:
        """The span of the network's input that a span of this level's decoder depends on."""
        reach = self.kernels[level][axis] // 2
        entered = (self.first_kernel[axis] // 2 if level == 0 else reach) + reach * self.depth
        if level == len(self.pools):
            return self._encoder_span(_grown(span, entered), level, axis)
        span = _grown(span, reach * (1 + self.depth))
        pool = self.pools[level][axis]
        skipped = self._encoder_span(_grown(span, entered), level, axis)
        deeper = self._input_span((span[0] // pool, span[1] // pool), level + 1, axis)
        return min(skipped[0], deeper[0]), max(skipped[1], deeper[1])

    def _encoder_span(self, span: Span, level: int, axis: int) -> Span:
        """The span of the network's input that a span of this level's encoder input depends on."""
        for above in reversed(range(level)):
            pool = self.pools[above][axis]
            span = (span[0] * pool, span[1] * pool + pool - 1)
            reach = self.kernels[above][axis] // 2
            first = self.first_kernel[axis] // 2 if above == 0 else reach
            span = _grown(span, first + reach * self.depth)
        return span


def repeated(x: Tensor, times: Triple) -> Tensor:
    """Each voxel repeated along z, y and x: (B, C, Z, Y, X) to (B, C, kZ, kY, kX)."""
    factors = [float(k) for k in times]
    return nn.functional.interpolate(x, scale_factor=factors, mode="nearest")


def _grown(span: Span, by: int) -> Span:
    return span[0] - by, span[1] + by


def _triple(numbers: Sequence[int], name: str) -> Triple:
    if len(numbers) != 3 or any(number < 1 for number in numbers):
        raise ValueError(f"{name} must be three positive integers z, y, x; got {list(numbers)}")
    z, y, x = numbers
    return z, y, x


def _check(
    channels: tuple[int, int],
    widths: Sequence[int],
    pools: Sequence[Triple],
    depth: int,
) -> None:
    if min((*channels, *widths, depth), default=0) < 1 or not widths:
        raise ValueError(
            f"channels, widths and depth must be positive; got {channels}, {list(widths)}, {depth}"
        )
    if len(pools) != len(widths) - 1:
        raise ValueError(
            f"expected one pool fewer than widths, {len(widths) - 1}; got {len(pools)}"
        )


def _check_kernels(levels: int, kernels: Sequence[Triple], first_kernel: Triple) -> None:
    if len(kernels) != levels:
        raise ValueError(f"expected as many kernels as widths, {levels}; got {len(kernels)}")
    for name, kernel in [("first_kernel", first_kernel), *(("kernels", k) for k in kernels)]:
        if any(side % 2 == 0 for side in kernel):
            raise ValueError(f"{name} must be odd; got {kernel}")
