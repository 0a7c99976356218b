"""The network of II-CATS that follows objects: trunk, few-shot learner, gates and decoder.

    image (+ d) -> trunk -> target features t -> columns of t ------------+
                     |                                                    |
                     |        masks p, layers d, m, syn -> G, W -> descend -> filters
                     |                                                    |
                     +-> shared parts of the decoder          responses -> gates -> R
                                    |                                             |
                                    +---------------- decoder <-------------------+-- last masks
                                                         |
                                                       logits

The variants of the paper are subsets of the support types: CATS {p, d}, CATS+mito {p, d, m},
CATS+syn {p, d, syn}, II-CATS {p, d, m, syn}. A type that is missing leaves out its term.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import log, sqrt
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from volflow.models.detector.resnet import ResNet
from volflow.models.iicats.decoder import LIGHT, PAPER, Decoder, DecoderShape
from volflow.models.iicats.extractors import BoxExtractor, PairExtractor
from volflow.models.iicats.gates import OWN, Gates
from volflow.models.iicats.learner import Support, descend
from volflow.models.iicats.memory import memory_weights
from volflow.models.iicats.target_model import columns, respond
from volflow.models.iicats.trunk import LightTrunk, Trunk

SUPPORT = {OWN: 1, "d": 3, "m": 1, "syn": 1}
"""Channels of each type of support: own masks, affinities z y x, mitochondria, clefts."""


def _resnet50(inputs: int) -> ResNet:
    """ResNet-50 for random initial weights: with them, statistics of batches cannot be frozen."""
    return ResNet("resnet50", inputs, norm="group")


TrunkChoice = tuple[Callable[[int], Trunk | ResNet], DecoderShape, int, tuple[int, int, int]]

TRUNKS: dict[str, TrunkChoice] = {
    "light": (LightTrunk, LIGHT, 8, (8, 16, 32)),
    "resnet50": (_resnet50, PAPER, 16, (16, 32, 64)),
}
"""For each trunk: its class, decoder, target stride, and widths of the extractors."""


Pair = tuple[Tensor, Tensor, Tensor]
"""A support pair: columns (1, K, N) of a section, G and W (B, E, N)."""


class Sections(NamedTuple):
    """The shared work of S sections: computed once, for all objects.

    shared : list of (S, channels, Y, X)
        Parts of the decoder, deepest first.
    target : (S, F, y, x)
        Target features.
    size : two int
        Y, X of the image.
    """

    shared: list[Tensor]
    target: Tensor
    size: tuple[int, int]

    def section(self, number: int) -> Sections:
        """One of the sections."""
        at = slice(number, number + 1)
        return Sections([part[at] for part in self.shared], self.target[at], self.size)


class IICats(nn.Module):
    """The few-shot segmenter.

    Parameters
    ----------
    trunk : str
        `light`, with strides 1 to 16 and filters at stride 8, or `resnet50`, as published, with
        strides 4 to 32 and filters at stride 16.
    encoding : int
        Channels of encodings and of filter responses.
    features : int
        Channels of the target features.
    types : sequence of str
        Types of support that there are layers for; `p` and any of d, m, syn.
    affinity_input : bool
        Whether the trunk reads the affinities d next to the image; ours.
    last_masks : int
        Previous masks that the decoder reads; ours. 0, as in the paper: none.
    few_shot : bool
        Whether there is a learner; without it the decoder reads previous masks only.
    own_steps : int
        Steps of descent for an object's own filters, which are fitted afresh in each section.
    offline_steps : two int
        Steps for the filters of offline types in their first section, and in each later one.
    memory : int
        Sections in the memory of own masks, and in that of offline layers.
    limit : float, optional
        Largest value of the encodings G, see `PairExtractor`; default: none, as published.
    regularisation : "softplus" or "square"
        lam as softplus of a parameter, or as its square, as published, with which it fell to 0.

    Raises
    ------
    ValueError
        If the arguments do not describe a network.

    References
    ----------
    Zhai et al., II-CATS, MIDL 2023; Bhat et al., Learning What to Learn for Video Object
    Segmentation, ECCV 2020.
    """

    def __init__(
        self,
        trunk: str = "light",
        encoding: int = 16,
        features: int = 64,
        types: Sequence[str] = tuple(SUPPORT),
        affinity_input: bool = True,
        last_masks: int = 2,
        few_shot: bool = True,
        own_steps: int = 3,
        offline_steps: Sequence[int] = (4, 1),
        memory: int = 4,
        limit: float | None = None,
        regularisation: Literal["softplus", "square"] = "softplus",
    ) -> None:
        super().__init__()
        _check(trunk, types, last_masks, few_shot)
        make, shape, self.target_stride, widths = TRUNKS[trunk]
        self.types, self.memory = tuple(types), memory
        self.affinity_input, self.last_masks, self.few_shot = affinity_input, last_masks, few_shot
        self.own_steps = own_steps
        self.offline_steps = (offline_steps[0], offline_steps[1])
        self.encoding = encoding if few_shot else 0
        self.trunk = make(1 + (SUPPORT["d"] if affinity_input else 0))
        self.level = self.trunk.strides.index(self.target_stride)
        strides, channels = self.trunk.strides, self.trunk.channels
        self.decoder = Decoder(strides, channels, self.encoding, last_masks, shape)
        self.regularisation = regularisation
        if not few_shot:
            return
        self.embed = nn.Conv2d(channels[self.level], features, 3, 1, 1, bias=False)
        self.extract = nn.ModuleDict(
            {
                kind: PairExtractor(SUPPORT[kind], encoding, widths, self.target_stride, limit)
                for kind in types
            }
        )
        self.gates = Gates(types, encoding)
        start = 0.1 if regularisation == "square" else log(0.01)  # lam = 0.01
        self.rho = nn.ParameterDict({kind: torch.full((), start) for kind in types})
        self.box = BoxExtractor(features, encoding)

    @property
    def stride(self) -> int:
        """The largest stride: images and windows are multiples of it."""
        return self.trunk.strides[-1]

    def sections(self, images: Tensor, affinities: Tensor | None = None) -> Sections:
        """The shared work of S sections.

        Parameters
        ----------
        images : (S, 1, Y, X)
            Normalised; Y and X are multiples of `stride`.
        affinities : (S, 3, Y, X), optional
            Probabilities 0 to 1; read where `affinity_input` is set, missing ones as 1/2.
        """
        x = images
        if self.affinity_input:
            given = images.new_zeros(len(images), SUPPORT["d"], *images.shape[2:])
            x = torch.cat([images, given if affinities is None else 2 * affinities - 1], 1)
        features = self.trunk(x)
        size = (images.shape[2], images.shape[3])
        return Sections(
            self.decoder.shared(features), self.target_features(features[self.level]), size
        )

    def target_features(self, features: Tensor) -> Tensor:
        """The features that filters are applied to, of the same norm in every pixel.

        Their columns have a mean square norm of about 1, whatever the number of channels.
        """
        if not self.few_shot:
            return features
        t: Tensor = self.embed(features)
        norm = (t**2).sum(1, keepdim=True) + 1e-5
        return t * torch.rsqrt(norm) * sqrt(1 / 9)

    def lam(self, kind: str) -> Tensor:
        """The weight of the regularisation of a type's filters, above 0."""
        rho: Tensor = self.rho[kind]
        return rho**2 if self.regularisation == "square" else softplus(rho)

    def pairs(self, kind: str, support: Tensor) -> tuple[Tensor, Tensor]:
        """G and W of masks or layers (B, C, Y, X), (B, encoding, N) each."""
        target, weight = self.extract[kind](support)
        return target.flatten(2), weight.flatten(2)

    def fit(self, kind: str, support: Support, filters: Tensor | None, steps: int) -> Tensor:
        """Filters of a type after some steps, from given ones or from 0, (B, E, K)."""
        if filters is None:
            _, objects, outputs, _ = support.targets.shape
            filters = support.columns.new_zeros(objects, outputs, support.columns.shape[1])
        return descend(support, filters, self.lam(kind), steps)

    def own_response(self, support: Support, section: Tensor) -> Tensor:
        """Responses in a section of filters that are fitted to B objects' own masks.

        Parameters
        ----------
        support : Support
        section : (1, F, y, x)
            Target features.

        Returns
        -------
        (B, encoding, y, x)
        """
        filters = self.fit(OWN, support, None, self.own_steps)
        return response(section, filters)

    def decode(self, section: Sections, encoding: Tensor | None, masks: Tensor) -> Tensor:
        """Logits (B, 1, Y, X) in a section, from encodings R and previous masks (B, M, Y, X)."""
        logits: Tensor = self.decoder(section.shared, encoding, masks, section.size)
        return logits


