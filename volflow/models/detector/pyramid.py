"""Feature pyramid: one width on all levels, coarse context added to fine detail.

References
----------
Lin et al., Feature Pyramid Networks for Object Detection, CVPR 2017, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d


class FeaturePyramid(nn.Module):
    """Levels of equal width, and one more of twice the coarsest stride.

    Parameters
    ----------
    inputs : sequence of int
        Channels of each level of the backbone, finest first.
    channels : int
        Channels of each level of the pyramid.
    """

    def __init__(self, inputs: Sequence[int], channels: int = 256) -> None:
        super().__init__()
        # Sequences of one layer: the names of tensors are those of torchvision.
        self.inner_blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, channels, 1)) for width in inputs
        )
        self.layer_blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1)) for _ in inputs
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Stages (B, C, Y, X), finest first, to one level (B, channels, Y, X) more."""
        coarse: Tensor | None = None
        levels: list[Tensor] = []
        for number in reversed(range(len(stages))):
            inner: Tensor = self.inner_blocks[number](stages[number])
            if coarse is not None:
                inner = inner + interpolate(coarse, size=inner.shape[-2:], mode="nearest")
            coarse = inner
            levels.insert(0, self.layer_blocks[number](inner))
        levels.append(max_pool2d(levels[-1], 1, 2))
        return levels
