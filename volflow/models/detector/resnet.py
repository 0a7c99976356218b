"""Residual networks for sections: ResNet-50 with the names of public weights, and a light one.

Stem, then four stages, each at half the resolution of the one before. Names of tensors are those
of torchvision's ResNet without its last layer, so that public weights load (`public_weights`).

References
----------
He et al., Deep Residual Learning for Image Recognition, CVPR 2016, section 4.1 and table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from volflow.models.detector.norms import norm_named

Norm = Callable[[int], nn.Module]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a residual connection."""

    expansion = 1

    def __init__(
        self, inputs: int, width: int, stride: int, norm: Norm, stride_in_1x1: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(inputs, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, Y, X) to (B, width, Y / stride, X / stride)."""
        inner = self.relu(self.bn1(self.conv1(x)))
        inner = self.bn2(self.conv2(inner))
        around = x if self.downsample is None else self.downsample(x)
        output: Tensor = self.relu(inner + around)
        return output


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution with a residual connection; four times as wide outside.

    The stride is that of the 3x3 convolution, or, in weights converted from Caffe, of the first
    1x1 convolution (`stride_in_1x1`).
    """

    expansion = 4

    def __init__(
        self, inputs: int, width: int, stride: int, norm: Norm, stride_in_1x1: bool = False
    ) -> None:
        super().__init__()
        outputs = width * self.expansion
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = nn.Conv2d(inputs, width, 1, first, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(inputs, outputs, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, Y, X) to (B, 4 width, Y / stride, X / stride)."""
        inner = self.relu(self.bn1(self.conv1(x)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        inner = self.bn3(self.conv3(inner))
        around = x if self.downsample is None else self.downsample(x)
        output: Tensor = self.relu(inner + around)
        return output


def shortcut(inputs: int, outputs: int, stride: int, norm: Norm) -> nn.Sequential | None:
    """The projection of a residual connection; None where shapes agree already."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))


@dataclass(frozen=True)
class Shape:
    """The shape of a residual network.

    Parameters
    ----------
    block : type
        `BasicBlock` or `Bottleneck`.
    blocks, widths : sequences of four int
        Number of blocks of each stage, and their inner width.
    stem : int
        Channels of the stem.
    kernel : int
        Kernel of the first convolution, of stride 2.
    pool : bool
        Whether a maximum over 3x3 pixels halves the resolution once more before the first stage.
    """

    block: type[BasicBlock] | type[Bottleneck]
    blocks: Sequence[int]
    widths: Sequence[int]
    stem: int
    kernel: int
    pool: bool

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each stage's output."""
        return tuple(width * self.block.expansion for width in self.widths)

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each stage's output."""
        first = 4 if self.pool else 2
        return tuple(first * 2**stage for stage in range(len(self.widths)))


SHAPES = {
    "resnet50": Shape(Bottleneck, (3, 4, 6, 3), (64, 128, 256, 512), 64, 7, pool=True),
    "light": Shape(BasicBlock, (1, 1, 1, 1), (16, 32, 64, 96), 16, 3, pool=False),
}
"""The shapes by name: `resnet50` with strides 4 to 32, `light` with strides 2 to 16."""


class ResNet(nn.Module):
    """A residual network that returns the outputs of its four stages.

    Parameters
    ----------
    shape : str
        `resnet50` or `light`.
    in_channels : int
        Channels of a section: 1 grey value, or more.
    norm : str
        `frozen`, `channel` or `group`, see `norms`.
    stride_in_1x1 : bool
        See `Bottleneck`.

    Raises
    ------
    ValueError
        If shape or norm has another name.
    """

    def __init__(
        self,
        shape: str = "resnet50",
        in_channels: int = 1,
        norm: str = "group",
        stride_in_1x1: bool = False,
    ) -> None:
        super().__init__()
        if shape not in SHAPES:
            raise ValueError(f"backbone: expected one of {', '.join(SHAPES)}; got {shape!r}")
        form, normalise = SHAPES[shape], norm_named(norm)
        self.channels, self.strides = form.channels, form.strides
        self.conv1 = nn.Conv2d(
            in_channels, form.stem, form.kernel, 2, padding=form.kernel // 2, bias=False
        )
        self.bn1 = normalise(form.stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if form.pool else nn.Identity()
        inputs = form.stem
        for stage, (blocks, width) in enumerate(zip(form.blocks, form.widths, strict=True)):
            layers: list[nn.Module] = []
            for number in range(blocks):
                stride = 2 if stage and not number else 1
                layers.append(form.block(inputs, width, stride, normalise, stride_in_1x1))
                inputs = width * form.block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_channels, Y, X) to four tensors (B, channels, Y / stride, X / stride)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        outputs = []
        for number in range(1, len(self.strides) + 1):
            x = self.get_submodule(f"layer{number}")(x)
            outputs.append(x)
        return outputs
