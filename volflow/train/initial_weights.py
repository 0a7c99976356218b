"""Initial weights of a training: another checkpoint's, or those of a pretrained encoder."""

from __future__ import annotations

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from volflow.checkpoints.find import find_network
from volflow.checkpoints.header import Header
from volflow.checkpoints.safetensors_file import read_metadata
from volflow.core.geometry import Triple
from volflow.errors import PlanError, StorageError

HEAD = "head."  # prefix of the last layer's tensors, whose rows are the channels
PRETRAINING = "pretraining"  # metadata key of files written by `volflow pretrain`


def load_initial_weights(start: str | None, network: nn.Module, header: Header) -> nn.Module:
    """Copy a checkpoint's weights into a network, as far as the two have the same channels.

    All layers but the last must have the shape of the checkpoint's, or be wider. Additional
    channels of a wider layer keep their fresh weights, and copied channels give zero weight to
    additional inputs, so that the network starts out predicting what the checkpoint predicts. Of
    the last layer, a channel is copied where the checkpoint has one of the same meaning: in the
    head of the same name, the affinity of the same offset, or else the channel of the same
    position. The other channels keep their fresh weights.

    Parameters
    ----------
    start : str or None
        Path of a volflow checkpoint, or name of a bundled network; None: nothing is copied.
    network : nn.Module
        One of ours, changed in place.
    header : Header
        The header of the network.

    Raises
    ------
    PlanError
        If there is no such checkpoint, or its network has another shape or a wider layer.
    """
    if start is None:
        return network
    try:
        checkpoint = find_network(start, None, None)
    except ValueError as error:
        raise PlanError(f"start: {error}") from error
    if checkpoint.path is None:
        raise PlanError(f"start: expected a checkpoint of volflow; got '{start}'")
    stored, own = load_file(checkpoint.path), network.state_dict()
    unlike = [
        name
        for name, tensor in own.items()
        if not name.startswith(HEAD) and not _fits_into(stored.get(name), tensor)
    ]
    unlike += [name for name in stored if name not in own]
    if unlike:
        raise PlanError(
            f"start: the network of '{start}' has another shape than the one to be trained and "
            f"does not fit into it (first difference: '{unlike[0]}'); its arguments are "
            f"{checkpoint.header.arguments}"
        )
    rows = channel_map(header, checkpoint.header)
    for name, tensor in own.items():
        if not name.startswith(HEAD):
            _copy_first_channels(stored[name], tensor)
            continue
        for here, there in rows.items():
            _copy_first_channels(stored[name][there : there + 1], tensor[here : here + 1])
    return network


def load_encoder(path: str | None, network: nn.Module) -> nn.Module:
    """Copy a pretrained encoder into a network; the rest keeps its fresh weights.

    Parameters
    ----------
    path : str or None
        A file written by `volflow pretrain`; None: nothing is copied.
    network : nn.Module
        One of ours, changed in place.

    Raises
    ------
    PlanError
        If there is no such file, it was not written by `volflow pretrain`, or the network lacks
        one of its tensors or has it in another shape.
    """
    if path is None:
        return network
    try:
        metadata = read_metadata(path)
        stored = load_file(path)
    except (StorageError, SafetensorError, OSError) as error:
        raise PlanError(f"start_encoder: {error}") from error
    if PRETRAINING not in metadata:
        raise PlanError(
            f"start_encoder: expected a file written by `volflow pretrain`; got '{path}'"
        )
    own = network.state_dict()
    for name, tensor in stored.items():
        if name not in own or own[name].shape != tensor.shape:
            shape = tuple(own[name].shape) if name in own else "no such tensor"
            raise PlanError(
                f"start_encoder: '{path}' does not fit the network to be trained; expected "
                f"'{name}' of shape {tuple(tensor.shape)}, got {shape}"
            )
        own[name].copy_(tensor)
    return network


def channel_map(header: Header, other: Header) -> dict[int, int]:
    """The channels of a network that another one has too, each with its number in the other."""
    known = {meaning: channel for channel, meaning in enumerate(_meanings(other))}
    own = enumerate(_meanings(header))
    return {channel: known[meaning] for channel, meaning in own if meaning in known}


def _meanings(header: Header) -> list[tuple[str, int | Triple]]:
    """The head of each channel, with its offset or its position in the head."""
    return [
        (name, meaning)
        for name, (head, _) in header.named.items()
        for meaning in head.offsets or range(head.channels)
    ]


def _fits_into(stored: Tensor | None, own: Tensor) -> bool:
    """Whether a stored tensor has at most the channels (axes 0 and 1) of the network's own."""
    if stored is None or own.ndim != stored.ndim or own.shape[2:] != stored.shape[2:]:
        return False
    return all(mine >= theirs for mine, theirs in zip(own.shape, stored.shape, strict=True))


def _copy_first_channels(stored: Tensor, own: Tensor) -> None:
    """Copy a tensor over the first channels of one that has as many or more.

    Copied rows give no weight to the additional inputs.
    """
    if own.ndim < 2:
        (own[: len(stored)] if own.ndim else own).copy_(stored)
        return
    rows, columns = stored.shape[:2]
    own[:rows, columns:].zero_()
    own[:rows, :columns].copy_(stored)
