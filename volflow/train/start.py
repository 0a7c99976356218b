"""A training that begins with another checkpoint's weights."""

from __future__ import annotations

from safetensors.torch import load_file
from torch import Tensor, nn

from volflow.core.geometry import Triple
from volflow.core.header import Header
from volflow.core.network import find_network
from volflow.errors import PlanError

HEAD = "head."  # the last layer, whose rows are the channels


def begun_from(start: str | None, network: nn.Module, header: Header) -> nn.Module:
    """The network with a checkpoint's weights in place of its own, as far as that has them.

    All but the last layer has to be alike. Of the last layer a channel is taken over where the
    checkpoint has one that says the same: of a head of that name, the one of the same offset, or
    the one of the same place where it is no affinity. The others stay as they are: fresh.

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
        If there is no such checkpoint, or its network has another shape.
    """
    if start is None:
        return network
    try:
        found = find_network(start, None, None)
    except ValueError as error:
        raise PlanError(f"start: {error}") from error
    if found.path is None:
        raise PlanError(f"start: wanted a checkpoint of volflow; got '{start}'")
    stored, own = load_file(found.path), network.state_dict()
    unlike = [n for n, t in own.items() if not n.startswith(HEAD) and not _alike(t, stored.get(n))]
    unlike += [name for name in stored if name not in own]
    if unlike:
        raise PlanError(
            f"start: the network of '{start}' has another shape than the one to be trained (first "
            f"difference: '{unlike[0]}'); its arguments are {found.header.arguments}"
        )
    rows = [(here, there) for here, there in taken(header, found.header).items()]
    for name, tensor in own.items():
        if not name.startswith(HEAD):
            tensor.copy_(stored[name])
            continue
        for here, there in rows:
            tensor[here].copy_(stored[name][there])
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


def _alike(own: Tensor, stored: Tensor | None) -> bool:
    return stored is not None and stored.shape == own.shape
