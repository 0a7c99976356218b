"""The residual U-Net: how far a voxel sees, shift by shift, and what its arguments must be."""

import pytest
import torch
from torch import nn

from volflow.models.resunet3d import ResUNet3D, repeated

SHAPES = [
    {"widths": (1, 2), "pools": ((2, 2, 2),)},
    {"widths": (2, 1, 2), "pools": ((1, 2, 2), (2, 2, 2)), "first_kernel": (1, 5, 5)},
    {"widths": (1, 1, 1), "pools": ((2, 3, 2), (2, 1, 2)), "depth": 2},
    {"widths": (2,), "pools": (), "depth": 3},
    {
        "widths": (1, 2, 1),
        "pools": ((1, 2, 2), (2, 2, 2)),
        "kernels": ((1, 3, 3), (1, 5, 3), (3, 3, 3)),
        "depth": 2,
    },
]


def passing_on(**arguments):
    """A network that lets every impulse through: positive weights, statistics that do nothing."""
    network = ResUNet3D(out_channels=1, **arguments).double().eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv3d):
                module.weight.fill_(1.0)
                if module.bias is not None:
                    module.bias.zero_()
    return network


@torch.no_grad()
def seen_around(network, axis):
    """Measured distance along an axis from an output to the first and last input it depends on."""
    stride = network.total_stride
    before, after = network.receptive_field()
    room = max(before[axis], after[axis]) // stride[axis] + 2
    length = (2 * room + 1) * stride[axis]
    shape = [2 * s for s in stride]
    shape[axis] = length
    actual = []
    for phase in range(stride[axis]):
        u = room * stride[axis] + phase
        image = torch.zeros(1, 1, *shape, dtype=torch.double)
        image.select(2 + axis, u).fill_(1.0)
        moved = network(image) != network(torch.zeros_like(image))
        where = moved[0, 0].movedim(axis, 0).flatten(1).any(1).nonzero().flatten()
        first, last = int(where.min()), int(where.max())
        assert first > 0  # or the image would be too small to measure
        assert last < length - 1
        actual.append((last - u, u - first))
    return max(a for a, _ in actual), max(b for _, b in actual)


@pytest.mark.parametrize("arguments", SHAPES)
def test_an_impulse_reaches_exactly_as_far_as_the_receptive_field_says(arguments):
    network = passing_on(**arguments)
    before, after = network.receptive_field()
    measured = [seen_around(network, axis) for axis in range(3)]
    assert tuple(m[0] for m in measured) == before
    assert tuple(m[1] for m in measured) == after


@torch.no_grad()
def test_shifted_by_the_total_stride_an_image_gives_the_shifted_output():
    torch.manual_seed(0)
    network = ResUNet3D(out_channels=2, widths=(2, 3), pools=((1, 2, 2),)).eval()
    assert network.total_stride == (1, 2, 2)
    image = torch.randn(1, 1, 24, 32, 32)
    whole, part = network(image), network(image[..., 1:, 2:, 4:])
    (z, y, x), _ = network.receptive_field()
    inner = (..., slice(z, -z), slice(y + 1, -y - 1), slice(x + 1, -x - 1))
    shifted = whole[..., 1:, 2:, 4:][inner]
    assert shifted.numel() > 0
    torch.testing.assert_close(shifted, part[inner])


@torch.no_grad()
def test_a_tile_of_another_size_gives_the_same_voxels_far_from_its_faces():
    torch.manual_seed(1)
    network = ResUNet3D(out_channels=1, widths=(2, 2), pools=((2, 2, 2),)).eval()
    image = torch.randn(1, 1, 32, 32, 32)
    before, after = network.receptive_field()
    halo = max(*before, *after)
    small = network(image[..., :24, :, :])
    assert 24 - halo > 0
    torch.testing.assert_close(
        small[..., : 24 - halo, :, :], network(image)[..., : 24 - halo, :, :]
    )


def test_voxels_are_repeated_along_each_axis():
    x = torch.arange(4.0).reshape(1, 1, 1, 2, 2)
    wanted = torch.tensor([[0.0, 0, 0, 1, 1, 1], [2, 2, 2, 3, 3, 3]])
    assert torch.equal(repeated(x, (2, 1, 3))[0, 0], torch.stack([wanted, wanted]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"widths": (4, 4), "pools": ()}, "expected one pool fewer than widths, 1; got 0"),
        ({"widths": ()}, "must be positive"),
        ({"depth": 0}, "must be positive"),
        ({"first_kernel": (1, 4, 4)}, "first_kernel must be odd"),
        ({"first_kernel": (3, 3)}, "three positive integers"),
        ({"activation": "gelu"}, "relu, elu; got 'gelu'"),
    ],
)
def test_arguments_that_describe_no_network_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        ResUNet3D(**arguments)
