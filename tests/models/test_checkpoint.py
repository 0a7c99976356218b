"""Checkpoints: what is written is what is loaded, folded or not, and damage is named."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from volflow.checkpoints.header import KEY, Header, read_header
from volflow.errors import PlanError, StorageError
from volflow.models.checkpoint import build, fold_batchnorm, load_checkpoint, save_checkpoint

ARGUMENTS = {"out_channels": 3, "widths": [2, 3], "pools": [[2, 2, 2]]}
HEADER = Header(
    network="resunet3d",
    arguments=ARGUMENTS,
    out_channels=3,
    offsets=((-1, 0, 0), (0, -1, 0), (0, 0, -1)),
    voxel_size_nm=(10, 10, 10),
    receptive_field=(9, 9, 9),
    halo=(4, 4, 4),
    total_stride=(2, 2, 2),
    input_tile=(16, 16, 16),
    output_tile=(8, 8, 8),
    card="tiny.md",
)


def trained(seed: int = 0) -> nn.Module:
    """A network whose statistics are not those of a fresh one."""
    torch.manual_seed(seed)
    network = build(HEADER).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.3, 3)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return network


@pytest.fixture
def path(tmp_path):
    save_checkpoint(tmp_path / "tiny.safetensors", trained().state_dict(), HEADER)
    return tmp_path / "tiny.safetensors"


@torch.no_grad()
def test_a_folded_network_equals_the_unfolded_one():
    image = torch.randn(2, 1, 16, 16, 16)
    network = trained().double()
    wanted = network(image.double())
    folded = fold_batchnorm(network)
    assert not any(isinstance(module, nn.BatchNorm3d) for module in folded.modules())
    assert float(wanted.abs().max()) > 0.1
    torch.testing.assert_close(folded(image.double()), wanted, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_folding_keeps_the_bias_of_a_convolution_and_a_norm_without_parameters():
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2, affine=False)).double().eval()
    network[1].running_mean.normal_()
    network[1].running_var.uniform_(0.5, 2)
    image = torch.randn(1, 1, 5, 5, 5, dtype=torch.double)
    wanted = network(image)
    torch.testing.assert_close(fold_batchnorm(network)(image), wanted)


def test_a_network_in_training_mode_is_not_folded():
    with pytest.raises(ValueError, match="eval mode"):
        fold_batchnorm(trained().train())


@torch.no_grad()
def test_what_is_saved_is_what_is_loaded(path):
    network, header = load_checkpoint(path)
    image = torch.randn(1, 1, 16, 16, 16)
    torch.testing.assert_close(network(image), trained()(image))
    assert header == read_header(path)
    assert header.model_copy(update={"weights_sha256": ""}) == HEADER
    assert not network.training


def test_half_the_bytes_are_stored_for_half_precision(tmp_path):
    tensors = trained().state_dict()
    save_checkpoint(tmp_path / "half.safetensors", tensors, HEADER, torch.float16)
    stored = load_file(tmp_path / "half.safetensors")
    assert {t.dtype for t in stored.values() if t.is_floating_point()} == {torch.float16}
    network, _ = load_checkpoint(tmp_path / "half.safetensors")
    assert {t.dtype for t in network.parameters()} == {torch.float32}


def test_the_header_is_read_without_torch(path):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from volflow.checkpoints.header import read_header\n"
        f"print(read_header({str(path)!r}).halo)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(4, 4, 4)"


@pytest.mark.parametrize("remaining", [0, 5, 9, 40, -100, -1])
def test_a_file_that_was_cut_off_is_named(path, remaining):
    path.write_bytes(path.read_bytes()[:remaining])
    for read in (read_header, load_checkpoint):
        with pytest.raises(StorageError, match=r"tiny\.safetensors: .*cut off"):
            read(path)


def test_other_bytes_in_a_tensor_are_noticed(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(StorageError, match="damaged"):
        load_checkpoint(path)


def test_files_that_are_no_checkpoints_are_named(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_bytes(b"\x20\0\0\0\0\0\0\0" + b"these are words, and no tensors.")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, foreign)
    for path, words in (
        (tmp_path / "nowhere.safetensors", "cannot be read: No such file"),
        (text, "not a safetensors file"),
        (foreign, "without a volflow header"),
    ):
        with pytest.raises(StorageError, match=words):
            read_header(path)


def test_a_header_with_mistakes_names_them_all(tmp_path):
    wrong = {**HEADER.model_dump(mode="json"), "halo": [1, 2], "batch": 0, "batches": 1}
    path = tmp_path / "wrong.safetensors"
    save_file({"weight": torch.zeros(2)}, path, {KEY: json.dumps(wrong)})
    with pytest.raises(StorageError, match="invalid header") as caught:
        read_header(path)
    for name in ("halo", "batch:", "batches"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"halo": (2, 4, 4)}, "input_tile must be output_tile"),
        ({"total_stride": (3, 2, 2)}, "multiples of total_stride 3 along z"),
        ({"offsets": ((-1, 0, 0),)}, "3 output channels need as many offsets; got 1"),
        ({"normalisation": {"low": 0.9, "high": 0.1}}, "low must be below high"),
        ({"normalisation": {"high": 2}}, "percentiles must be in 0 to 1"),
        ({"network": "rm -rf"}, "String should match"),
    ],
)
def test_a_header_must_fit_together(changed, words):
    with pytest.raises(ValueError, match=words):
        Header.model_validate({**HEADER.model_dump(), **changed})


def test_a_file_may_not_choose_what_is_run(tmp_path):
    path = tmp_path / "evil.safetensors"
    printed = HEADER.model_copy(
        update={"network": "subprocess:Popen", "arguments": {"args": "true"}}
    )
    save_checkpoint(path, trained().state_dict(), printed)
    with pytest.raises(PlanError, match="a file may not choose the code to run"):
        load_checkpoint(path)


def test_a_network_the_user_declares_is_loaded_from_a_plain_file(tmp_path):
    path = tmp_path / "plain.safetensors"
    convolution = nn.Conv3d(1, 2, 3, padding=1)
    save_file(convolution.state_dict(), path)
    declared = HEADER.model_copy(
        update={
            "network": "torch.nn:Conv3d",
            "arguments": {"in_channels": 1, "out_channels": 2, "kernel_size": 3, "padding": 1},
        }
    )
    network, header = load_checkpoint(path, declared)
    assert header is declared
    np.testing.assert_array_equal(network.weight.detach(), convolution.weight.detach())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"network": "nothing"}, r"no network 'nothing' \(known: resunet3d, mnet"),
        ({"network": "volflow.models.nothing:Net"}, "cannot be imported"),
        ({"network": "volflow.models.resunet3d:Nothing"}, "cannot be imported"),
        ({"network": "volflow.models.checkpoint:Header"}, "is not a torch.nn.Module"),
        ({"arguments": {"width": 3}}, "unexpected keyword argument 'width'"),
        ({"arguments": {"depth": 0}}, "must be positive"),
    ],
)
def test_networks_that_cannot_be_made_are_named(changed, words):
    with pytest.raises(PlanError, match=words):
        build(HEADER.model_copy(update=changed))


def test_a_checkpoint_may_name_its_network_as_they_once_did(path):
    entries = read_header(path).model_dump(mode="json")
    entries["network"] = "volflow.models.resunet3d:ResUNet3D"
    save_file(load_file(path), path, {KEY: json.dumps(entries)})
    assert load_checkpoint(path)[1].network == "resunet3d"


def test_the_weights_of_another_network_are_refused(path):
    other = read_header(path).model_copy(update={"arguments": {**ARGUMENTS, "widths": [4, 3]}})
    save_file(load_file(path), path, {KEY: other.model_dump_json()})
    with pytest.raises(StorageError, match=r"not the weights of resunet3d"):
        load_checkpoint(path)


def test_only_the_channels_that_are_kept_are_computed():
    network, image = trained(), torch.randn(1, 1, 16, 16, 16)
    whole = network(image)
    network.keep([2, 0])
    assert network.head.weight.shape == (2, 2, 1, 1, 1)
    torch.testing.assert_close(network(image), whole[:, [2, 0]], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        (
            {"heads": {"a": {"channels": 2}}},
            "heads have 2 channels in all; expected out_channels, 3",
        ),
        ({"heads": {"a b": {"channels": 3}}}, "should match pattern"),
        (
            {"heads": {"a": {"channels": 3}}, "sigmoid": False},
            "each has its own offsets and sigmoid",
        ),
        ({"heads": {"a": {"channels": 3, "odd": ["z"]}}}, "3 output channels need as many odd"),
        ({"heads": {"a": {"channels": 3, "range": [1, 0]}}}, "range must ascend"),
        ({"offsets": [[-1, 0, 0]]}, "3 output channels need as many offsets; got 1"),
    ],
)
def test_heads_that_do_not_fit_are_refused(changes, reported):
    printed = HEADER.model_dump() | {"offsets": []} | changes
    with pytest.raises(ValueError, match=reported):
        Header.model_validate(printed)
