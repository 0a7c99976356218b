"""MNet: its size as published, how far a voxel sees, tiles of any depth, channels that are kept."""

import pytest
import torch
from torch import nn

from tests.networks import header
from volflow.models.checkpoint import build, fold_batchnorm, load_checkpoint, save_checkpoint
from volflow.models.inference import Inference
from volflow.models.mnet import FAR, InstanceNorm, MNet, halvings

NARROW = (8, 12, 16, 24, 32)
TINY = (2, 3, 3, 4, 4)


def lively(seed=0, **arguments):
    """A network in eval mode whose statistics are those of no fresh one."""
    torch.manual_seed(seed)
    network = MNet(**{"widths": TINY, "normalisation": "batch", **arguments}).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
    return network


def described(arguments, **changes):
    """A header of an MNet."""
    printed = {
        "network": "mnet",
        "arguments": arguments,
        "total_stride": (4, 16, 16),
        "input_tile": (20, 64, 64),
        "output_tile": (12, 32, 32),
        "halo": (4, 16, 16),
        **changes,
    }
    return header(**printed)


def test_at_full_width_it_is_as_large_as_published():
    with torch.device("meta"):
        network = MNet()
    assert round(sum(p.numel() for p in network.parameters()) / 1e5) == 404
    assert round(sum(p.numel() for p in network.encoder.parameters()) / 1e5) == 204


@pytest.mark.slow
def test_at_full_width_it_is_built_from_a_header_loaded_and_takes_a_step(tmp_path):
    torch.manual_seed(0)
    printed = described({"out_channels": [3, 1], "widths": [32, 64, 96, 128, 256]})
    path = tmp_path / "full.safetensors"
    save_checkpoint(path, build(printed).state_dict(), printed)
    network, actual = load_checkpoint(path)
    assert actual.network == printed.network
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    image, target = torch.randn(1, 1, 2, 32, 32), torch.rand(1, 4, 2, 32, 32)
    loss = nn.functional.binary_cross_entropy_with_logits(network(image), target)
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        assert nn.functional.binary_cross_entropy_with_logits(network(image), target) < loss


@pytest.mark.parametrize("normalisation", ["instance", "batch"])
@pytest.mark.parametrize("skips", [True, False])
def test_every_parameter_takes_part(normalisation, skips):
    torch.manual_seed(1)
    network = MNet(widths=TINY, normalisation=normalisation, skips=skips)
    network(torch.randn(2, 1, 8, 32, 32)).square().sum().backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_a_decoder_learns_nothing_from_what_another_is_asked():
    torch.manual_seed(2)
    network = MNet(widths=TINY, out_channels=(3, 1))
    network(torch.randn(1, 1, 8, 32, 32))[:, 3:].sum().backward()
    asked = {
        name.split(".")[1]
        for name, p in network.named_parameters()
        if name.startswith("decoders") and p.grad is not None and p.grad.any()
    }
    assert asked == {"1"}
    assert not network.head.weight.grad[:3].any()
    assert network.head.weight.grad[3:].any()


def by_the_book(network, image):
    """The mesh as the paper describes it, node by node, each stream brought up on its own."""

    def up(x, like):
        return nn.functional.interpolate(x, like.shape[2:], mode="trilinear")

    levels, nodes = network.levels, network.encoder.nodes
    created = {(1, 1): nodes["row1level1"](image)}
    for level in range(2, levels + 1):
        for row in range(1, level + 1):
            met = []
            if row < level:
                met.append(nn.functional.max_pool3d(created[row, level - 1][0], (1, 2, 2)))
            if row > 1:
                down = created[row - 1, level - 1][1]
                z = 2 if down.shape[2] >= 8 else 1
                met.append(nn.functional.max_pool3d(down, (z, 2, 2)))
            x = met[0] if len(met) == 1 else abs(met[0] - met[1])
            created[row, level] = nodes[f"row{row}level{level}"](x)
    answers = []
    for decoder in network.decoders:
        deeper = created
        for level in range(levels - 1, 0, -1):
            passed = {}
            for row in range(1, level + 1):
                flat, solid = created[row, level]
                skip = abs(flat - solid)
                below = deeper[row, level + 1][0], deeper[row + 1, level + 1][1]
                raised = abs(up(below[0], skip) - up(below[1], skip))
                x = torch.cat([skip, raised], 1) if network.skips else raised
                passed[row, level] = decoder.nodes[f"row{row}level{level}"](x)
            deeper = passed
        answers.append(sum(deeper[1, 1]))
    first, second = answers
    return torch.cat([network.head(first)[:, :3], network.head(second)[:, 3:]], 1)


