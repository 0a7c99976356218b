"""Heads on the features of boxes: object or not with a better box, and an embedding.

References
----------
Ren et al., Faster R-CNN, NeurIPS 2015; Pang et al., Quasi-Dense Similarity Learning for Multiple
Object Tracking, CVPR 2021, section 3.
"""

from __future__ import annotations

from torch import Tensor, nn

from volflow.models.detector.norms import norm_named

BINS = 7
BOX_SPREAD = (0.1, 0.1, 0.2, 0.2)  # of the box head's deltas, see `boxes.encode`


class HiddenLayers(nn.Module):
    """Two hidden layers."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.fc6 = nn.Linear(inputs, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(R, C, 7, 7) to (R, hidden)."""
        output: Tensor = self.relu(self.fc7(self.relu(self.fc6(x.flatten(1)))))
        return output


class BoxPredictor(nn.Module):
    """Two classes, background first, and the deltas of a better box."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(hidden, 2)
        self.bbox_pred = nn.Linear(hidden, 4)
        for layer, deviation in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, hidden) to logits (R, 2) and deltas (R, 4)."""
        return self.cls_score(x), self.bbox_pred(x)


class EmbeddingHead(nn.Module):
    """Embeddings by which objects of two sections are compared.

    Parameters
    ----------
    channels, hidden, length : int
        Channels of the pyramid, of the hidden layer, and length of an embedding.
    convolutions : int
        3x3 convolutions before the hidden layer.
    norm : str
        After each convolution, see `norms`; published with `group`.
    """

    def __init__(
        self, channels: int, hidden: int, length: int, convolutions: int = 4, norm: str = "group"
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(convolutions):
            layers.append(nn.Conv2d(channels, channels, 3, padding=1, bias=False))
            layers += [norm_named(norm)(channels), nn.ReLU(inplace=True)]
        self.convs = nn.Sequential(*layers)
        self.fc = nn.Linear(channels * BINS * BINS, hidden)
        self.relu = nn.ReLU(inplace=True)
        self.embed = nn.Linear(hidden, length)
        for module in self.convs.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.xavier_uniform_(self.fc.weight)
        nn.init.normal_(self.embed.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)
        nn.init.zeros_(self.embed.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(R, C, 7, 7) to (R, length)."""
        hidden = self.relu(self.fc(self.convs(x).flatten(1)))
        embedding: Tensor = self.embed(hidden)
        return embedding


class RegionHeads(nn.Module):
    """The heads on the features of boxes."""

    def __init__(
        self, channels: int, hidden: int, embedding: int, convolutions: int, norm: str
    ) -> None:
        super().__init__()
        self.box_head = HiddenLayers(channels * BINS * BINS, hidden)
        self.box_predictor = BoxPredictor(hidden)
        self.track_head = EmbeddingHead(channels, hidden, embedding, convolutions, norm)
