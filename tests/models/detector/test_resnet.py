"""Residual networks: strides and receptive fields, names of tensors, constants that stay."""

import pytest
import torch
from torch import nn

from volflow.models.detector.norms import NORMS, ChannelNorm, FrozenBatchNorm2d
from volflow.models.detector.pyramid import FeaturePyramid
from volflow.models.detector.resnet import SHAPES, Bottleneck, ResNet


def impulse_support(network, side, at):
    """Outputs of each stage that change with one pixel, (first, last) along y."""
    torch.manual_seed(0)
    image = torch.rand(1, 1, side, side, dtype=torch.float64)
    changed = image.clone()
    changed[0, 0, at, at] += 1
    supports = []
    with torch.no_grad():
        for before, after in zip(network(image), network(changed), strict=True):
            rows = (before != after).any(3).any(1)[0].nonzero()
            supports.append((int(rows.min()), int(rows.max())))
    return supports


@pytest.mark.parametrize(("name", "side"), [("light", 96), ("resnet50", 64)])
def test_stages_have_the_strides_and_channels_that_they_claim(name, side):
    with torch.device("meta"):
        network = ResNet(name, norm="frozen").eval()
        outputs = network(torch.zeros(1, 1, side, side))
    assert [tuple(x.shape[1:]) for x in outputs] == [
        (channels, side // stride, side // stride)
        for channels, stride in zip(network.channels, network.strides, strict=True)
    ]


def test_an_impulse_reaches_what_the_kernels_say():
    network = ResNet("light", norm="frozen").double().eval()
    # Input pixels seen by an output: the stem 3; stage 1 of two 3x3 at stride 2: 3 + 2 * 4 = 11;
    # stage 2: 11 + 4 (stride 2 to 4) + 4 * 2 = 23; and so on, twice as much each: 47, 95.
    fields = [11, 23, 47, 95]
    side, at = 192, 96
    for (first, last), stride, field in zip(
        impulse_support(network, side, at), SHAPES["light"].strides, fields, strict=True
    ):
        # an output o sees pixels from o s - (field - 1) / 2 to o s + (field - 1) / 2
        reach = (field - 1) // 2
        seen = [o for o in range(side // stride) if abs(o * stride - at) <= reach]
        assert (first, last) == (seen[0], seen[-1])


def test_an_image_shifted_by_the_stride_gives_shifted_outputs():
    network = ResNet("light", norm="channel").double().eval()
    torch.manual_seed(1)
    image = torch.zeros(1, 1, 192, 192, dtype=torch.float64)
    image[:, :, 80:112, 80:112] = torch.rand(32, 32)
    with torch.no_grad():
        outputs, moved = network(image), network(image.roll(16, 2))
    for before, after, stride in zip(outputs, moved, network.strides, strict=True):
        inner = slice(32 // stride, 160 // stride)  # away from the border
        shift = 16 // stride
        torch.testing.assert_close(
            before.roll(shift, 2)[:, :, inner, inner], after[:, :, inner, inner]
        )


def test_names_of_tensors_are_those_of_public_weights():
    with torch.device("meta"):
        names = set(ResNet("resnet50", 3, norm="frozen").state_dict())
    assert {
        "conv1.weight",
        "bn1.weight",
        "bn1.bias",
        "bn1.running_mean",
        "bn1.running_var",
        "layer1.0.conv1.weight",
        "layer1.0.downsample.0.weight",
        "layer1.0.downsample.1.running_var",
        "layer2.3.bn3.bias",
        "layer3.5.conv3.weight",
        "layer4.2.bn2.running_mean",
    } <= names
    # 53 convolutions and as many normalisations of four tensors; the classifier is left out
    assert len(names) == 53 * 5
    assert not any("layer1.1.downsample" in name for name in names)
    with torch.device("meta"):
        parameters = sum(t.numel() for t in ResNet("resnet50", 3, norm="group").parameters())
    assert parameters == 23_508_032  # of the published network, without its classifier


def test_names_of_the_pyramid_are_those_of_public_weights():
    names = list(FeaturePyramid((8, 16), 4).state_dict())
    assert names == [
        f"{part}_blocks.{level}.0.{kind}"
        for part in ("inner", "layer")
        for level in (0, 1)
        for kind in ("weight", "bias")
    ]


def test_the_stride_is_that_of_the_3x3_or_of_the_first_1x1_convolution():
    for in_1x1, strides in ((False, (1, 2)), (True, (2, 1))):
        block = Bottleneck(8, 4, 2, nn.BatchNorm2d, in_1x1)
        assert (block.conv1.stride[0], block.conv2.stride[0]) == strides
        assert block(torch.zeros(2, 8, 8, 8)).shape == (2, 16, 4, 4)


def test_coarse_levels_add_context_to_fine_ones():
    pyramid = FeaturePyramid((2, 2), 4)
    fine, coarse = torch.rand(1, 2, 8, 8), torch.rand(1, 2, 4, 4)
    levels = pyramid([fine, coarse])
    assert [tuple(x.shape[2:]) for x in levels] == [(8, 8), (4, 4), (2, 2)]
    torch.testing.assert_close(levels[2], levels[1][:, :, ::2, ::2])
    changed = pyramid([fine, coarse + 1])
    assert (changed[0] != levels[0]).all()


def test_frozen_normalisation_is_that_of_batch_norm_in_prediction_and_never_changes():
    torch.manual_seed(2)
    reference, frozen = nn.BatchNorm2d(6), FrozenBatchNorm2d(6)
    for tensor in reference.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(6) + 0.5)
    stored = {n: t for n, t in reference.state_dict().items() if "num_batches" not in n}
    frozen.load_state_dict(stored)
    x = torch.randn(3, 6, 5, 5)
    torch.testing.assert_close(frozen.train()(x), reference.eval()(x))

    network = ResNet("light", norm="frozen").train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    network(torch.randn(2, 1, 32, 32))[3].square().sum().backward()
    optimizer.step()
    for name, tensor in network.state_dict().items():
        if "bn" in name or "downsample.1" in name:
            assert torch.equal(tensor, before[name]), name
        else:
            assert not torch.equal(tensor, before[name]), name


def test_channel_normalisation_depends_on_the_pixel_alone():
    norm = ChannelNorm(8)
    x = torch.randn(2, 8, 6, 6)
    y = norm(x)
    torch.testing.assert_close(norm(x[:1, :, 2:4, 3:5]), y[:1, :, 2:4, 3:5])
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 6, 6), atol=1e-6, rtol=0)
    expected = nn.functional.layer_norm(x.permute(0, 2, 3, 1), (8,)).permute(0, 3, 1, 2)
    torch.testing.assert_close(y, expected)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="backbone: expected one of resnet50, light; got 'x'"):
        ResNet("x")
    with pytest.raises(ValueError, match="norm: expected one of frozen, channel, group; got 'y'"):
        ResNet("light", norm="y")
    assert NORMS["group"](48).num_groups == 24
