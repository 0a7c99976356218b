from __future__ import annotations

from typing import Any

import pytest
import torch

from volflow.models.iicats.network import IICats, OfflineFilters, joined_support
from volflow.models.iicats.target_model import columns

SMALL: dict[str, Any] = {"encoding": 4, "features": 8}


def test_columns_of_target_features_have_norm_one() -> None:
    torch.manual_seed(0)
    sections = IICats(**SMALL).sections(torch.randn(2, 1, 64, 64), torch.rand(2, 3, 64, 64))
    norms = (columns(sections.target) ** 2).sum(1).reshape(2, 8, 8)
    torch.testing.assert_close(norms[:, 1:-1, 1:-1], torch.ones(2, 6, 6), rtol=1e-2, atol=0)
    assert sections.size == (64, 64)


@pytest.mark.parametrize("regularisation", ["softplus", "square"])
def test_regularisation_starts_at_a_hundredth(regularisation: Any) -> None:
    network = IICats(**SMALL, regularisation=regularisation)
    assert network.lam("p").item() == pytest.approx(0.01, rel=0.01)
    network.rho["p"].data.fill_(-3)
    assert network.lam("p").item() > 0.04


def test_filters_of_offline_types_depend_on_the_sections_seen_only() -> None:
    """One after another as the sections come; another memory gives other responses."""
    torch.manual_seed(0)
    network = IICats(**SMALL, memory=2)
    target = network.sections(torch.randn(4, 1, 32, 32)).target
    layers = network.pairs("m", torch.rand(4, 1, 32, 32))
    twice = []
    for _ in range(2):
        filters = OfflineFilters(network)
        terms = [
            filters.see(target[n : n + 1], {"m": (layers[0][n : n + 1], layers[1][n : n + 1])})
            for n in range(4)
        ]
        assert len(filters.pairs["m"]) == 2
        twice.append(terms[-1])
    assert twice[0] is not None
    assert torch.equal(twice[0], twice[1])
    assert OfflineFilters(network).see(target[:1], {}) is None


def test_shares_do_not_depend_on_the_window() -> None:
    """The mean over pixels is what counts: a window twice as large fits the same filters."""
    torch.manual_seed(0)
    network = IICats(**SMALL, last_masks=0)
    unfolded, target, weight = torch.randn(1, 72, 9), torch.rand(1, 4, 9), torch.rand(1, 4, 9)
    small = joined_support([(unfolded, target, weight)], [1])
    large = joined_support(
        [(unfolded.repeat(1, 1, 2), target.repeat(1, 1, 2), weight.repeat(1, 1, 2))], [1]
    )
    fitted = [network.fit("p", support, None, 3) for support in (small, large)]
    torch.testing.assert_close(fitted[0], fitted[1])


def test_network_of_the_paper_has_its_size() -> None:
    """Trunk 23.5 M, decoder 8.8 M, convolution of target features 4.7 M parameters."""
    with torch.device("meta"):
        network = IICats("resnet50", 32, 512, affinity_input=False, last_masks=0)
        logits = network.decode(
            network.sections(torch.empty(1, 1, 64, 64)),
            torch.empty(2, 32, 4, 4),
            torch.empty(2, 0, 64, 64),
        )
    assert logits.shape == (2, 1, 64, 64)
    millions = [
        sum(parameter.numel() for parameter in part.parameters()) / 1e6
        for part in (network.trunk, network.decoder, network.embed)
    ]
    assert millions == pytest.approx([23.5, 8.8, 4.7], abs=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trunk": "heavy"}, "trunk: expected one of light, resnet50"),
        ({"types": ("d", "m")}, "types: expected p and any of p, d, m, syn; got d, m"),
        ({"last_masks": 3}, "last_masks: expected 0 to 2; got 3"),
        ({"few_shot": False, "last_masks": 0}, "nothing marks the object"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IICats(**arguments)
