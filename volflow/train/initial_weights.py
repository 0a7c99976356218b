"""A training that begins with another checkpoint's weights, or with a pretrained encoder."""

from __future__ import annotations

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from volflow.checkpoints.find import find_network
from volflow.checkpoints.header import Header, read_entries
from volflow.core.geometry import Triple
from volflow.errors import PlanError, StorageError

HEAD = "head."  # the last layer, whose rows are the channels
PRETRAINING = "pretraining"  # the key of what `volflow pretrain` says in its file


def begun_from(start: str | None, network: nn.Module, header: Header) -> nn.Module:
    """The network with a checkpoint's weights in place of its own, as far as that has them.

    All but the last layer has to be alike, or wider: the channels that a wider layer has more begin
    fresh, and what is taken over does not listen to them yet, so that the network begins by saying
    what the checkpoint's says. Of the last layer a channel is taken over where the checkpoint has
    one that says the same: of a head of that name, the one of the same offset, or the one of the
    same place where it is no affinity. The others stay as they are: fresh.

    Parameters
    ----------
    start : str or None
        Path of a checkpoint of volflow, or name of a shipped one; None: nothing is done.
    network : nn.Module
        One of ours, changed in place.
    header : Header
        Of the network.

    Raises
    ------
    PlanError
        If there is no such checkpoint, or its network has another shape or a wider layer.
    """
    if start is None:
        return network
    try:
        found = find_network(start, None, None)
    except ValueError as error:
        raise PlanError(f"start: {error}") from error
    if found.path is None:
        raise PlanError(f"start: expected a checkpoint of volflow; got '{start}'")
    stored, own = load_file(found.path), network.state_dict()
    unlike = [n for n, t in own.items() if not n.startswith(HEAD) and not _holds(t, stored.get(n))]
    unlike += [name for name in stored if name not in own]
    if unlike:
        raise PlanError(
            f"start: the network of '{start}' has another shape than the one to be trained and "
            f"does not fit into it (first difference: '{unlike[0]}'); its arguments are "
            f"{found.header.arguments}"
        )
    rows = [(here, there) for here, there in taken(header, found.header).items()]
    for name, tensor in own.items():
        if not name.startswith(HEAD):
            _put(tensor, stored[name])
            continue
        for here, there in rows:
            _put(tensor[here : here + 1], stored[name][there : there + 1])
    return network


def encoded_from(path: str | None, network: nn.Module) -> nn.Module:
    """The network with a pretrained encoder in place of its own; the rest stays fresh.

    Parameters
    ----------
    path : str or None
        What `volflow pretrain` wrote; None: nothing is done.
    network : nn.Module
        One of ours, changed in place.

    Raises
    ------
    PlanError
        If there is no such file, it is of no pretraining, or the network lacks one of its tensors
        or has it in another shape.
    """
    if path is None:
        return network
    try:
        read_entries(path)
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
        stored = load_file(path)
    except (StorageError, SafetensorError, OSError) as error:
        raise PlanError(f"start_encoder: {error}") from error
    if PRETRAINING not in told:
        raise PlanError(f"start_encoder: expected what `volflow pretrain` wrote; got '{path}'")
    own = network.state_dict()
    for name, tensor in stored.items():
        if name not in own or own[name].shape != tensor.shape:
            here = f"it has {tuple(own[name].shape)}" if name in own else "it has none"
            raise PlanError(
                f"start_encoder: '{path}' holds '{name}' of shape {tuple(tensor.shape)}, which the "
                f"network to be trained would have to have as well; {here}"
            )
        own[name].copy_(tensor)
    return network


def taken(header: Header, other: Header) -> dict[int, int]:
    """Which channel of a network is to start as which channel of another."""
    known = {meaning: channel for channel, meaning in enumerate(_meanings(other))}
    wanted = enumerate(_meanings(header))
    return {channel: known[meaning] for channel, meaning in wanted if meaning in known}


def _meanings(header: Header) -> list[tuple[str, int | Triple]]:
    found: list[tuple[str, int | Triple]] = []
    for name, (head, _) in header.named.items():
        found += [(name, what) for what in head.offsets or range(head.channels)]
    return found


def _holds(own: Tensor, stored: Tensor | None) -> bool:
    """Whether a tensor is like another one, or has more channels (axes 0 and 1)."""
    if stored is None or own.ndim != stored.ndim or own.shape[2:] != stored.shape[2:]:
        return False
    return all(mine >= theirs for mine, theirs in zip(own.shape, stored.shape, strict=True))


def _put(own: Tensor, stored: Tensor) -> None:
    """Write a tensor over the first channels of one that has as many or more.

    Rows that are taken over give no weight to inputs that are not.
    """
    if own.ndim < 2:
        (own[: len(stored)] if own.ndim else own).copy_(stored)
        return
    rows, columns = stored.shape[:2]
    own[:rows, columns:].zero_()
    own[:rows, :columns].copy_(stored)
