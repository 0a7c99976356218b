"""Gates: the responses of all types of support, joined into one encoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

OWN = "p"
"""The type of an object's own masks; all other types are shared by the objects of a section."""


class Gates(nn.Module):
    """One linear gate per type, and a residual mixture of own and offline responses.

    R = u + mix([u, v]) with u the gated response to an object's own masks and v the sum of the
    gated responses of offline types. A missing type is a missing term of v, so it has no effect at
    all. At first `mix` is 0: the own response passes unchanged.

    Parameters
    ----------
    types : sequence of str
        Types of support, with or without `p`.
    encoding : int
        Channels of responses.

    References
    ----------
    Zhai et al., II-CATS, MIDL 2023, equation (2). The residual form is ours.
    """

    def __init__(self, types: Sequence[str], encoding: int) -> None:
        super().__init__()
        self.encoding = encoding
        self.linear = nn.ModuleDict(
            {kind: nn.Conv2d(encoding, encoding, 1, bias=False) for kind in types}
        )
        self.mix = nn.Sequential(
            nn.Conv2d(2 * encoding, 2 * encoding, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(2 * encoding, encoding, 3, 1, 1),
        )
        last = self.mix[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def gated(self, kind: str, response: Tensor) -> Tensor:
        """The response of one type after its gate, (B, encoding, y, x)."""
        passed: Tensor = self.linear[kind](response)
        return passed

    def offline(self, responses: Mapping[str, Tensor]) -> Tensor | None:
        """The sum of the gated responses of offline types, for all objects; None: no types."""
        terms = [self.gated(kind, response) for kind, response in responses.items()]
        return torch.stack(terms).sum(0) if terms else None

    def forward(
        self, own: Tensor | None, offline: Tensor | None, objects: int, size: tuple[int, int]
    ) -> Tensor:
        """The encoding R of some objects.

        Parameters
        ----------
        own : (B, encoding, y, x), optional
            Response to the objects' own masks, before its gate.
        offline : (1, encoding, y, x), optional
            See `offline`; the same for all objects.
        objects : int
            B.
        size : two int
            y, x.

        Returns
        -------
        (B, encoding, y, x)
        """
        bias = self.mix[0].bias
        assert isinstance(bias, Tensor)
        zero = bias.new_zeros(objects, self.encoding, *size)
        u = zero if own is None else self.gated(OWN, own)
        v = zero if offline is None else offline.expand_as(zero)
        mixed: Tensor = u + self.mix(torch.cat([u, v], 1))
        return mixed
