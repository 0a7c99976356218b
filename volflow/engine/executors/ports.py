"""Ports and network interfaces of this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import psutil

from volflow.config.problems import closest
from volflow.engine.executors.profile import Profile
from volflow.errors import PlanError

PORTS_CHECKED = 200  # of a long range


def is_free(port: int, host: str = "") -> bool:
    """Whether a process could listen on a port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen()  # two sockets may bind a port, but only one may listen
        except OSError:
            return False
    return True


def free_port(ports: tuple[int, int]) -> int:
    """First free port of an inclusive range.

    Raises
    ------
    PlanError
        If none is free.
    """
    first, last = ports
    for port in range(first, last + 1):
        if is_free(port):
            return port
    raise PlanError(f"ports {first} to {last}: all taken on this machine")


def interfaces() -> list[str]:
    """Network interfaces of this machine that have an address."""
    families = (socket.AF_INET, socket.AF_INET6)
    return sorted(
        name
        for name, addresses in psutil.net_if_addrs().items()
        if any(address.family in families for address in addresses)
    )


def dashboard_problems(profile: Profile) -> Iterator[str]:
    """Problem of a profile whose dashboard's port is taken."""
    if profile.dashboard and not is_free(profile.dashboard, "127.0.0.1"):
        yield profile.problem(
            ("dashboard",),
            f"port {profile.dashboard} is taken on this machine; expected a free one",
        )


def port_range_problems(profile: Profile) -> Iterator[str]:
    """Problem of a profile whose range has fewer free ports than there are pools."""
    if not profile.ports:
        return
    first, last = profile.ports
    free = sum(is_free(port) for port in range(first, min(last, first + PORTS_CHECKED) + 1))
    needed = max(1, len(profile.pools))
    if free < needed:
        yield profile.problem(
            ("ports",),
            f"expected {needed} free, one for each pool; of {first} to {last} on this machine "
            f"{free} free, the others taken",
        )


def network_problems(profile: Profile) -> Iterator[str]:
    """Problems of the interface and the host name of a profile."""
    if profile.interface and profile.interface not in interfaces():
        yield profile.problem(
            ("interface",),
            f"there is no network interface '{profile.interface}' on this machine"
            f"{closest(profile.interface, interfaces())} (it has: {', '.join(interfaces())})",
        )
    if profile.host:
        try:
            address = socket.getaddrinfo(profile.host, None)[0][4][0]
            family = socket.AF_INET6 if ":" in str(address) else socket.AF_INET
            with socket.socket(family) as listener:
                listener.bind((address, 0))
        except OSError as error:
            yield profile.problem(
                ("host",), f"'{profile.host}' is no name or address of this machine ({error})"
            )
