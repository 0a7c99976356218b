"""The decoder: an object's encoding and a section's features to the logits of its mask.

The first convolution of each level reads features and encoding together. It is linear, so it is
split: the features' part is computed once per section for all objects, and windows are cut from it;
an object adds its own part.

    section:  features -> lift -> convolution of the features' part       once
    object:   encoding, masks -> convolution of their part  -> + -> level  for each object
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from volflow.models.iicats.layers import ChannelNorm


class DecoderShape(NamedTuple):
    """Widths and depth of a decoder.

    widths : tuple of int
        Channels of each level, deepest first.
    convolutions : int
        3x3 convolutions that join features and encoding, at least 1.
    before : bool
        Whether there is a residual block before the attention, next to the one after it.
    attention : bool
        Whether channels are weighted by their means over the window, as published. Without it, a
        pixel does not depend on the size of the window, except near its border.
    end : int
        Channels at the resolution of the image.
    """

    widths: tuple[int, ...]
    convolutions: int
    before: bool
    attention: bool
    end: int


PAPER = DecoderShape((256, 128, 128, 64), 3, True, True, 32)
LIGHT = DecoderShape((32, 32, 24, 16), 1, False, False, 8)


class Residual(nn.Module):
    """1x1 convolution, and two 3x3 convolutions added to it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, channels, 1)
        self.inner = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            ChannelNorm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X) to the same shape."""
        u = self.enter(x)
        output: Tensor = (u + self.inner(u)).relu()
        return output


class Level(nn.Module):
    """One level of the decoder.

    Parameters
    ----------
    features, own, deeper : int
        Channels of the section's features, of what an object adds (encoding and masks), and of
        the next deeper level; 0: this one is the deepest.
    width : int
        Channels of the output.
    shape : DecoderShape
    """

    def __init__(
        self, features: int, own: int, deeper: int, width: int, shape: DecoderShape
    ) -> None:
        super().__init__()
        self.lift = nn.Sequential(
            nn.Conv2d(features, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1)
        )
        joint = [width + own] * (shape.convolutions - 1) + [width]
        self.shared_part = nn.Conv2d(width, joint[0], 3, 1, 1)
        self.own_part = nn.Conv2d(own, joint[0], 3, 1, 1, bias=False)
        self.norm = nn.Identity() if shape.before else ChannelNorm(joint[0])
        self.join = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(a, b, 3, 1, 1), nn.ReLU()) for a, b in pairwise(joint))
        )
        self.before = Residual(width) if shape.before else nn.Identity()
        self.project = nn.Conv2d(deeper, width, 1) if deeper else None
        self.attention = (
            nn.Sequential(nn.Conv2d(2 * width, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1))
            if shape.attention
            else None
        )
        self.after = Residual(width)

    def shared(self, features: Tensor) -> Tensor:
        """The part of a section in the first convolution, (S, joint, Y, X)."""
        part: Tensor = self.shared_part(self.lift(features))
        return part

    def forward(self, shared: Tensor, own: Tensor, deeper: Tensor | None) -> Tensor:
        """The output of B objects, (B, width, Y, X).

        `shared` has one row, or B; `deeper` is the output of the next deeper level, at any size.
        """
        h = self.join(self.norm(shared + self.own_part(own)).relu())
        h = self.before(h)
        coarse = None
        if deeper is not None and self.project is not None:
            coarse = self.project(deeper).relu()
        if self.attention is not None:
            context = h if coarse is None else coarse
            pooled = torch.cat([x.mean((2, 3), keepdim=True) for x in (h, context)], 1)
            h = h * self.attention(pooled).sigmoid()
        if coarse is not None:
            h = h + resized(coarse, h.shape[-2:])
        output: Tensor = self.after(h)
        return output


class FineEnd(nn.Module):
    """The end of a decoder whose trunk has features at the resolution of the image.

    Parameters
    ----------
    features, masks, deeper : int
        Channels of the finest features, of previous masks (may be 0), and of the last level.
    width : int
    """

    def __init__(self, features: int, masks: int, deeper: int, width: int) -> None:
        super().__init__()
        self.shared_part = nn.Conv2d(features, width, 3, 1, 1)
        self.own_part = nn.Conv2d(masks, width, 3, 1, 1, bias=False) if masks else None
        self.project = nn.Conv2d(deeper, width, 1)
        self.norm = ChannelNorm(width)
        self.head = nn.Conv2d(width, 1, 3, 1, 1)

    def shared(self, features: Tensor) -> Tensor:
        """The part of a section, (S, width, Y, X)."""
        part: Tensor = self.shared_part(features)
        return part

    def forward(self, shared: Tensor, masks: Tensor, deeper: Tensor) -> Tensor:
        """Logits (B, 1, Y, X)."""
        h = shared + resized(self.project(deeper), shared.shape[-2:])
        if self.own_part is not None:
            h = h + self.own_part(masks)
        logits: Tensor = self.head(self.norm(h).relu())
        return logits


class UpsamplingEnd(nn.Module):
    """The end of the paper's decoder: twice upsampled, to the resolution of the image."""

    def __init__(self, deeper: int, width: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(deeper, width, 3, 1, 1)
        self.head = nn.Conv2d(width, 1, 3, 1, 1)

    def forward(self, deeper: Tensor, size: Sequence[int]) -> Tensor:
        """Logits (B, 1, Y, X)."""
        h = interpolate(deeper, scale_factor=2, mode="bicubic", align_corners=False)
        h = interpolate(self.inner(h).relu(), list(size), mode="bicubic", align_corners=False)
        logits: Tensor = self.head(h)
        return logits


class Decoder(nn.Module):
    """The decoder over all levels of a trunk.

    Parameters
    ----------
    strides, channels : sequence of int
        Of the trunk's levels, finest first. Features of stride 1, if any, are read at the end.
    encoding : int
        Channels of the encoding; 0: there is none.
    masks : int
        Number of previous masks that are read at every level; 0: none.
    shape : DecoderShape
        As many widths as there are levels with a stride above 1.

    References
    ----------
    Bhat et al., Learning What to Learn for Video Object Segmentation, ECCV 2020, whose decoder
    II-CATS takes over. Previous masks as an input, the split of the first convolution, and features
    at full resolution are ours; normalisation is over channels instead of by batch statistics.
    """

    def __init__(
        self,
        strides: Sequence[int],
        channels: Sequence[int],
        encoding: int,
        masks: int,
        shape: DecoderShape,
    ) -> None:
        super().__init__()
        self.fine = strides[0] == 1
        self.masks = masks
        self.strides = tuple(strides[::-1])[: len(strides) - self.fine]  # deepest first
        if len(shape.widths) != len(self.strides):
            raise ValueError(
                f"expected one width per level, {len(self.strides)}; got {len(shape.widths)}"
            )
        deeper = 0
        self.levels = nn.ModuleList()
        for features, width in zip(channels[::-1], shape.widths, strict=False):
            self.levels.append(Level(features, encoding + masks, deeper, width, shape))
            deeper = width
        self.end: FineEnd | UpsamplingEnd = (
            FineEnd(channels[0], masks, deeper, shape.end)
            if self.fine
            else UpsamplingEnd(deeper, shape.end)
        )

    def shared(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The parts of sections in each level, deepest first, and to the end: once per section.

        Parameters
        ----------
        features : sequence of (S, channels, Y / stride, X / stride)
            Of the trunk, finest first.
        """
        parts = [
            level.shared(x)  # type: ignore[operator]
            for level, x in zip(self.levels, features[::-1], strict=False)
        ]
        if isinstance(self.end, FineEnd):
            parts.append(self.end.shared(features[0]))
        return parts

    def forward(
        self, shared: Sequence[Tensor], encoding: Tensor | None, masks: Tensor, size: Sequence[int]
    ) -> Tensor:
        """The logits of B objects.

        Parameters
        ----------
        shared : sequence of tensors with 1 or B rows
            As from `shared`.
        encoding : (B, E, y, x), optional
            At the target stride; missing where the decoder has no encoding.
        masks : (B, M, Y, X)
            Previous masks, probabilities; M may be 0.
        size : two int
            Y, X of the image.

        Returns
        -------
        (B, 1, Y, X)
        """
        x: Tensor | None = None
        for level, part, stride in zip(self.levels, shared, self.strides, strict=False):
            own = [] if encoding is None else [resized(encoding, part.shape[-2:])]
            if self.masks:
                own.append(avg_pool2d(masks, stride))
            x = level(part, torch.cat(own, 1), x)
        assert x is not None
        logits: Tensor = (
            self.end(shared[-1], masks, x) if isinstance(self.end, FineEnd) else self.end(x, size)
        )
        return logits


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """A tensor (B, C, Y, X) resized bilinearly."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return interpolate(x, list(size), mode="bilinear", align_corners=False)
