from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from volflow.checkpoints.section_header import SectionHeader
from volflow.errors import PlanError
from volflow.models.detector.quasidense import PRESETS
from volflow.models.iicats.follower import NetworkFollower, Window, load_follower
from volflow.models.iicats.network import IICats
from volflow.models.section_checkpoint import build_section_network, save_section_checkpoint
from volflow.track.follower import Remembered, Section

SIDE = (64, 96)


@pytest.fixture(scope="module")
def network() -> IICats:
    """A small network whose parts all have an effect."""
    torch.manual_seed(0)
    network = IICats(encoding=4, features=8, own_steps=2, offline_steps=(2, 1), memory=3).eval()
    for parameter in network.gates.mix.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return network


def sections(count: int = 4) -> list[Section]:
    rng = np.random.default_rng(1)

    def layer(channels: int) -> np.ndarray:
        return rng.integers(0, 256, (channels, *SIDE), np.uint8)

    return [
        Section(layer(1)[0], {"d": layer(3), "m": layer(1), "syn": layer(1)}) for _ in range(count)
    ]


def objects() -> list[Remembered]:
    """Three objects with different numbers of masks, in windows of different shapes."""
    rng = np.random.default_rng(2)
    windows = [((0, 0), (32, 32), 2), ((32, 32), (32, 64), 3), ((0, 64), (64, 32), 1)]
    return [
        Remembered(
            n + 1, origin, rng.integers(0, 256, (count, *side), np.uint8), np.arange(count, 0, -1)
        )
        for n, (origin, side, count) in enumerate(windows)
    ]


def after(follower: NetworkFollower, seen: list[Section]) -> list[bytes]:
    for section in seen:
        follower.see(section)
    return [mask.tobytes() for mask in follower.masks(objects())]


def test_batch_equals_one_by_one_in_any_order(network: IICats) -> None:
    follower = NetworkFollower(network)
    together = after(follower, sections())
    assert len(set(together)) == 3
    for n in (2, 0, 1):
        assert follower.masks([objects()[n]])[0].tobytes() == together[n]
    backwards = follower.masks(objects()[::-1])
    assert [mask.tobytes() for mask in backwards[::-1]] == together


def test_forgotten_and_seen_again_is_the_same(network: IICats) -> None:
    """As at the start of a part: the sections before it are read again."""
    follower = NetworkFollower(network)
    first = after(follower, sections())
    follower.forget()
    assert after(follower, sections()) == first
    assert after(NetworkFollower(network), sections()) == first


def test_masks_are_probabilities_in_the_window(network: IICats) -> None:
    follower = NetworkFollower(network)
    follower.see(sections()[0])
    follower.see(sections()[1])
    for mask, each in zip(follower.masks(objects()), objects(), strict=True):
        assert mask.dtype == np.float32
        assert mask.shape == each.masks.shape[1:]
        assert 0 < mask.min() < mask.max() < 1


@pytest.mark.parametrize("kind", ["d", "m", "syn"])
def test_types_have_an_effect_only_where_they_are_used(network: IICats, kind: str) -> None:
    """Left out by the follower or absent from the sections: the same bytes, and another result."""
    without = [
        Section(s.image, {k: x for k, x in s.offline.items() if k != kind}) for s in sections()
    ]
    types = [each for each in network.types if each != kind]
    fewer = NetworkFollower(network, types=types, affinity_input=kind != "d")
    assert after(fewer, sections()) == after(NetworkFollower(network), without)
    assert after(NetworkFollower(network), without) != after(NetworkFollower(network), sections())


def test_masks_older_than_the_sections_seen_are_left_out(network: IICats) -> None:
    """The first sections of a volume: an object may have masks of sections that were not seen."""
    follower = NetworkFollower(network)
    follower.see(sections()[0])
    assert all(np.isfinite(mask).all() for mask in follower.masks(objects()))


def test_sections_of_any_size_are_padded(network: IICats) -> None:
    follower = NetworkFollower(network)
    image = np.zeros((50, 70), np.uint8)
    follower.see(Section(image, {}))
    each = Remembered(1, (32, 64), np.zeros((1, 32, 32), np.uint8), np.array([1]))
    assert follower.masks([each])[0].shape == (32, 32)


def test_first_masks_of_boxes(network: IICats) -> None:
    follower = NetworkFollower(network)
    follower.see(sections()[0])
    box, other = (5, 40, 20, 60), (30, 10, 50, 20)
    masks = follower.first_masks([box, other])
    assert [mask.shape for mask in masks] == [SIDE, SIDE]
    assert (masks[0][:32, 32:64] > 0).all()
    assert masks[1].tobytes() == follower.first_masks([other])[0].tobytes()


def test_first_masks_have_the_shape_of_a_section_that_is_no_multiple_of_the_stride(
    network: IICats,
) -> None:
    follower, whole = NetworkFollower(network), sections()[0]
    shape = (SIDE[0] - 14, SIDE[1] - 3)
    offline = {kind: layer[:, : shape[0], : shape[1]] for kind, layer in whole.offline.items()}
    follower.see(Section(whole.image[: shape[0], : shape[1]], offline))
    (mask,) = follower.first_masks([(20, 30, *shape)])
    assert mask.shape == shape


def test_window_is_cut_with_zeros_beyond_the_section() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    window = Window((-32, 32), (64, 64), 16)
    expected = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [2, 3, 0, 0], [6, 7, 0, 0]])
    assert torch.equal(window.of_target(x)[0, 0], expected.float())


def test_windows_and_order_are_checked(network: IICats) -> None:
    follower = NetworkFollower(network)
    with pytest.raises(ValueError, match="expected a section that was seen"):
        follower.masks([])
    follower.see(sections()[0])
    odd = Remembered(7, (16, 0), np.zeros((1, 32, 32), np.uint8), np.array([1]))
    with pytest.raises(ValueError, match="object 7: expected a window on multiples of 32"):
        follower.masks([odd])
    with pytest.raises(ValueError, match="types: expected some of p, d, m, syn; got x"):
        NetworkFollower(network, types=["p", "x"])
    with pytest.raises(ValueError, match="nothing marks an object"):
        NetworkFollower(network, types=["d"], masks=False)


def test_follower_of_a_checkpoint(network: IICats, tmp_path: Path) -> None:
    """Stored and loaded: the same bytes; the checkpoint of a tracker is refused."""
    arguments = {"encoding": 4, "features": 8, "own_steps": 2, "offline_steps": [2, 1], "memory": 3}
    header = SectionHeader(network="iicats", arguments=arguments, voxel_size_nm=(30, 10, 10))
    save_section_checkpoint(tmp_path / "a.safetensors", network.state_dict(), header)
    follower = load_follower(tmp_path / "a.safetensors", (0, 255))
    assert after(follower, sections()) == after(NetworkFollower(network), sections())
    small = SectionHeader(
        network="quasidense", arguments=PRESETS["light"], voxel_size_nm=(30, 10, 10)
    )
    tensors = build_section_network(small).state_dict()
    save_section_checkpoint(tmp_path / "b.safetensors", tensors, small)
    with pytest.raises(PlanError, match="expected a network that follows objects, iicats; got qua"):
        load_follower(tmp_path / "b.safetensors", (0, 255))


def test_network_without_learner_follows_by_last_masks() -> None:
    torch.manual_seed(0)
    follower = NetworkFollower(IICats(few_shot=False).eval())
    assert follower.memory == 2
    assert len(set(after(follower, sections(2)))) == 3
    with pytest.raises(NotImplementedError, match="no box extractor"):
        follower.first_masks([(0, 0, 5, 5)])