@torch.no_grad()
@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize("depth", [4, 9, 19])
def test_it_computes_what_the_mesh_says(depth, skips):
    network = lively(12, normalisation="instance", skips=skips)
    image = torch.randn(1, 1, depth, 32, 48)
    torch.testing.assert_close(network(image), by_the_book(network, image), rtol=1e-3, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("depth", [1, 3, 7, 8, 9, 17, 20, 33])
def test_tiles_of_any_depth_are_answered_voxel_by_voxel(depth):
    network = lively(sections=40)
    assert network(torch.randn(1, 1, depth, 32, 16)).shape == (1, 4, depth, 32, 16)


@pytest.mark.parametrize(
    ("sections", "times"), [(1, 0), (7, 0), (8, 1), (15, 1), (16, 2), (20, 2), (32, 3), (200, 4)]
)
def test_z_is_halved_while_eight_sections_are_left(sections, times):
    assert halvings(sections, 4) == times
    network = MNet(widths=TINY, sections=sections)
    assert network.total_stride == (2**times, 16, 16)
    rows = network.eval().encoder(torch.randn(1, 1, sections, 32, 32))
    depths = [rows[row, 5][row > 1].shape[2] for row in range(1, 6)]
    wanted = [sections // 2 ** min(row, times) for row in range(5)]
    assert depths == wanted


@torch.no_grad()
@pytest.mark.parametrize(
    "arguments",
    [
        {"widths": (1, 1), "sections": 8},
        {"widths": (1, 2), "sections": 1},
        {"widths": (2, 1, 1), "sections": 8},
        {"widths": (1, 1, 1), "sections": 16, "skips": False},
    ],
)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_change_reaches_exactly_as_far_as_the_receptive_field_says(arguments, axis):
    network = positive(MNet(out_channels=[1], normalisation="batch", **arguments))
    before, after = (sides[axis] for sides in network.receptive_field())
    stride = network.total_stride[axis]
    room = max(before, after) // stride + 2
    shape = list(network.total_stride)
    shape[axis] = (2 * room + 1) * stride
    seen = []
    for phase in range(stride):  # where the input changes, and what of the output with it
        at = room * stride + phase
        image = torch.zeros(1, 1, *shape, dtype=torch.double)
        image.select(2 + axis, at).fill_(1)
        moved = network(image) != network(torch.zeros_like(image))
        where = moved[0, 0].movedim(axis, 0).flatten(1).any(1).nonzero().flatten()
        first, last = int(where.min()), int(where.max())
        assert first > 0  # or the image would be too small to measure
        assert last < shape[axis] - 1
        seen.append((last - at, at - first))
    assert (max(a for a, _ in seen), max(b for _, b in seen)) == (before, after)


def positive(network):
    """The network in float64, with weights that let everything through and no two streams alike."""
    torch.manual_seed(3)
    network = network.double().eval()
    with torch.no_grad():
        for name, p in network.named_parameters():
            p.copy_(
                torch.rand(p.shape) / p[0].numel() + 0.1 if p.dim() == 5 else torch.ones(p.shape)
            )
            if name.endswith("bias"):
                p.zero_()
    return network


@torch.no_grad()
def test_shifted_by_the_total_stride_an_image_gives_the_shifted_output():
    network = lively(widths=(2, 3, 2), sections=8)
    assert network.total_stride == (2, 4, 4)
    (z, y, x), _ = network.receptive_field()
    image = torch.randn(1, 1, 2 * z + 8, 2 * y + 12, 2 * x + 12)
    image = image[..., : image.shape[-2] // 4 * 4, : image.shape[-1] // 4 * 4]
    whole, part = network(image), network(image[..., 2:, 4:, 4:])
    inner = (..., slice(z, -z), slice(y, -y), slice(x, -x))
    shifted = whole[..., 2:, 4:, 4:][inner]
    assert shifted.numel() > 0
    torch.testing.assert_close(shifted, part[inner])


def test_with_instance_normalisation_a_voxel_sees_all_of_its_tile():
    torch.manual_seed(4)
    network = MNet(widths=(2, 2)).eval()
    assert network.receptive_field() == ((FAR,) * 3, (FAR,) * 3)
    image = torch.randn(1, 1, 16, 64, 64)
    other = image.clone()
    other[..., -1, -1] += 5
    with torch.no_grad():
        assert network(image)[0, 0, 0, 0, 0] != network(other)[0, 0, 0, 0, 0]


def test_instances_are_normalised_as_torch_does():
    torch.manual_seed(9)
    x = torch.randn(3, 4, 2, 5, 6) * 3 + 1
    ours, theirs = InstanceNorm(4), nn.InstanceNorm3d(4, affine=True)
    with torch.no_grad():
        ours.weight.normal_()
        ours.bias.normal_()
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.eval()(x), theirs(x))


@torch.no_grad()
@pytest.mark.parametrize("channels", [[0, 1, 2, 3], [3], [2, 0], [3, 0, 3, 1], [1]])
def test_channels_that_are_kept_answer_as_before(channels):
    network, image = lively(5), torch.randn(1, 1, 8, 32, 32)
    wanted = network(image)[:, channels]
    network.keep(channels)
    torch.testing.assert_close(network(image), wanted)


@torch.no_grad()
def test_a_decoder_that_is_not_wanted_is_not_computed():
    network = lively(6)
    network.keep([3])
    network.decoders[0] = None
    assert network(torch.randn(1, 1, 8, 16, 16)).shape == (1, 1, 8, 16, 16)


def test_at_work_it_is_asked_for_the_channels_that_are_wanted(tmp_path):
    printed = described(
        {"out_channels": [3, 1], "widths": list(TINY), "normalisation": "batch"},
        input_tile=(12, 64, 64),
        output_tile=(4, 32, 32),
    )
    network, image = lively(10), torch.randn(1, 1, 12, 64, 64)
    with torch.no_grad():
        wanted = network(image).sigmoid()[:, [3, 0]]
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, network.state_dict(), printed)
    at_work = Inference(load_checkpoint(path)[0], printed, [3, 0], "cpu", "fp32")
    assert at_work.network.head.out_channels == 2  # the others are not computed
    created = at_work(image[:, 0].numpy())
    torch.testing.assert_close(torch.from_numpy(created), wanted, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_folded_it_says_the_same_without_normalising():
    network, image = lively(7), torch.randn(1, 1, 8, 32, 32)
    wanted = network(image)
    fold_batchnorm(network)
    assert not any(isinstance(module, nn.BatchNorm3d) for module in network.modules())
    torch.testing.assert_close(network(image), wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("normalisation", "share"), [("instance", 0.3), ("batch", 0.1)])
def test_a_layout_in_memory_and_bfloat16_change_the_answer_by_rounding_only(normalisation, share):
    network, image = (
        lively(8, widths=NARROW, normalisation=normalisation),
        torch.randn(1, 1, 8, 32, 32),
    )
    wanted = network(image)
    assert torch.equal(network(image), wanted)
    network.to(memory_format=torch.channels_last_3d)
    shown = image.to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(network(shown), wanted, rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network(shown).float()
    network.to(torch.bfloat16)
    for rounded in (mixed, network(shown.bfloat16()).float()):
        assert 0 < float((rounded - wanted).std()) < share * float(wanted.std())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"widths": (4,)}, "at least two widths and one of out_channels"),
        ({"out_channels": ()}, "at least two widths and one of out_channels"),
        ({"widths": (4, 0)}, "must be positive"),
        ({"sections": 0}, "must be positive"),
        ({"normalisation": "group"}, "one of instance, batch; got 'group'"),
    ],
)
def test_arguments_that_describe_no_network_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        MNet(**arguments)


def test_sections_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match=r"y and x must be multiples of 16; got \(8, 24, 32\)"):
        MNet(widths=TINY)(torch.zeros(1, 1, 8, 24, 32))
