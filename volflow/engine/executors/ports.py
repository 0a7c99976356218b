"""Ports and network interfaces of this machine."""

from __future__ import annotations

import socket

import psutil

from volflow.errors import PlanError


def is_free(port: int, host: str = "") -> bool:
    """Whether one could listen on a port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen()  # two may bind, only one may listen
        except OSError:
            return False
    return True


def free_port(ports: tuple[int, int]) -> int:
    """The first port of a range that is free.

    Raises
    ------
    PlanError
        If none is.
    """
    for port in range(ports[0], ports[1] + 1):
        if is_free(port):
            return port
    raise PlanError(f"ports {ports[0]} to {ports[1]}: all taken on this machine")


def interfaces() -> list[str]:
    """Network interfaces of this machine that have an address."""
    families = (socket.AF_INET, socket.AF_INET6)
    return sorted(
        name
        for name, addresses in psutil.net_if_addrs().items()
        if any(address.family in families for address in addresses)
    )
