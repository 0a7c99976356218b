"""The quasi-dense detector: boxes of all objects of a section, each with an embedding.

    section -> ResNet -> pyramid -> proposals -> features of boxes -> object?, box
                                                                   -> embedding

References
----------
Pang et al., Quasi-Dense Similarity Learning for Multiple Object Tracking, CVPR 2021, as used for
sections by Zhai et al., II-CATS, MIDL 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from volflow.models.detector.boxes import clipped, decode, keep_best
from volflow.models.detector.heads import BINS, BOX_SPREAD, RegionHeads
from volflow.models.detector.proposals import ProposalNetwork, Scored, proposals
from volflow.models.detector.pyramid import FeaturePyramid
from volflow.models.detector.resnet import SHAPES, ResNet
from volflow.models.detector.roi_align import pyramid_align

PRESETS: dict[str, dict[str, object]] = {
    "light": {
        "backbone": "light",
        "norm": "channel",
        "channels": 32,
        "hidden": 128,
        "embedding": 64,
        "convolutions": 2,
    },
    "resnet50": {
        "backbone": "resnet50",
        "norm": "group",
        "channels": 256,
        "hidden": 1024,
        "embedding": 256,
        "convolutions": 4,
    },
}
"""Arguments of a network for a processor, and of the published one."""


class Backbone(nn.Module):
    """A residual network and its feature pyramid."""

    def __init__(
        self, shape: str, in_channels: int, norm: str, channels: int, stride_in_1x1: bool
    ) -> None:
        super().__init__()
        self.body = ResNet(shape, in_channels, norm, stride_in_1x1)
        self.fpn = FeaturePyramid(self.body.channels, channels)

    def forward(self, sections: Tensor) -> list[Tensor]:
        """(B, in_channels, Y, X) to five levels (B, channels, Y / stride, X / stride)."""
        levels: list[Tensor] = self.fpn(self.body(sections))
        return levels


class QuasiDense(nn.Module):
    """Detector with an embedding head.

    Parameters
    ----------
    backbone : str
        `light` (strides 2 to 32) or `resnet50` (4 to 64), see `resnet`.
    in_channels : int
        Channels of a section.
    norm : str
        Of the backbone: `frozen`, `channel` or `group`, see `norms`.
    stride_in_1x1 : bool
        See `resnet.Bottleneck`.
    channels : int
        Of the pyramid.
    hidden : int
        Width of hidden layers.
    embedding : int
        Length of an embedding.
    convolutions : int
        Of the embedding head.
    anchor_scale : float
        Side of anchors in strides.
    density : float
        Maximum number of proposals per pixel.

    Raises
    ------
    ValueError
        If the arguments do not describe a network.
    """

    def __init__(
        self,
        backbone: str = "light",
        in_channels: int = 1,
        norm: str = "channel",
        stride_in_1x1: bool = False,
        channels: int = 32,
        hidden: int = 128,
        embedding: int = 64,
        convolutions: int = 2,
        anchor_scale: float = 4.0,
        density: float = 0.008,
    ) -> None:
        super().__init__()
        numbers = (in_channels, channels, hidden, embedding, convolutions, anchor_scale, density)
        if min(numbers) <= 0:
            raise ValueError(f"expected channels, widths and densities above 0; got {numbers}")
        self.backbone = Backbone(backbone, in_channels, norm, channels, stride_in_1x1)
        strides = SHAPES[backbone].strides
        self.strides = (*strides, strides[-1] * 2)
        self.density = density
        self.rpn = ProposalNetwork(channels, self.strides, anchor_scale)
        inner = "channel" if norm == "channel" else "group"
        self.roi_heads = RegionHeads(channels, hidden, embedding, convolutions, inner)

    @property
    def multiple(self) -> int:
        """The number of pixels of which a section's height and width are multiples."""
        return self.strides[-1]

    def forward(self, sections: Tensor) -> tuple[list[Tensor], list[Scored]]:
        """(B, in_channels, Y, X) to the levels of the pyramid and each section's anchors."""
        levels = self.backbone(sections)
        return levels, self.rpn(levels)

    def features(self, levels: Sequence[Tensor], number: int, boxes: Tensor) -> Tensor:
        """Features (R, C, 7, 7) of boxes (R, 4) in one section of a batch."""
        usable = [level[number] for level in levels[:-1]]  # the coarsest has proposals alone
        return pyramid_align(usable, boxes, self.strides[:-1], BINS)

    def judge(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (R, 2), background first, and deltas (R, 4) of features (R, C, 7, 7)."""
        judged: tuple[Tensor, Tensor] = self.roi_heads.box_predictor(
            self.roi_heads.box_head(features)
        )
        return judged

    def embed(self, features: Tensor) -> Tensor:
        """Embeddings (R, E) of features (R, C, 7, 7)."""
        embeddings: Tensor = self.roi_heads.track_head(features)
        return embeddings

    @torch.no_grad()
    def detect(
        self, section: Tensor, least_score: float = 0.05, duplicate: float = 0.7
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Objects of one section, best first.

        Parameters
        ----------
        section : float32 tensor, (in_channels, Y, X)
            Sides are multiples of `multiple`.
        least_score : float
            Minimum score, 0 to 1.
        duplicate : float
            Intersection over union above which the box of lower score is dropped.

        Returns
        -------
        boxes : float32 tensor, (N, 4)
        scores : float32 tensor, (N,)
        embeddings : float32 tensor, (N, E)
        """
        levels, scored = self(section[None])
        shape = (section.shape[1], section.shape[2])
        candidates = proposals(scored[0], shape, self.density, 0.7)
        logits, deltas = self.judge(self.features(levels, 0, candidates))
        scores = logits.softmax(1)[:, 1]
        boxes = clipped(decode(deltas, candidates, BOX_SPREAD), shape)
        sure = (scores >= least_score) & ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)
        boxes, scores = boxes[sure], scores[sure]
        chosen = keep_best(boxes, scores, duplicate)
        boxes, scores = boxes[chosen], scores[chosen]
        return boxes, scores, self.embed(self.features(levels, 0, boxes))
