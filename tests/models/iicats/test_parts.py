from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

from volflow.models.iicats.decoder import LIGHT, PAPER, Decoder, Level
from volflow.models.iicats.extractors import BoxExtractor, PairExtractor, box_masks
from volflow.models.iicats.gates import Gates
from volflow.models.iicats.layers import ChannelNorm
from volflow.models.iicats.memory import memory_weights, remembered
from volflow.models.iicats.trunk import LightTrunk


def test_encodings_approach_their_limit() -> None:
    torch.manual_seed(3)
    free = PairExtractor(1, 3, (2, 3, 4), 8)
    limited = PairExtractor(1, 3, (2, 3, 4), 8, limit=0.25)
    limited.load_state_dict(free.state_dict())
    support = 30 * torch.rand(1, 1, 32, 32)
    (open_, weight), (target, same) = free(support), limited(support)
    assert open_.max() > 1
    torch.testing.assert_close(target, 0.25 * (open_ / 0.25).tanh())
    assert 0 <= target.min() < target.max() <= 0.25
    assert torch.equal(weight, same)


def test_pixels_have_the_weight_one_before_training() -> None:
    torch.manual_seed(0)
    target, weight = PairExtractor(3, 4, (2, 3, 5), 8)(torch.rand(2, 3, 32, 16))
    assert target.shape == weight.shape == (2, 4, 4, 2)
    assert torch.equal(weight, torch.ones_like(weight))
    assert (target >= 0).all()
    assert target.std() > 0