def response(section: Tensor, filters: Tensor) -> Tensor:
    """The responses of filters (B, E, K) to target features (1, F, y, x), (B, E, y, x)."""
    return _image(respond(columns(section), filters)[0], section)


def _image(flat: Tensor, section: Tensor) -> Tensor:
    """Pixels (B, E, N) as an image of the section's size, (B, E, y, x)."""
    return flat.reshape(*flat.shape[:2], *section.shape[2:])


class OfflineFilters:
    """The filters of offline types, which follow the sections: one set for all objects.

    In each section the layers of the section itself are added to a memory, and the filters descend
    from where they were. Responses depend only on the sections seen.

    Parameters
    ----------
    network : IICats
    """

    def __init__(self, network: IICats) -> None:
        self.network = network
        self.filters: dict[str, Tensor] = {}
        self.pairs: dict[str, list[Pair]] = {}

    def see(self, section: Tensor, encoded: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor | None:
        """The sum of the gated responses in the next section, (1, encoding, y, x), or None.

        Parameters
        ----------
        section : (1, F, y, x)
            Target features.
        encoded : mapping of str to G and W
            Of the section's layers, see `IICats.pairs`; a missing type has no effect.
        """
        responses = {}
        unfolded = columns(section)
        for kind, (target, weight) in encoded.items():
            filters = self._follow(kind, (unfolded, target, weight))
            responses[kind] = _image(respond(unfolded, filters)[0], section)
        return self.network.gates.offline(responses)

    def _follow(self, kind: str, pair: Pair) -> Tensor:
        network = self.network
        first, later = network.offline_steps
        memory = self.pairs.setdefault(kind, [])
        memory.append(pair)
        del memory[: -network.memory]
        ages = list(range(len(memory) - 1, -1, -1))
        steps = later if kind in self.filters else first
        support = joined_support(memory, ages)
        self.filters[kind] = network.fit(kind, support, self.filters.get(kind), steps)
        return self.filters[kind]


def joined_support(
    memory: Sequence[Pair],
    ages: Sequence[int],
    from_box: Sequence[bool] | None = None,
) -> Support:
    """Support pairs from columns (1, K, N), G and W (B, E, N) of each section, and their ages.

    The shares are divided by the number of pixels, so that lam does not depend on the window.
    """
    unfolded, targets, weights = zip(*memory, strict=True)
    pixels = unfolded[0].shape[-1]
    shares = torch.as_tensor(
        memory_weights(ages, from_box=from_box) / pixels, dtype=targets[0].dtype
    )
    return Support(
        torch.cat(unfolded),
        torch.stack(targets),
        torch.stack(weights),
        shares.to(targets[0].device)[:, None, None, None],
    )


def _check(trunk: str, types: Sequence[str], last_masks: int, few_shot: bool) -> None:
    if trunk not in TRUNKS:
        raise ValueError(f"trunk: expected one of {', '.join(TRUNKS)}; got {trunk!r}")
    if OWN not in types or not set(types) <= set(SUPPORT):
        raise ValueError(
            f"types: expected {OWN} and any of {', '.join(SUPPORT)}; got {', '.join(types)}"
        )
    if not 0 <= last_masks <= 2:
        raise ValueError(f"last_masks: expected 0 to 2; got {last_masks}")
    if not few_shot and not last_masks:
        raise ValueError("expected few_shot or last_masks; nothing marks the object")
