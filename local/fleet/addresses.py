"""Loopback addresses for instances: each has one of its own, as each machine would."""

import errno
import ipaddress
import socket

from local.errors import LocalError

PORTS_TRIED = 32


class Addresses:
    """Hands out the lowest free address from `base` upwards, and takes addresses back; not thread-safe."""

    def __init__(self, *, base: str) -> None:
        try:
            self._base = ipaddress.IPv4Address(base)
        except ipaddress.AddressValueError as error:
            raise LocalError(f"base address {base!r} is not an IPv4 address; give one like 127.0.0.2") from error
        if not self._base.is_loopback:
            raise LocalError(f"base address {base} is not a loopback address; give one like 127.0.0.2")
        self._taken: set[str] = set()

    def take(self, *, port: int) -> tuple[str, int]:
        """A free address with `port`, or the next free port on it when something else listens there.

        Raises LocalError when this machine has no such address, or none of PORTS_TRIED ports is free on it.
        """
        address = next(
            str(candidate)
            for candidate in (self._base + offset for offset in range(len(self._taken) + 1))
            if str(candidate) not in self._taken
        )
        free = next((number for number in range(port, port + PORTS_TRIED) if _is_free(address, number)), None)
        if free is None:
            raise LocalError(
                f"ports {port} to {port + PORTS_TRIED - 1} of {address} are all taken; stop what listens there"
            )
        self._taken.add(address)
        return address, free

    def give_back(self, address: str) -> None:
        """Make `address` free again."""
        self._taken.discard(address)


def _is_free(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a server binds: old connections do not count
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            remedy = f"; on macOS: sudo ifconfig lo0 alias {address}" if error.errno == errno.EADDRNOTAVAIL else ""
            raise LocalError(f"an instance cannot listen on {address}:{port}: {error.strerror}{remedy}") from error
    return True