@pytest.mark.parametrize("stride", [8, 16])
def test_encodings_have_the_target_stride(stride: int) -> None:
    target, _ = PairExtractor(1, 2, (2, 2, 2), stride)(torch.rand(1, 1, 64, 32))
    assert target.shape[-2:] == (64 // stride, 32 // stride)


def test_target_stride_is_checked() -> None:
    with pytest.raises(ValueError, match="expected a target stride of 8 or 16; got 4"):
        PairExtractor(1, 2, (2, 2, 2), 4)


def trained_gates() -> Gates:
    torch.manual_seed(1)
    gates = Gates(("p", "d", "m", "syn"), 3)
    for parameter in gates.parameters():
        torch.nn.init.normal_(parameter)
    return gates.double()


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_missing_type_has_exactly_no_effect() -> None:
    """A type that is missing, and a network that never had it, give the same bytes."""
    gates = trained_gates()
    fewer = Gates(("p", "d"), 3).double()
    fewer.load_state_dict(
        {n: t for n, t in gates.state_dict().items() if n.split(".")[1] not in ("m", "syn")}
    )
    own, d = normal(2, 3, 4, 4), normal(1, 3, 4, 4)
    with torch.no_grad():
        missing = gates(own, gates.offline({"d": d}), 2, (4, 4))
        absent = fewer(own, fewer.offline({"d": d}), 2, (4, 4))
        present = gates(own, gates.offline({"d": d, "m": d}), 2, (4, 4))
    assert torch.equal(missing, absent)
    assert not torch.equal(missing, present)


def test_shared_offline_term_equals_that_of_each_object() -> None:
    gates = trained_gates()
    own, d, m = normal(3, 3, 4, 4), normal(1, 3, 4, 4), normal(1, 3, 4, 4)
    shared = gates(own, gates.offline({"d": d, "m": m}), 3, (4, 4))
    for n in range(3):
        alone = gates(own[n : n + 1], gates.offline({"d": d, "m": m}), 1, (4, 4))
        torch.testing.assert_close(shared[n : n + 1], alone)
    repeated = gates.offline({k: x.repeat(3, 1, 1, 1) for k, x in (("d", d), ("m", m))})
    assert repeated is not None
    torch.testing.assert_close(shared, gates(own, repeated, 3, (4, 4)))


def test_own_response_passes_unchanged_before_training() -> None:
    gates = Gates(("p", "d"), 3)
    own, d = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    mixed = gates(own, gates.offline({"d": d}), 1, (4, 4))
    torch.testing.assert_close(mixed, gates.gated("p", own))


def test_weights_of_memory_in_closed_form() -> None:
    """0.9 ** age over the sum of a geometric series."""
    ages = np.array([4, 3, 2, 1])
    expected = 0.9 ** (ages - 1) * (1 - 0.9) / (1 - 0.9**4)
    np.testing.assert_allclose(memory_weights(ages), expected)
    np.testing.assert_allclose(memory_weights([2, 1], 0.5, [True, False]), [0.2, 0.8])
    assert memory_weights([]).shape == (0,)


def test_pair_of_the_smallest_weight_is_replaced() -> None:
    weights = memory_weights([4, 3, 2, 1], from_box=[False, False, False, True])
    assert remembered(weights, 3).tolist() == [0, 1, 2]  # 0.9 ** 0 / 2 is the smallest
    assert remembered([1, 1, 1], 2).tolist() == [1, 2]
    assert remembered([1, 2], 5).tolist() == [0, 1]


def test_box_extractor_reads_box_and_features() -> None:
    boxes = box_masks(torch.tensor([[1, 2, 3, 5], [0, 0, 16, 8]]), (16, 8))
    assert boxes.shape == (2, 1, 16, 8)
    assert boxes[0].sum() == 2 * 3
    assert boxes[0, 0, 1:3, 2:5].all()
    torch.manual_seed(0)
    encoded = BoxExtractor(3, 4, 5)(torch.randn(1, 3, 2, 1).expand(2, 3, 2, 1), boxes)
    assert encoded.shape == (2, 4, 2, 1)
    assert not torch.equal(encoded[0], encoded[1])


def test_normalisation_depends_on_one_pixel_only() -> None:
    norm, x = ChannelNorm(5), torch.randn(1, 5, 6, 6)
    torch.testing.assert_close(norm(x)[:, :, 2:4, 1:3], norm(x[:, :, 2:4, 1:3]))


def test_split_convolution_equals_the_joined_one() -> None:
    torch.manual_seed(0)
    level = Level(6, 4, 0, 5, PAPER)
    features, own = torch.randn(1, 6, 8, 8), torch.randn(3, 4, 8, 8)
    lifted = level.lift(features)
    joined = torch.cat([lifted.expand(3, 5, 8, 8), own], 1)
    kernel = torch.cat([level.shared_part.weight, level.own_part.weight], 1)
    expected = conv2d(joined, kernel, level.shared_part.bias, padding=1)
    torch.testing.assert_close(level.shared(features) + level.own_part(own), expected)


@pytest.mark.parametrize(
    ("strides", "channels", "shape"),
    [((1, 2, 4, 8, 16), (2, 2, 3, 4, 5), LIGHT), ((4, 8, 16, 32), (3, 4, 5, 6), PAPER)],
)
def test_encoding_is_resized_for_every_level(
    strides: tuple[int, ...], channels: tuple[int, ...], shape: type
) -> None:
    """By 2 ** (3 - i) relative to stride 16 for the levels i = 4 ... 1 of the paper."""
    small = shape._replace(widths=(4, 3, 3, 2), end=2)
    decoder = Decoder(strides, channels, 3, 1, small)
    sizes: list[tuple[int, ...]] = []
    for level in decoder.levels:
        level.own_part.register_forward_hook(
            lambda module, args, output: sizes.append(tuple(args[0].shape[1:]))
        )
    side = 64
    features = [
        torch.randn(1, c, side // s, side // s) for s, c in zip(strides, channels, strict=True)
    ]
    target = 8 if strides[0] == 1 else 16
    encoding = torch.randn(2, 3, side // target, side // target)
    logits = decoder(decoder.shared(features), encoding, torch.rand(2, 1, side, side), (side, side))
    assert logits.shape == (2, 1, side, side)
    ratios = [size[1] * target // side for size in sizes]
    expected = [side / s / (side / target) for s in decoder.strides]
    assert [size[0] for size in sizes] == [4] * 4
    assert [size[1] / (side / target) for size in sizes] == expected
    assert ratios[-1] == expected[-1]
    if target == 16:
        assert expected == [2 ** (3 - i) for i in (4, 3, 2, 1)]


def test_decoder_of_the_paper_has_its_size() -> None:
    """8.8 M parameters on ResNet-50 with encodings of 32 channels."""
    with torch.device("meta"):
        decoder = Decoder((4, 8, 16, 32), (256, 512, 1024, 2048), 32, 0, PAPER)
    count = sum(parameter.numel() for parameter in decoder.parameters())
    assert 8.0e6 < count < 9.5e6


def test_number_of_widths_is_checked() -> None:
    with pytest.raises(ValueError, match="expected one width per level, 2; got 4"):
        Decoder((4, 8), (3, 4), 3, 1, PAPER)


def test_light_trunk_has_its_strides() -> None:
    trunk = LightTrunk(4, (2, 3, 4))
    shapes = [tuple(x.shape[1:]) for x in trunk(torch.randn(1, 4, 16, 8))]
    assert shapes == [(2, 16, 8), (3, 8, 4), (4, 4, 2)]
    assert trunk.strides == (1, 2, 4)
